"""The simulator's etcd, asked by the real client over simulated wires, does what the real one does."""

from __future__ import annotations

import asyncio

import pytest

from tests.store.conformance import Told, applied, create, settled
from tests.store.virtual import CLIENT, PROMISES, VirtualBackend, keeps, play
from twinstar.simulation.plan import StoreKind
from twinstar.store.base import Applied, Conflict, Lost, Synced, Unknown


@pytest.mark.parametrize("promise", PROMISES)
def test_what_every_store_does(promise: str) -> None:
    keeps(promise, StoreKind.ETCD)


def test_requests_wait_for_an_election() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        backend.storage.elect()
        assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
        await backend.elected()
        found = await settled(store, "k", revision)
        assert found is not None
        assert found.value in (b"0", b"1")

    play(StoreKind.ETCD, story)


def test_a_server_that_is_cut_off_from_the_others_answers_nothing() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        alone = backend.leader
        others = [host for host in backend.storage.hosts if host != alone]
        backend.cut(alone, *others)
        async with asyncio.timeout(20):
            outcome: object = Unknown("")
            while isinstance(outcome, Unknown):
                outcome = await store.compare_and_set("k", b"1", revision)
        assert isinstance(outcome, Applied | Conflict)
        assert backend.leader in others
        backend.cut(CLIENT, *others)
        assert isinstance(await store.compare_and_set("k", b"2", 99), Unknown)

    play(StoreKind.ETCD, story)


def test_a_watch_outlives_a_leader_and_a_compaction() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            backend.storage.kill(backend.number_of(backend.leader))
            backend.storage.compact()
            await settled(store, "k", revision)
            found = await store.read("k")
            assert found is not None
            applied(await store.compare_and_set("k", b"1", found.revision))
            await told.until_stands({"k": b"1"})

    play(StoreKind.ETCD, story)


def test_nobody_serves_without_a_majority() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            for number in range(2):
                backend.storage.kill(number)
            await told.until(lambda events: isinstance(events[-1], Lost))
            assert isinstance(await store.compare_and_set("k", b"1", 0), Unknown)
            await backend.restart()
            await told.until(lambda events: events[-1] == Synced() or len(events) > 3)

    play(StoreKind.ETCD, story)
