"""The simulator's etcd, asked by the real client over simulated wires, does what the real one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.store.conformance import StoreConformance, Told, applied, create, settled
from twinstar.ports.clock import SystemClock
from twinstar.ports.randomness import SystemRandomness
from twinstar.simulation.etcd import Etcd
from twinstar.simulation.etcd_gateway import Gateways
from twinstar.simulation.freezing import Gate
from twinstar.simulation.memory_store import MemoryServer
from twinstar.simulation.network import VirtualNetwork
from twinstar.simulation.streams import VirtualTransports
from twinstar.simulation.wires import Wires
from twinstar.store.base import Applied, Conflict, Lost, Synced, Unknown
from twinstar.store.etcd.client import EtcdStore
from twinstar.store.etcd.endpoints import Patience

HOSTS = ("s1", "s2", "s3")
CLIENT = "client"


class VirtualEtcdBackend:
    def __init__(self) -> None:
        self.wires = Wires(SystemRandomness())
        self.etcd = Etcd(HOSTS, self.wires, SystemClock(), MemoryServer())
        self.gateways = Gateways(self.etcd)
        self._clients: list[EtcdStore] = []

    def open(self, cluster: str) -> EtcdStore:
        gate = Gate()
        network = VirtualNetwork(self.wires, gate, SystemClock(), VirtualTransports(self.wires, gate, CLIENT))
        patience = Patience(next_ms=50, deadline_ms=600, silence_ms=300)
        self._clients.append(EtcdStore(self.gateways.urls, cluster, SystemClock(), network, patience=patience))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.gateways.close()

    async def hang(self) -> None:
        self._gates(Gate.shut)

    async def resume(self) -> None:
        self._gates(Gate.open)
        await self.elected()

    async def crash(self) -> None:
        self.gateways.kill_all()

    async def restart(self) -> None:
        self.gateways.start_all()
        await self.elected()

    async def elected(self) -> None:
        async with asyncio.timeout(20):
            while not all(map(self.etcd.serves, self.etcd.servers)):  # noqa: ASYNC110 - the model has no such event
                await asyncio.sleep(0.01)

    def _gates(self, act: Callable[[Gate], None]) -> None:
        for server in self.etcd.servers:
            assert server.gate is not None
            act(server.gate)

    def cut(self, host: str, *others: str) -> None:
        for other in others:
            self.wires.cut |= {(host, other), (other, host)}

    def leader(self) -> str:
        assert self.etcd.leader is not None
        return self.etcd.leader.host


@pytest.fixture
async def backend() -> AsyncIterator[VirtualEtcdBackend]:
    etcd = VirtualEtcdBackend()
    await etcd.restart()
    yield etcd
    await etcd.close()


class TestVirtualEtcd(StoreConformance):
    pass


async def test_requests_wait_for_an_election(backend: VirtualEtcdBackend) -> None:
    store = backend.open("c")
    revision = await create(store, "k", b"0")
    backend.etcd.elect()
    assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
    await backend.elected()
    found = await settled(store, "k", revision)
    assert found is not None
    assert found.value in (b"0", b"1")


async def test_a_server_that_is_cut_off_from_the_others_answers_nothing(backend: VirtualEtcdBackend) -> None:
    store = backend.open("c")
    revision = await create(store, "k", b"0")
    alone = backend.leader()
    others = [host for host in HOSTS if host != alone]
    backend.cut(alone, *others)
    async with asyncio.timeout(20):
        outcome: object = Unknown("")
        while isinstance(outcome, Unknown):
            outcome = await store.compare_and_set("k", b"1", revision)
    assert isinstance(outcome, Applied | Conflict)
    assert backend.leader() in others
    backend.cut(CLIENT, *others)
    assert isinstance(await store.compare_and_set("k", b"2", 99), Unknown)


async def test_a_watch_outlives_a_leader_and_a_compaction(backend: VirtualEtcdBackend) -> None:
    store = backend.open("c")
    revision = await create(store, "k", b"0")
    async with Told(backend.open("c")) as told:
        await told.until_synced()
        gone = next(server for server in backend.etcd.servers if server.host == backend.leader())
        backend.gateways.kill(gone)
        backend.etcd.compact()
        await settled(store, "k", revision)
        found = await store.read("k")
        assert found is not None
        applied(await store.compare_and_set("k", b"1", found.revision))
        await told.until_stands({"k": b"1"})


async def test_nobody_serves_without_a_majority(backend: VirtualEtcdBackend) -> None:
    store = backend.open("c")
    async with Told(backend.open("c")) as told:
        await told.until_synced()
        for server in backend.etcd.servers[:2]:
            backend.gateways.kill(server)
        await told.until(lambda events: isinstance(events[-1], Lost))
        assert isinstance(await store.compare_and_set("k", b"1", 0), Unknown)
        await backend.restart()
        await told.until(lambda events: events[-1] == Synced() or len(events) > 3)
