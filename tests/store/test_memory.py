"""The simulator's store does what the real ones do, and the faults it is made for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.store.conformance import StoreConformance, Told, create, settled
from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import SystemClock
from twinstar.ports.randomness import SystemRandomness
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.store.base import Applied, Conflict, Lost, Unknown


class MemoryBackend:
    def __init__(self) -> None:
        self.server = MemoryServer()
        self._clients: list[MemoryStore] = []

    def open(self, cluster: str) -> MemoryStore:
        self._clients.append(MemoryStore(self.server, cluster, SystemClock(), SystemRandomness(), deadline_ms=200))
        return self._clients[-1]

    def open_hasty(self, cluster: str) -> MemoryStore:
        """The same: it gives up at its faults alone, however busy the machine."""
        return self.open(cluster)

    async def hang(self) -> None:
        for client in self._clients:
            client.faults.cut_off = True

    async def resume(self) -> None:
        for client in self._clients:
            client.faults.cut_off = False

    async def crash(self) -> None:
        self.server.stop()

    async def restart(self) -> None:
        self.server.start()


@pytest.fixture
async def backend() -> AsyncIterator[MemoryBackend]:
    memory = MemoryBackend()
    yield memory
    await memory.server.close()


class TestMemory(StoreConformance):
    pass


async def test_a_lost_request_is_not_made_and_a_lost_answer_is(backend: MemoryBackend) -> None:
    store, other = backend.open("c"), backend.open("c")
    revision = await create(store, "k", b"0")
    store.faults.lose_request = 1.0
    assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
    found = await other.read("k")
    assert found is not None
    assert found.value == b"0"
    store.faults.lose_request, store.faults.lose_answer = 0.0, 1.0
    assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
    found = await other.read("k")
    assert found is not None
    assert found.value == b"1"


async def test_a_late_request_is_made_after_its_outcome_was_unknown(backend: MemoryBackend) -> None:
    store, other = backend.open("c"), backend.open("c")
    revision = await create(store, "k", b"0")
    store.faults.late_request, store.faults.late_ms = 1.0, (1_000, 1_000)
    assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
    before = await other.read("k")
    assert before is not None
    assert before.value == b"0"
    async with Told(other) as told:
        await told.until_stands({"k": b"1"})


async def test_a_late_request_does_nothing_once_the_doubt_is_settled(backend: MemoryBackend) -> None:
    store, other = backend.open("c"), backend.open("c")
    revision = await create(store, "k", b"0")
    store.faults.late_request, store.faults.late_ms = 1.0, (50, 50)
    assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
    found = await settled(other, "k", revision)
    await asyncio.sleep(0.1)
    assert await other.read("k") == found


async def test_one_client_is_cut_off_and_the_other_is_not(backend: MemoryBackend) -> None:
    store, other = backend.open("c"), backend.open("c")
    async with Told(store) as told:
        await told.until_synced()
        store.faults.cut_off = True
        with pytest.raises(StoreUnavailable):
            await store.read("k")
        assert isinstance(await other.compare_and_set("k", b"1", 0), Applied)
        await told.until(lambda events: isinstance(events[-1], Lost))
        store.faults.cut_off = False
        await told.until_stands({"k": b"1"})
    assert isinstance(await store.compare_and_set("k", b"2", 0), Conflict)


async def test_a_watch_that_breaks_all_the_time_still_ends_with_the_newest(backend: MemoryBackend) -> None:
    store = backend.open("c")
    store.faults.break_watch = 0.5
    async with Told(store) as told:
        revision = await create(store, "k", b"0")
        for number in range(1, 20):
            outcome = await store.compare_and_set("k", str(number).encode(), revision)
            assert isinstance(outcome, Applied)
            revision = outcome.revision
        await told.until_stands({"k": b"19"})
        assert any(isinstance(event, Lost) for event in told.events)
