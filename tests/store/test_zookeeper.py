"""ZooKeeper: three real servers, failing one at a time and in the middle of a request."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from tests.store.conformance import StoreConformance, Told, applied, create, settled
from tests.store.failing import killed, opened, set_for_certain, stopped
from tests.store.proxy import Proxy
from tests.store.servers import ALERT, HASTY, PATIENT
from tests.store.zookeeper import Ensemble, SecuredEnsemble, client_tls, server_at, set_acl
from tests.store.zookeeper_facts import FACTS, Fact
from twinstar.model.errors import StoreUnavailable, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import Applied, Conflict, Lost, Synced, Unknown, Versioned
from twinstar.store.endpoints import Patience
from twinstar.store.race import Attempt
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.client import ZooKeeperStore
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Login
from twinstar.store.zookeeper.wire import Op, Reply
from twinstar.store.zookeeper.znodes import Znodes


@pytest.fixture
def backend(ensemble: Ensemble) -> SecuredEnsemble:
    return SecuredEnsemble(ensemble)


class TestZooKeeper(StoreConformance):
    pass


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
async def test_what_the_model_takes_it_to_do(ensemble: Ensemble, fact: Fact) -> None:
    server = server_at(ensemble.hosts[0])
    await fact(await server.connection(), f"/{fact.__name__}")
    await server.close()


def proxied(host: str) -> Proxy:
    return Proxy(f"tcp://{host}")


def host_of(proxy: Proxy) -> str:
    return proxy.url.removeprefix("tcp://")


class TestOneServerFails:
    @pytest.mark.parametrize("how", [killed, stopped])
    @pytest.mark.parametrize("leads", [True, False])
    async def test_changes_and_watches_go_on(
        self, ensemble: Ensemble, how: Callable[..., AsyncIterator[None]], leads: bool
    ) -> None:
        name = f"one-{how.__name__}-{leads}"
        leader = await ensemble.leader()
        member = leader if leads else next(each for each in ensemble.members if each is not leader)
        store, watching = ensemble.open_hasty(name), ensemble.open(name, patience=ALERT)
        async with opened(store, watching), Told(watching) as told:
            await create(store, "k", b"0")
            await told.until_stands({"k": b"0"})
            async with how(ensemble, member):  # type: ignore[attr-defined]
                await set_for_certain(store, "k", b"1")
                await told.until_stands({"k": b"1"})
                await watching.delete("k")
                await told.until_stands({})
            if not leads:  # one of two feeds lived; without a leader every server ends its connections
                assert not any(isinstance(event, Lost) for event in told.events)

    async def test_a_silent_server_leaves_no_doubt(self, ensemble: Ensemble) -> None:
        """The next one is tried as well; that the change was applied there excludes the first attempt."""
        async with proxied(ensemble.hosts[0]) as proxy:
            store = ensemble.open("silent", [host_of(proxy), ensemble.hosts[1]], ALERT)
            async with opened(store):
                revision = await create(store, "k", b"0")
                store._endpoints._first = store._endpoints.all[0]  # whichever of them was quicker
                proxy.requests_pass.clear()
                second = applied(await store.compare_and_set("k", b"1", revision))
                assert proxy.held.is_set()
                proxy.let_through()  # now the held request arrives
                await asyncio.sleep(0.2)
                assert await store.read("k") == Versioned("k", b"1", second)

    @pytest.mark.parametrize("cut", [True, False])
    async def test_an_answer_that_is_lost_is_a_doubt(self, ensemble: Ensemble, cut: bool) -> None:
        """Whether the connection breaks or is silent. The change was made, and settling finds it."""
        async with proxied(ensemble.hosts[0]) as proxy:
            store = ensemble.open(f"lost-answer-{cut}", [host_of(proxy)], ALERT if cut else HASTY)
            async with opened(store):
                revision = await create(store, "k", b"0")
                changing = asyncio.create_task(interposed(store, proxy, revision))
                await proxy.held.wait()
                if cut:
                    proxy.break_connections()
                assert isinstance(await changing, Unknown)
                proxy.let_through()
                found = await settled(store, "k", revision)
                assert found is not None
                assert found.value == b"1"

    async def test_a_refused_connection_is_no_doubt(self, ensemble: Ensemble) -> None:
        async with proxied(ensemble.hosts[0]) as gone:
            pass
        store = ensemble.open("refused", [host_of(gone), ensemble.hosts[1]], ALERT)
        async with opened(store):
            revision = await create(store, "k", b"0")
            assert await store.compare_and_set("k", b"1", 0) == Conflict(Versioned("k", b"0", revision))

    async def test_what_is_no_zookeeper_is_said(self) -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        other = await asyncio.start_server(answer, "127.0.0.1", 0)
        host = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
        store = ZooKeeperStore([host], "c", SystemClock(), SystemNetwork(), patience=PATIENT)
        async with other, opened(store):
            with pytest.raises(StoreUnavailable, match="an answer that is no ZooKeeper's"):
                await store.read("k")

    def test_what_is_no_server_is_refused(self) -> None:
        with pytest.raises(UsageError, match="write host:port"):
            ZooKeeperStore(["http://127.0.0.1"], "c", SystemClock(), SystemNetwork())


async def interposed(store: ZooKeeperStore, proxy: Proxy, revision: int) -> object:
    """A change whose first answers (of the reads) pass, and that of the transaction does not."""
    (server,) = store._endpoints.all
    connection = await server.connection()
    sending = connection.send

    def send(op: Op, body: bytes = b"") -> asyncio.Future[Reply]:
        if op is Op.MULTI:
            proxy.answers_pass.clear()
        return sending(op, body)

    connection.send = send  # type: ignore[method-assign]
    try:
        return await store.compare_and_set("k", b"1", revision)
    finally:  # a connection that lives on reads through transactions as well
        connection.send = sending  # type: ignore[method-assign]


class Meanwhile:
    """A connection on which something else happens between the reads of a change and its transaction."""

    def __init__(self, connection: Connection, act: Callable[[], Awaitable[object]]) -> None:
        self._connection = connection
        self._act: Callable[[], Awaitable[object]] | None = act

    def send(self, op: Op, body: bytes = b"") -> Awaitable[Reply]:
        if op is Op.MULTI and self._act is not None:
            act, self._act = self._act, None
            return self._later(act, op, body)
        return self._connection.send(op, body)

    async def _later(self, act: Callable[[], Awaitable[object]], op: Op, body: bytes) -> Reply:
        await act()
        return await self._connection.send(op, body)


class TestRevisions:
    async def test_a_key_made_anew_at_the_same_version_is_another(self, ensemble: Ensemble) -> None:
        """ZooKeeper's own comparison would hold: the version is the one that was read."""
        store = ensemble.open("anew")
        server = server_at(ensemble.hosts[0])
        async with opened(store):
            revision = await create(store, "k", b"0")
            made: list[int] = []

            async def anew() -> None:
                await store.delete("k")
                made.append(await create(store, "k", b"another"))

            async def change(connection: Connection, attempt: Attempt) -> Applied | Conflict:
                meanwhile = cast(Connection, Meanwhile(connection, anew))
                return await Znodes("", "anew", None).compare_and_set(meanwhile, "k", b"1", revision, attempt)

            outcome = await server.ask(change)
            await server.close()
            assert outcome == Conflict(Versioned("k", b"another", made[0]))

    async def test_a_deletion_of_another_key_is_no_conflict(self, ensemble: Ensemble) -> None:
        store = ensemble.open("beside")
        server = server_at(ensemble.hosts[0])
        async with opened(store):
            await create(store, "beside", b"0")
            revision = await create(store, "k", b"0")

            async def change(connection: Connection, attempt: Attempt) -> Applied | Conflict:
                meanwhile = cast(Connection, Meanwhile(connection, lambda: store.delete("beside")))
                return await Znodes("", "beside", None).compare_and_set(meanwhile, "k", b"1", revision, attempt)

            assert isinstance(await server.ask(change), Applied)
            await server.close()

    async def test_a_leader_alone_answers_sync_and_no_read_of_ours(self, ensemble: Ensemble) -> None:
        """Why a read follows a transaction: a leader that has lost its followers does not know it at once."""
        leader = await ensemble.leader()
        host = ensemble.hosts[ensemble.members.index(leader)]
        store, server = ensemble.open("alone", [host], HASTY), server_at(host)
        async with opened(store):
            await create(store, "k", b"0")
            connection = await server.connection()
            followers = [member for member in ensemble.members if member is not leader]
            for member in followers:
                member.stop()
            try:
                path = Znodes("", "alone", None).path_of("k")
                synced, found = connection.send(Op.SYNC, wire.text(path)), connection.send(Op.GET_DATA, wire.at(path))
                assert (await synced).code == (await found).code == wire.Code.OK
                with pytest.raises(StoreUnavailable):
                    await store.read("k")
            finally:
                for member in followers:
                    member.signal(signal.SIGCONT)
                await server.close()
                await ensemble.serves()


