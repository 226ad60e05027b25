"""The simulator's Kubernetes, asked by the real client over simulated wires, does what the real one does. On virtual
time: its waits cost nothing.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.store.conformance import StoreConformance, Told, applied, create, settled
from tests.store.kubernetes_facts import FACTS, Fact, Json
from tests.store.virtual import CLIENT, PROMISES, Story, VirtualBackend, play
from twinstar.model.address import Address
from twinstar.model.errors import StoreUnavailable
from twinstar.simulation.plan import StoreKind
from twinstar.simulation.stores.kubernetes_machines import NAMESPACE, KubernetesStorage
from twinstar.simulation.stores.memory import Doubts
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.store.base import Changed, Conflict, Lost, Unknown, Versioned, root
from twinstar.store.endpoints import Patience
from twinstar.store.http import HttpConnection, Request
from twinstar.store.kubernetes.records import Records


class Patient(VirtualBackend):
    """Whose clients wait as they do in production."""

    PATIENCE = Patience(deadline_ms=2_000, silence_ms=10_000)


class ApiAlone(VirtualBackend):
    """What hangs and dies are the API servers; their etcd goes on."""

    async def hang(self) -> None:
        for number in range(3):
            machines(self).freeze_api(number)

    async def crash(self) -> None:
        for number in range(3):
            machines(self).kill_api(number)


class EtcdAlone(VirtualBackend):
    """What hangs and dies is the etcd below them."""

    async def hang(self) -> None:
        for number in range(3):
            machines(self).freeze_etcd(number)

    async def crash(self) -> None:
        for number in range(3):
            machines(self).kill_etcd(number)


def machines(backend: VirtualBackend) -> KubernetesStorage:
    assert isinstance(backend.storage, KubernetesStorage)
    return backend.storage


def virtually(story: Story, seed: int = 1) -> None:
    play(StoreKind.KUBERNETES, story, seed, Patient)


@pytest.mark.parametrize("backend_of", [VirtualBackend, ApiAlone, EtcdAlone])
@pytest.mark.parametrize("promise", PROMISES)
def test_what_every_store_does(promise: str, backend_of: type[VirtualBackend]) -> None:
    play(StoreKind.KUBERNETES, getattr(StoreConformance(), promise), backend_of=backend_of)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_what_the_real_one_was_seen_to_do(fact: Fact) -> None:
    async def story(backend: VirtualBackend) -> None:
        gate = Gate()
        network = VirtualNetwork(backend.wires, gate, backend.clock, VirtualTransports(backend.wires, gate, CLIENT))
        address = Address(backend.storage.hosts[0], KubernetesStorage.PORT)
        connection = HttpConnection(*await network.dial(address), host=str(address))

        async def ask(method: str, path: str, document: Json | None) -> tuple[int, Json]:
            body = None if document is None else json.dumps(document).encode()
            answer = await connection.ask(Request(method, path, [], body))
            try:
                return answer.status, dict(json.loads(answer.body))
            except ValueError:
                return answer.status, {"message": answer.body.decode()}

        await fact(ask, Records("facts", NAMESPACE))
        await connection.close()

    for seed in range(3):
        virtually(story, seed)


REGISTER = root("c") + "register"


def test_a_note_of_others_moves_the_revision_alone() -> None:
    """Who expects the old revision is refused, and learns the new one, at which the value is the same."""

    async def story(backend: VirtualBackend) -> None:
        reached: list[str] = []
        backend.storage.reached = reached.append
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        async with Told(store) as told:
            await told.until_synced()
            machines(backend).note(REGISTER)
            await told.until(lambda events: isinstance(events[-1], Changed))
        outcome = await store.compare_and_set("register", b"1", revision)
        assert isinstance(outcome, Conflict)
        assert outcome.current is not None
        assert outcome.current.value == b"0"
        assert outcome.current.revision > revision
        assert applied(await store.compare_and_set("register", b"1", outcome.current.revision))
        assert reached == ["a note beside the register", "refused over a note"]

    virtually(story)


def test_a_cache_may_be_old_and_the_client_does_not_ask_it() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        await backend.clock.sleep_ms(1_000)
        for number in range(3):
            machines(backend).lag(number, 1_500)
        newest = applied(await store.compare_and_set("register", b"1", revision))
        (old,), as_of = await machines(backend).kubernetes.servers[0].list(Records("c", NAMESPACE).collection, 0)
        assert (old.revision, as_of < newest) == (revision, True)
        assert await store.read_all("") == [Versioned("register", b"1", newest)]

    for seed in range(4):  # some list from etcd, some from a cache that they know to be fresh
        virtually(story, seed)


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_watch_outlives_a_restart_of_its_server(forgotten: bool) -> None:
    """A restarted server has no history: who comes from another one begins with a listing."""

    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            for number in range(1, 6):
                for server in range(3):
                    machines(backend).restart_api(server)
                if forgotten:
                    backend.storage.compact()
                await backend.elected()
                found = await settled(store, "register", revision)
                assert found is not None
                revision = applied(await store.compare_and_set("register", str(number).encode(), found.revision))
                await told.until_stands({"register": str(number).encode()})

    virtually(story)


def test_a_watch_that_the_server_ends_in_good_order_is_no_loss_of_contact() -> None:
    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        async with Told(backend.open("c")) as told:
            await told.until_synced()
            for number in range(300):
                await backend.clock.sleep_ms(2_000)
                revision = applied(await store.compare_and_set("register", str(number).encode(), revision))
            await told.until_stands({"register": b"299"})
            assert not any(isinstance(event, Lost) for event in told.events)

    virtually(story)


def test_without_etcds_majority_nobody_is_answered_and_what_was_asked_may_be_made_later() -> None:
    made = set[bytes]()

    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        for number in range(2):
            machines(backend).freeze_etcd(number)
        outcome = await store.compare_and_set("register", b"1", revision)
        assert isinstance(outcome, Unknown)
        with pytest.raises(StoreUnavailable):
            await store.read_all("")
        await backend.resume()
        await backend.clock.sleep_ms(100)
        found = await settled(store, "register", revision)
        assert found is not None
        made.add(found.value)

    for seed in range(12):
        virtually(story, seed)
    assert made == {b"0", b"1"}


@pytest.mark.parametrize(
    "doubts", [Doubts(lose_request=1.0), Doubts(lose_answer=1.0), Doubts(late_request=1.0)], ids=str
)
def test_an_outcome_is_known_or_unknown_and_never_wrong(doubts: Doubts) -> None:
    """Whatever the server says instead of an answer: 504, 500, 429, 409 over nothing, or that it is gone."""
    seen = set[tuple[bool, bool]]()

    async def story(backend: VirtualBackend) -> None:
        store, other = backend.open("c"), backend.open("c")
        revision = await create(store, "register", b"0")
        mine = machines(backend).doubts_of(CLIENT)
        mine.lose_request, mine.lose_answer = doubts.lose_request, doubts.lose_answer
        mine.late_request = doubts.late_request
        outcome = await store.compare_and_set("register", b"1", revision)
        mine.end()
        before = await other.read("register")
        await backend.clock.sleep_ms(5_000)
        after = await other.read("register")
        assert before is not None
        assert after is not None
        assert isinstance(outcome, Unknown)
        seen.add((before.value == b"1", after.value == b"1"))

    for seed in range(8):
        virtually(story, seed)
    assert seen == {(bool(doubts.lose_answer), bool(doubts.lose_answer or doubts.late_request))}


def test_of_three_servers_one_that_is_dead_or_stands_still_is_got_around() -> None:
    """The balancer finds that out in a while; then every request is answered at once."""

    async def story(backend: VirtualBackend) -> None:
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        for number, fail in enumerate((backend.storage.kill, backend.storage.freeze)):
            fail(number)
            await backend.clock.sleep_ms(6_000)
            found = await settled(store, "register", revision)
            assert found is not None
            revision = found.revision
            for _ in range(20):
                revision = applied(await store.compare_and_set("register", b"1", revision))
            backend.storage.start()
            await backend.resume()

    for seed in range(3):
        virtually(story, seed)


def test_an_api_server_that_says_that_it_cannot_is_left_for_another() -> None:
    """Its connection is whole, and its etcd hangs: who stayed there would be told so for ever."""

    async def story(backend: VirtualBackend) -> None:
        machines(backend).kubernetes.balancer_asks = False
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        for number in range(3):
            machines(backend).freeze_etcd(number)
            async with asyncio.timeout(60):
                while isinstance(await store.compare_and_set("register", b"1", revision), Unknown):
                    pass
            await backend.resume()
            found = await store.read("register")
            assert found is not None
            revision = found.revision

    for seed in range(3):
        virtually(story, seed)


def test_a_watch_that_is_stuck_is_noticed_when_an_answer_tells_more() -> None:
    """The etcd of the API server that it is at hangs. That is silence as of a store in which nothing happens."""

    async def story(backend: VirtualBackend) -> None:
        machines(backend).kubernetes.balancer_asks = True
        store = backend.open("c")
        revision = await create(store, "register", b"0")
        async with Told(store) as told:
            await told.until_synced()
            machines(backend).freeze_etcd(0)
            await backend.clock.sleep_ms(6_000)  # the balancer has noticed
            found = await settled(store, "register", revision)
            assert found is not None
            applied(await store.compare_and_set("register", b"1", found.revision))
            async with asyncio.timeout(1):
                await told.until_stands({"register": b"1"})

    for seed in range(6):
        virtually(story, seed)
