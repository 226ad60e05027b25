"""The simulator's ZooKeeper, asked by the real client over simulated wires, does what the real one does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from tests.store.conformance import Told, applied, create, settled
from tests.store.virtual import CLIENT, PROMISES, VirtualBackend, keeps, play
from tests.store.zookeeper_facts import FACTS, Fact
from twinstar.model.address import Address
from twinstar.model.errors import StoreUnavailable
from twinstar.simulation.plan import StoreKind
from twinstar.simulation.stores.zookeeper_server import ZooKeeperStorage
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.virtual_time import VirtualLoop
from twinstar.store.base import Lost, Synced, Unknown
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.connection import Broken, Connection
from twinstar.store.zookeeper.wire import ANY_VERSION, Op
from twinstar.store.zookeeper.znodes import Znodes

ZNODES = Znodes("", "c", None)


@pytest.mark.parametrize("promise", PROMISES)
def test_what_every_store_does(promise: str) -> None:
    keeps(promise, StoreKind.ZOOKEEPER)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_what_the_real_one_was_seen_to_do(fact: Fact) -> None:
    async def story(backend: Backend) -> None:
        await fact(await backend.connected(backend.leader), "/fact")

    tell(story)


class Backend(VirtualBackend):
    def __init__(self, kind: StoreKind, loop: VirtualLoop, seed: int) -> None:
        super().__init__(kind, loop, seed)
        self._connections: list[Connection] = []

    async def connected(self, host: str, session_ms: int = 30_000) -> Connection:
        """A session of a test's own."""
        gate = Gate()
        network = VirtualNetwork(self.wires, gate, self.clock, VirtualTransports(self.wires, gate, CLIENT))
        connection = Connection(*await network.dial(Address(host, ZooKeeperStorage.PORT)), self.clock)
        self._connections.append(connection)
        await connection.begin(session_ms)
        return connection

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()
        await super().close()


def tell(story: Callable[[Backend], Awaitable[None]], seed: int = 1) -> None:
    async def told(backend: VirtualBackend) -> None:
        assert isinstance(backend, Backend)
        await story(backend)

    play(StoreKind.ZOOKEEPER, told, seed, Backend)


async def shown(connection: Connection) -> bytes:
    """What a server has at `k`, without anything before it."""
    return (await connection.send(Op.GET_DATA, wire.at(ZNODES.path_of("k")))).body.node().data


async def replaced(backend: Backend, old: str) -> None:
    async with asyncio.timeout(20):
        while backend.storage.majority.leader is None or backend.leader == old:  # noqa: ASYNC110 - no such event
            await asyncio.sleep(0.01)


def followers(backend: VirtualBackend) -> list[str]:
    return [host for host in backend.storage.hosts if host != backend.leader]