class TestWatch:
    async def test_a_majority_that_is_lost_and_comes_back(self, ensemble: Ensemble) -> None:
        store, watching = ensemble.open("majority", patience=HASTY), ensemble.open("majority", patience=HASTY)
        async with opened(store, watching), Told(watching) as told:
            revision = await create(store, "k", b"0")
            await told.until_stands({"k": b"0"})
            one, other = killed(ensemble, ensemble.members[1]), killed(ensemble, ensemble.members[2], last=False)
            async with one, other:
                await told.until(lambda events: isinstance(events[-1], Lost))
                assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
            await told.until_synced(times=2)
            await set_for_certain(store, "k", b"2")
            await told.until_stands({"k": b"2"})

    async def test_a_session_that_expires_is_begun_anew(self, ensemble: Ensemble) -> None:
        """The server hears nothing from us and ends the session; we would have waited for an answer much longer."""
        patience = Patience(next_ms=100, deadline_ms=30_000, silence_ms=150)
        async with proxied(ensemble.hosts[0]) as proxy:
            watching, store = ensemble.open("expired", [host_of(proxy)], patience), ensemble.open("expired")
            async with opened(watching, store), Told(watching) as told:
                await create(store, "goes", b"1")
                await told.until_stands({"goes": b"1"})
                proxy.requests_pass.clear()
                await told.until(lambda events: isinstance(events[-1], Lost))
                await store.delete("goes")
                await create(store, "k", b"1")
                proxy.let_through()
                await told.until_stands({"k": b"1"})

    async def test_a_server_that_went_deaf_is_left(self, ensemble: Ensemble) -> None:
        patience = Patience(next_ms=100, deadline_ms=500, silence_ms=200)
        async with proxied(ensemble.hosts[0]) as first, proxied(ensemble.hosts[1]) as second:
            hosts = [host_of(first), host_of(second)]
            watching, store = ensemble.open("deaf", hosts, patience), ensemble.open("deaf")
            async with opened(watching, store), Told(watching) as told:
                await told.until_synced()
                for proxy in (first, second):
                    proxy.forget_connections()
                await told.until(lambda events: isinstance(events[-1], Lost))
                await told.until_synced(times=2)
                await create(store, "k", b"1")
                await told.until_stands({"k": b"1"})

    async def test_a_quiet_watch_stays(self, ensemble: Ensemble) -> None:
        """Silence that is no deafness costs a question now and then, keeps the session, and is no event."""
        patience = Patience(next_ms=100, deadline_ms=20_000, silence_ms=500)
        watching, store = ensemble.open("quiet", patience=patience), ensemble.open("quiet")
        async with opened(watching, store):
            await create(store, "k", b"1")
            async with Told(watching) as told:
                await told.until_synced()
                await asyncio.sleep(3.0)  # twice as long as the session would live without a word
                assert told.events[-1] == Synced()
                assert len(told.events) == 2

    async def test_a_key_deleted_by_hand_is_told_as_well(self, ensemble: Ensemble) -> None:
        """An operator's deletion is not counted in the cluster's znode."""
        watching, store = ensemble.open("removed"), ensemble.open("removed")
        znodes, server = Znodes("", "removed", None), server_at(ensemble.hosts[2])
        async with opened(watching, store), Told(watching) as told:
            await create(store, "k", b"1")
            await told.until_stands({"k": b"1"})
            connection = await server.connection()
            gone = await connection.send(Op.DELETE, wire.versioned(znodes.path_of("k"), wire.ANY_VERSION))
            assert gone.code == wire.Code.OK
            await told.until_stands({})
            await create(store, "k", b"2")
            await told.until_stands({"k": b"2"})
            await server.close()


