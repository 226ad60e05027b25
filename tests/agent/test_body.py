"""Effects on a database that goes on by itself when they are broken off: a model, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from twinstar.agent.body import Body
from twinstar.agent.ledger import REGISTER, Ledger
from twinstar.agent.memory import Memory
from twinstar.model.address import Address
from twinstar.model.effects import ChangeRegister, EngineEffect, PromoteFor, Reason, SealFor, Stop
from twinstar.model.engine import EngineStatus, Names
from twinstar.model.errors import ProtocolBreach
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register, Seal
from twinstar.simulation.database.disk import Record
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.simulation.witness import Witness
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.store.base import ABSENT

ALONE = Names(2, frozenset(), 0)
NAMED = Register(2, Phase.LEADING, "n1", frozenset({"n1"}), 0, Durability.QUORUM, "n1:0")


@dataclass
class Bench:
    """A standby that was named leader of epoch 2."""

    clock: VirtualClock
    engine: VirtualEngine
    memory: Memory
    ledger: Ledger
    body: Body

    async def know(self, register: Register) -> None:
        await self.ledger._store.compare_and_set(REGISTER, register.encode(), self.ledger.revision)
        await self.ledger.confirm()

    async def break_off(self, effect: EngineEffect, after_ms: float) -> None:
        task = asyncio.create_task(self.body.perform(effect))
        await self.clock.sleep_ms(after_ms)
        task.cancel()
        await asyncio.wait({task})


def on_a_bench(directory: Path, story: Callable[[Bench], Awaitable[None]], seed: int = 1) -> None:
    loop = VirtualLoop()
    clock, randomness = VirtualClock(loop), SeededRandomness(seed)

    async def main() -> None:
        fleet = Fleet(clock, randomness, lambda _a, _b: True, Witness())
        engine = VirtualEngine("n1", Address("10.0.0.1", 5432), fleet)
        engine.disk.exists = True
        engine.disk.append(Record(1))
        engine.disk.flush()
        memory = Memory(directory / "n1.json")
        ledger = Ledger(MemoryStore(MemoryServer(), "c", clock, randomness), "n1", clock, randomness, lambda: None)
        bench = Bench(clock, engine, memory, ledger, Body("n1", engine, memory, ledger, clock))
        assert ledger.revision == ABSENT
        await bench.know(NAMED)
        await engine.start()
        await bench.body.perform(SealFor(2, publish=False))
        await story(bench)

    run_virtually(main(), loop)


@pytest.mark.parametrize("after_ms", [1, 15, 30])
@pytest.mark.parametrize("seed", range(5))
def test_a_member_that_has_sealed_is_not_promoted_afterwards(tmp_path: Path, seed: int, after_ms: float) -> None:
    """Broken off by a later election, a promotion goes on in the database; it must have ended before the seal."""

    async def story(bench: Bench) -> None:
        await bench.break_off(PromoteFor(2, ALONE), after_ms)
        if (await bench.engine.inspect()).status is EngineStatus.PRIMARY:
            return  # it was too late to break it off
        await bench.know(NAMED.but(epoch=3, phase=Phase.ELECTING))
        await bench.body.perform(SealFor(3))
        sealed = bench.body.sealed
        await bench.clock.sleep_ms(2_000)
        assert not bench.engine.primary_run
        assert sealed is not None
        assert sealed.position == bench.engine.disk.position

    on_a_bench(tmp_path, story, seed)


def test_a_stop_that_was_broken_off_and_hangs_does_not_stand_in_the_way_of_a_seal(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.engine.hung = True
        await bench.break_off(Stop(), 50)
        assert (await bench.engine.inspect()).status is EngineStatus.STOPPING
        await bench.know(NAMED.but(epoch=3, phase=Phase.ELECTING))
        async with bench.clock.timeout_ms(10_000):
            await bench.body.perform(SealFor(3))
        assert set(bench.ledger.seals(3)) == {"n1"}

    on_a_bench(tmp_path, story)


def test_a_promotion_rests_on_the_register_as_it_is_now(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.know(NAMED.but(epoch=3, phase=Phase.ELECTING))
        with pytest.raises(ProtocolBreach):
            await bench.body.perform(PromoteFor(2, ALONE))
        assert not bench.engine.primary_run

    on_a_bench(tmp_path, story)


def test_a_promise_for_more_forbids_a_promotion(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.memory.promise(3)
        with pytest.raises(ProtocolBreach):
            await bench.body.perform(PromoteFor(2, ALONE))
        assert not bench.engine.primary_run

    on_a_bench(tmp_path, story)


def test_a_promotion_under_a_lease_needs_one_that_holds(tmp_path: Path) -> None:
    """Counted from before the change that gave it was sent."""

    async def story(bench: Bench) -> None:
        leased = NAMED.but(durability=Durability.ASYNC, lease_ms=2_000, renewals=1)
        assert await bench.ledger.change(ChangeRegister(leased, bench.ledger.revision, Reason.RENEWED))
        await bench.clock.sleep_ms(1_801)
        with pytest.raises(ProtocolBreach, match="lease"):
            await bench.body.perform(PromoteFor(2, ALONE))
        assert not bench.engine.primary_run
        again = leased.but(renewals=2)
        assert await bench.ledger.change(ChangeRegister(again, bench.ledger.revision, Reason.RENEWED))
        await bench.body.perform(PromoteFor(2, ALONE))
        assert bench.engine.primary_run

    on_a_bench(tmp_path, story)


def test_the_seal_that_is_published_is_the_one_that_counts(tmp_path: Path) -> None:
    """After a restart the position may be another one; the others choose by what stands in the store."""

    async def story(bench: Bench) -> None:
        first, second = (Seal("n1", 3, Position(1, lsn)) for lsn in (100, 90))
        await bench.ledger.publish(first)
        again = Ledger(bench.ledger._store, "n1", bench.clock, SeededRandomness(1), lambda: None)
        await again.publish(second)
        assert again.seals(3) == {"n1": first}

    on_a_bench(tmp_path, story)


def test_who_leads_is_remembered_before_it_leads(tmp_path: Path) -> None:
    """An agent killed in the middle of a promotion finds out afterwards whose database it is."""

    async def story(bench: Bench) -> None:
        await bench.break_off(PromoteFor(2, ALONE), 15)
        await bench.clock.sleep_ms(2_000)
        again = Body("n1", bench.engine, Memory(tmp_path / "n1.json"), bench.ledger, bench.clock)
        await again.observe()
        assert bench.engine.primary_run
        assert again.led == 2

    on_a_bench(tmp_path, story)


def test_a_promise_survives_and_never_goes_back(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "n1.json")
    memory.promise(5)
    memory.promise(3)
    assert Memory(tmp_path / "n1.json").now.promise == 5
