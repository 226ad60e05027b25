"""What an agent looks at before a register moves to another store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from twinstar.agent.migrating import Migration, leads_quietly
from twinstar.api.control import Outcome
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.model.register import KEY, Durability, Phase, Register, Switchover
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.store.base import ABSENT, Store
from twinstar.store.moving.papers import mark_in
from twinstar.store.moving.places import Places
from twinstar.store.moving.store import MovingStore

LED = Register(2, Phase.LEADING, "n1", frozenset({"n1", "n2"}), 1, Durability.QUORUM, "n1:0")


class Bench:
    def __init__(self, loop: VirtualLoop) -> None:
        self._clock, self._randomness = VirtualClock(loop), SeededRandomness(1)
        self.old, self.new = (
            MemoryStore(MemoryServer(), "c", self._clock, self._randomness, deadline_ms=100) for _ in range(2)
        )
        self.moving = MovingStore(Places(self.old, self.new, KEY, "etcd"), self._clock)
        self.answer = Outcome(True, "n2 reaches etcd.", {"to": "etcd"})
        self.asked: list[tuple[str, str]] = []

    def of(self, store: Store) -> Migration:
        async def forward(member: str, command: str, _: dict[str, Any]) -> Outcome:
            self.asked.append((member, command))
            if not self.answer.message:
                raise EnvironmentTrouble("no answer")
            return self.answer

        return Migration(store, "n1", ("n1", "n2"), forward, self._randomness, leads_quietly)


def told(story: Callable[[Bench], Awaitable[None]], first: Register = LED) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        bench = Bench(loop)
        await bench.old.compare_and_set(KEY, first.encode(), ABSENT)
        await story(bench)

    run_virtually(main(), loop)


def test_an_agent_without_a_next_store_would_stay_behind() -> None:
    async def story(bench: Bench) -> None:
        migration = bench.of(bench.old)
        for outcome in (await migration.ready(), await migration.migrate(dry_run=False)):
            assert not outcome.ok
            assert "restart its agent" in outcome.message
        assert bench.asked == []

    told(story)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Outcome(False, "n2 has no `next_store`."), "n2 has no"),
        (Outcome(True, "n2 reaches zookeeper.", {"to": "zookeeper"}), "same twinstar.yaml"),
        (Outcome(False, ""), "cannot be asked"),
    ],
)
def test_nothing_moves_before_every_agent_would_go_along(answer: Outcome, words: str) -> None:
    async def story(bench: Bench) -> None:
        bench.answer = answer
        outcome = await bench.of(bench.moving).migrate(dry_run=False)
        assert not outcome.ok
        assert words in outcome.message
        assert await bench.new.read_all("") == []

    told(story)


def test_a_dry_run_changes_nothing_and_the_real_one_moves() -> None:
    async def story(bench: Bench) -> None:
        migration = bench.of(bench.moving)
        plan = await migration.migrate(dry_run=True)
        assert plan.ok
        assert len(plan.details["plan"]) == 3
        assert await bench.new.read_all("") == []
        done = await migration.migrate(dry_run=False)
        assert done.ok
        assert mark_in(await bench.old.read(KEY))
        there = await bench.new.read(KEY)
        assert there is not None
        assert Register.decode(there.value) == LED
        found = await bench.moving.read(KEY)
        assert found is not None
        assert found.value == there.value
        assert bench.asked == [("n2", "ready-to-migrate")] * 2

    told(story)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (LED.but(phase=Phase.ELECTING), "Nobody leads"),
        (LED.but(switchover=Switchover("n2", 1)), "handed over"),
        (LED.but(durability=Durability.ASYNC, lease_ms=1_000), "lease"),
    ],
)
def test_a_register_that_seals_or_leases_hang_on_stays(register: Register, words: str) -> None:
    async def story(bench: Bench) -> None:
        for dry_run in (True, False):
            with pytest.raises(UsageError, match=words):
                await bench.of(bench.moving).migrate(dry_run)
        assert await bench.new.read(KEY) is None

    told(story, register)