class TestAccess:
    async def test_a_wrong_password_is_told_without_showing_it(self, ensemble: Ensemble) -> None:
        secured = SecuredEnsemble(ensemble)
        owner, stranger = secured.open("guarded"), secured.open("guarded", password="not-the-password")
        async with opened(owner, stranger):
            revision = await create(owner, "k", b"0")
            with pytest.raises(StoreUnavailable, match="see the user and password, and the ACL") as caught:
                await stranger.read("k")
            outcome = await stranger.compare_and_set("k", b"1", revision)
            assert isinstance(outcome, Unknown)
            with pytest.raises(StoreUnavailable):
                await stranger.delete("k")
            for said in (str(caught.value), outcome.why, repr(stranger)):
                assert "not-the-password" not in said
            assert await owner.read("k") == Versioned("k", b"0", revision)

    async def test_a_stranger_to_the_cluster_is_told_nothing_by_a_watch(self, ensemble: Ensemble) -> None:
        secured = SecuredEnsemble(ensemble)
        owner, stranger = secured.open("private"), secured.open("private", user="somebody")
        async with opened(owner, stranger):
            await create(owner, "k", b"secret")
            async with Told(stranger) as told:
                await told.until(bool)
                assert [type(event) for event in told.events] == [Lost]

    async def test_rights_that_are_withdrawn_and_come_back(self, ensemble: Ensemble) -> None:
        """The operator takes the user's right to write: a definite no, said; then gives it back, and all goes on."""
        login = Login("twinstar", lambda: "swordfish-71")
        store = ensemble.open("revoked", login=login)
        operator, znodes = server_at(ensemble.hosts[0], login=login), Znodes("", "revoked", login)
        own = znodes._own()
        assert own is not None
        async with opened(store):
            revision = await create(store, "k", b"0")
            connection = await operator.connection()
            await set_acl(connection, znodes.path, wire.Grant(wire.ADMIN, own.scheme, own.id))
            outcome = await store.compare_and_set("k", b"1", revision)
            assert isinstance(outcome, Unknown)
            assert "does not allow it" in outcome.why
            await set_acl(connection, znodes.path, own)
            assert isinstance(await store.compare_and_set("k", b"1", revision), Applied)
            await operator.close()

    async def test_an_acl_that_is_shown_without_its_digests_is_not_copied(self, ensemble: Ensemble) -> None:
        """Without the right to administer, ZooKeeper blanks digests: keys made with such an ACL would be nobody's."""
        login = Login("limited", lambda: "swordfish-71")
        store = ensemble.open("blanked", login=login)
        server, znodes = server_at(ensemble.hosts[0], login=login), Znodes("", "blanked", login)
        own = znodes._own()
        assert own is not None
        async with opened(store):
            connection = await server.connection()
            await znodes._make(connection)
            await set_acl(connection, znodes.path, wire.Grant(wire.ALL & ~wire.ADMIN, own.scheme, own.id))
            outcome = await store.compare_and_set("k", b"1", 0)
            assert isinstance(outcome, Unknown)
            assert "grant its user everything" in outcome.why
            await server.close()

    async def test_an_operators_acl_is_each_keys_from_then_on(self, ensemble: Ensemble, tmp_path: Path) -> None:
        """Here it names who shows a certificate: its subject is the user."""
        files = ensemble.certificates
        named = client_tls(files, files.another_client(tmp_path, "orders"))
        store, stranger = ensemble.open_tls("named", named), ensemble.open_tls("named", client_tls(files, files.client))
        async with opened(store, stranger):
            revision = await create(store, "k", b"0")
            server, znodes = server_at(ensemble.hosts[0]), Znodes("", "named", None)
            await set_acl(await server.connection(), znodes.path, wire.Grant(wire.ALL, "x509", "CN=orders"))
            await store.read("k")  # its server has heard of that as well
            await create(store, "later", b"secret")
            assert isinstance(await stranger.compare_and_set("k", b"1", revision), Unknown)  # it may not be counted
            for refused in (stranger.read("later"), stranger.read_all("")):
                with pytest.raises(StoreUnavailable, match="does not allow it"):
                    await refused
            await server.close()

    async def test_a_password_that_cannot_be_read_is_said(self, ensemble: Ensemble) -> None:
        def missing() -> str:
            raise UsageError("The secret is missing.")

        store = ensemble.open("missing", login=Login("twinstar", missing))
        async with opened(store):
            with pytest.raises(StoreUnavailable, match="The secret is missing"):
                await store.read("k")


async def test_a_server_that_hangs_does_not_hold_up_the_end(backend: SecuredEnsemble) -> None:
    """With TLS a connection is ended by both sides; that of a hanging server would take half a minute."""
    store = backend.open("goodbye")
    await create(store, "k", b"")
    await backend.hang()
    try:
        async with asyncio.timeout(10):
            await store.close()
    finally:
        await backend.resume()


async def test_a_connection_that_is_broken_answers_nothing_any_more(ensemble: Ensemble) -> None:
    server = server_at(ensemble.hosts[0])
    connection = await server.connection()
    connection.abort("by the test")
    with pytest.raises(Exception, match="by the test"):
        await connection.send(Op.EXISTS, wire.at("/"))
    assert await server.connection() is not connection
    await server.close()