def test_a_server_that_lags_shows_what_was_and_a_read_of_ours_does_not() -> None:
    async def story(backend: Backend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        behind = await backend.connected(followers(backend)[0])
        await ZNODES.read(behind, "k")
        backend.storage.majority.servers[backend.number_of(followers(backend)[0])].lag_ms = 500.0
        applied(await store.compare_and_set("k", b"1", revision))
        assert await shown(behind) == b"0"
        found = await ZNODES.read(behind, "k")
        assert found is not None
        assert found.value == b"1"

    tell(story)


def test_who_led_and_was_replaced_answers_sync_alone_and_no_read_of_ours() -> None:
    async def story(backend: Backend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        old = backend.leader
        alone = await backend.connected(old)
        backend.storage.freeze(backend.number_of(old))
        await replaced(backend, old)
        async with asyncio.timeout(20):
            found = await settled(store, "k", revision)
            assert found is not None
            while isinstance(outcome := await store.compare_and_set("k", b"1", found.revision), Unknown):
                found = await settled(store, "k", found.revision)
                assert found is not None
        applied(outcome)
        synced, showing = alone.send(Op.SYNC, wire.text(ZNODES.path)), asyncio.create_task(shown(alone))
        reading = asyncio.create_task(ZNODES.read(alone, "k"))
        backend.storage.thaw()
        assert (await synced).code == wire.Code.OK
        assert await showing == b"0"
        with pytest.raises(Broken):
            await reading

    tell(story)


def test_when_the_leader_dies_every_connection_ends() -> None:
    async def story(backend: Backend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        connections = [await backend.connected(host) for host in backend.storage.hosts]
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            backend.storage.kill(backend.number_of(backend.leader))
            await told.until(lambda events: isinstance(events[-1], Lost))
            await asyncio.sleep(0.2)
            assert not any(connection.usable for connection in connections)
            assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
            await told.until_synced(times=2)
            await settled(store, "k", revision)

    tell(story)


def test_nobody_is_let_in_without_a_majority() -> None:
    async def story(backend: Backend) -> None:
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            for number in range(2):
                backend.storage.kill(number)
            await told.until(lambda events: isinstance(events[-1], Lost))
            with pytest.raises(Broken):
                await backend.connected(backend.storage.hosts[2])
            with pytest.raises(StoreUnavailable):
                await backend.open("c").read("k")
            await backend.restart()
            await told.until(lambda events: events[-1] == Synced())

    tell(story)


def test_a_session_of_which_nothing_is_heard_ends() -> None:
    async def story(backend: Backend) -> None:
        silent, heard = [await backend.connected(backend.leader, 1_000) for _ in range(2)]
        for _ in range(4):
            await asyncio.sleep(0.5)
            assert (await heard.send(Op.SYNC, wire.text("/"))).code == wire.Code.OK
        assert not silent.usable

    tell(story)


def test_a_change_without_a_majority_is_made_by_the_next_leader_or_never() -> None:
    """Those that are made are the first ones: what a session asked for is made in its order."""
    ends: set[int] = set()

    async def story(backend: Backend) -> None:
        store = backend.open("c")
        await create(store, "k", b"0")
        old = backend.leader
        connections = [await backend.connected(old) for _ in range(2)]
        backend.cut(old, *followers(backend))
        for number, connection in enumerate(connections):
            change = Op.SET_DATA, wire.set_data(ZNODES.path_of("k"), str(number + 1).encode(), ANY_VERSION)
            connection.send(Op.MULTI, wire.multi([change]))
            await asyncio.sleep(0.005)
        await replaced(backend, old)
        backend.wires.cut.clear()
        await backend.elected()
        found = await store.read("k")
        assert found is not None
        ends.add(int(found.value))

    for seed in range(12):
        tell(story, seed)
    assert ends == {0, 1, 2}


def test_what_members_ask_is_lost_or_late() -> None:
    async def story(backend: Backend) -> None:
        store = backend.open("c")
        revision = await create(store, "k", b"0")
        doubts = backend.storage.doubts_of(CLIENT)
        assert doubts is not None
        values: list[bytes] = []
        for chance in ("lose_request", "lose_answer", "late_request"):
            setattr(doubts, chance, 1.0)
            assert isinstance(await store.compare_and_set("k", chance.encode(), revision), Unknown)
            doubts.end()
            for wait_s in (0.0, 6.0):
                await asyncio.sleep(wait_s)
                found = await store.read("k")
                assert found is not None
                values.append(found.value)
                revision = found.revision
        assert values == [b"0", b"0", b"lose_answer", b"lose_answer", b"lose_answer", b"late_request"]

    tell(story)


def test_numbers_grow_over_leaders() -> None:
    async def story(backend: Backend) -> None:
        store, revisions = backend.open("c"), [0]
        for number in range(3):
            revisions.append(await create(store, f"k{number}", b""))
            backend.storage.elect()
            await backend.elected()
        assert all(after >> 32 > before >> 32 for before, after in pairwise(revisions[1:]))

    tell(story)
