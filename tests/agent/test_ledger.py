"""A register that is gone or that nobody can read, a store that hangs: what the agent's hold on the store says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from twinstar.agent.ledger import REGISTER, Ledger
from twinstar.model.effects import ChangeRegister, Reason
from twinstar.model.errors import PeerError
from twinstar.model.register import SCHEMA, Durability, Phase, Register
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.store.base import ABSENT

LED = Register(2, Phase.LEADING, "n1", frozenset({"n1", "n2"}), 1, Durability.QUORUM, "n1:0")
NEWER = json.dumps({**json.loads(LED.encode()), "schema": SCHEMA + 1, "epoch": 3}).encode()

Story = Callable[[Ledger, MemoryServer, MemoryStore, VirtualClock], Awaitable[None]]


def told(story: Story, first: bytes | None = LED.encode()) -> None:
    """A ledger that follows a store with `first` as its register."""
    loop = VirtualLoop()
    clock, randomness = VirtualClock(loop), SeededRandomness(1)

    async def main() -> None:
        server = MemoryServer()
        store = MemoryStore(server, "c", clock, randomness)
        if first is not None:
            await store.compare_and_set(REGISTER, first, ABSENT)
        ledger = Ledger(store, "n1", clock, randomness, lambda: None)
        tasks = [asyncio.ensure_future(each) for each in (ledger.follow(), ledger.look())]
        await clock.sleep_ms(1_000)
        await story(ledger, server, store, clock)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run_virtually(main(), loop)


def test_an_entry_that_is_gone_is_said_and_what_was_known_stays() -> None:
    async def story(ledger: Ledger, server: MemoryServer, store: MemoryStore, clock: VirtualClock) -> None:
        kept, revision = ledger.register, ledger.revision
        await store.delete(REGISTER)
        await clock.sleep_ms(1_000)
        assert "no entry" in ledger.misfit
        assert (ledger.register, ledger.revision) == (kept, revision)
        with pytest.raises(PeerError):
            await ledger.confirm()

    told(story)


@pytest.mark.parametrize("epochs", [-1, 0, 1])
def test_a_store_that_has_gone_back_is_believed_again_when_its_epoch_is_a_later_one(epochs: int) -> None:
    """Its revisions began anew; epochs only grow, so this one was adopted by hand."""

    async def story(ledger: Ledger, server: MemoryServer, store: MemoryStore, clock: VirtualClock) -> None:
        assert ledger.register is not None
        ledger.revision = 1_000_000
        changed = LED.but(epoch=LED.epoch + epochs, nonce="n2:adopted")
        found = await store.read(REGISTER)
        assert found is not None
        await store.compare_and_set(REGISTER, changed.encode(), found.revision)
        await clock.sleep_ms(3_000)
        assert ledger.register == (changed if epochs > 0 else LED)

    told(story)


@pytest.mark.parametrize("runs_already", [True, False])
def test_a_register_of_another_version_is_said_and_is_no_empty_store(runs_already: bool) -> None:
    async def story(ledger: Ledger, server: MemoryServer, store: MemoryStore, clock: VirtualClock) -> None:
        if runs_already:
            await store.compare_and_set(REGISTER, NEWER, ledger.revision)
            await clock.sleep_ms(1_000)
        assert f"version {SCHEMA + 1}" in ledger.misfit
        assert ledger.seen is runs_already
        assert (ledger.register is not None) is runs_already

    told(story, LED.encode() if runs_already else NEWER)


def test_a_register_that_can_be_read_again_is_taken_over() -> None:
    async def story(ledger: Ledger, server: MemoryServer, store: MemoryStore, clock: VirtualClock) -> None:
        found = await store.read(REGISTER)
        assert found is not None
        await store.compare_and_set(REGISTER, LED.encode(), found.revision)
        await clock.sleep_ms(1_000)
        assert ledger.misfit == ""
        assert ledger.seen
        assert ledger.register == LED

    told(story, NEWER)


def test_a_store_that_hangs_is_noticed_and_believed_again_once_it_answers() -> None:
    async def story(ledger: Ledger, server: MemoryServer, store: MemoryStore, clock: VirtualClock) -> None:
        server.stop()
        change = ChangeRegister(LED.but(paused=True), ledger.revision, Reason.PAUSE)
        changing = asyncio.ensure_future(ledger.change(change))
        await clock.sleep_ms(10_000)
        hung = ledger.ok
        server.start()
        await changing
        await clock.sleep_ms(5_000)
        assert (hung, ledger.ok, ledger.trouble) == (False, True, "")

    told(story)
