"""etcd through its gateway: three real members, failing one at a time and in the middle of a request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable

import pytest

from tests.store.certificates import make_certificates
from tests.store.conformance import StoreConformance, Told, applied, create, settled
from tests.store.failing import killed, opened, set_for_certain, stopped
from tests.store.proxy import Proxy
from tests.store.servers import ALERT, HASTY, PATIENT, EtcdCluster
from twinstar.config.schema import Tls
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.errors import StoreUnavailable, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import Changed, Conflict, Lost, Unknown, Versioned
from twinstar.store.endpoints import Patience
from twinstar.store.etcd.client import EtcdStore
from twinstar.store.etcd.endpoint import Endpoint, Login, Session
from twinstar.store.etcd.messages import Keys
from twinstar.store.feeds import feeds_needed
from twinstar.store.race import Doubtful, NotDone


@pytest.fixture(params=["plain", "secured"])
def backend(request: pytest.FixtureRequest) -> EtcdCluster:
    name = {"plain": "etcd_cluster", "secured": "secured_etcd"}[request.param]
    cluster = request.getfixturevalue(name)
    assert isinstance(cluster, EtcdCluster)
    return cluster


class TestEtcd(StoreConformance):
    pass


class TestOneMemberFails:
    @pytest.mark.parametrize("member", [0, 1, 2])
    @pytest.mark.parametrize("how", [killed, stopped])
    async def test_changes_and_watches_go_on(
        self, etcd_cluster: EtcdCluster, how: Callable[..., AsyncIterator[None]], member: int
    ) -> None:
        """Whichever member it is, the leader among them, and whether or not it says goodbye."""
        name = f"one-{how.__name__}-{member}"
        store, watching = etcd_cluster.open_hasty(name), etcd_cluster.open(name, patience=ALERT)
        led = await etcd_cluster.leads(member)
        async with opened(store, watching), Told(watching) as told:
            await create(store, "k", b"0")
            await told.until_stands({"k": b"0"})
            async with how(etcd_cluster, etcd_cluster.members[member]):  # type: ignore[attr-defined]
                await set_for_certain(store, "k", b"1")
                await told.until_stands({"k": b"1"})
                await watching.delete("k")
                await told.until_stands({})
            if not led:  # one of two feeds lived; while nobody leads etcd ends all streams after a while
                assert not any(isinstance(event, Lost) for event in told.events)

    async def test_a_silent_endpoint_leaves_no_doubt(self, etcd_cluster: EtcdCluster) -> None:
        """The next endpoint is tried as well; that the change was applied there excludes the first attempt."""
        async with Proxy(etcd_cluster.urls[0]) as proxy:
            store = etcd_cluster.open("silent", [proxy.url, etcd_cluster.urls[1]], ALERT)
            async with opened(store):
                revision = await create(store, "k", b"0")
                store._endpoints._first = store._endpoints.all[0]  # whichever of them was quicker
                proxy.requests_pass.clear()
                second = applied(await store.compare_and_set("k", b"1", revision))
                assert proxy.held.is_set()
                proxy.let_through()  # now the held request arrives
                await asyncio.sleep(0.2)
                assert await store.read("k") == Versioned("k", b"1", second)

    async def test_an_answer_that_was_lost_is_a_doubt_not_a_conflict(self, etcd_cluster: EtcdCluster) -> None:
        """The change was made through the first endpoint; what the second one calls a conflict is our own change."""
        async with Proxy(etcd_cluster.urls[0]) as proxy:
            store = etcd_cluster.open("lost-answer", [proxy.url, etcd_cluster.urls[1]], ALERT)
            async with opened(store):
                revision = await create(store, "k", b"0")
                store._endpoints._first = store._endpoints.all[0]  # whichever of them was quicker
                proxy.answers_pass.clear()
                outcome = await store.compare_and_set("k", b"1", revision)
                assert isinstance(outcome, Unknown)
                found = await settled(store, "k", revision)
                assert found is not None
                assert found.value == b"1"

    async def test_a_broken_connection_in_the_middle_is_a_doubt(self, etcd_cluster: EtcdCluster) -> None:
        async with Proxy(etcd_cluster.urls[0]) as proxy:
            store = etcd_cluster.open("broken", [proxy.url], ALERT)
            async with opened(store):
                revision = await create(store, "k", b"0")
                proxy.answers_pass.clear()
                changing = asyncio.create_task(store.compare_and_set("k", b"1", revision))
                await proxy.held.wait()
                proxy.break_connections()
                assert isinstance(await changing, Unknown)

    async def test_a_refused_connection_is_no_doubt(self, etcd_cluster: EtcdCluster) -> None:
        """Nothing was sent there, so a conflict at the next endpoint is one."""
        async with Proxy(etcd_cluster.urls[0]) as gone:
            pass
        store = etcd_cluster.open("refused", [gone.url, etcd_cluster.urls[1]], ALERT)
        async with opened(store):
            revision = await create(store, "k", b"0")
            other = etcd_cluster.open("refused", [gone.url, etcd_cluster.urls[1]], ALERT)
            async with opened(other):
                outcome = await other.compare_and_set("k", b"1", 0)
            assert outcome == Conflict(Versioned("k", b"0", revision))

    async def test_the_endpoint_that_answered_is_asked_first(self, etcd_cluster: EtcdCluster) -> None:
        async with Proxy(etcd_cluster.urls[0]) as first, Proxy(etcd_cluster.urls[1]) as second:
            store = etcd_cluster.open("order", [first.url, second.url], ALERT)
            async with opened(store):
                first.requests_pass.clear()
                await create(store, "k", b"0")
                connections = first.connections
                for _ in range(5):
                    await store.read("k")
                assert first.connections == connections
                assert second.connections == 1


class TestWatch:
    @pytest.mark.parametrize(("endpoints", "feeds"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
    def test_every_majority_holds_a_feed(self, endpoints: int, feeds: int) -> None:
        assert feeds_needed(endpoints) == feeds
        assert feeds + endpoints // 2 + 1 > endpoints

    async def test_a_stream_that_went_deaf_is_noticed(self, backend: EtcdCluster) -> None:
        """Its connection stays open and says nothing, though the endpoint answers: only asking tells."""
        async with Proxy(backend.urls[0]) as proxy:
            patience = Patience(next_ms=100, deadline_ms=1_500, silence_ms=200)
            watching, store = backend.open("deaf", [proxy.url], patience), backend.open("deaf")
            async with opened(watching, store), Told(watching) as told:
                await told.until_synced()
                proxy.forget_connections()
                await create(store, "k", b"1")
                await told.until_stands({"k": b"1"})
                assert any(isinstance(event, Lost) for event in told.events)

    async def test_a_silent_endpoint_is_left_for_another(self, etcd_cluster: EtcdCluster) -> None:
        async with Proxy(etcd_cluster.urls[0]) as first, Proxy(etcd_cluster.urls[1]) as second:
            patience = Patience(next_ms=100, deadline_ms=500, silence_ms=200)
            watching, store = etcd_cluster.open("left", [first.url, second.url], patience), etcd_cluster.open("left")
            async with opened(watching, store), Told(watching) as told:
                await told.until_synced()
                first.requests_pass.clear()
                first.answers_pass.clear()
                await told.until(lambda events: isinstance(events[-1], Lost))
                await told.until_synced(times=2)
                await create(store, "k", b"1")
                await told.until_stands({"k": b"1"})

    async def test_a_quiet_watch_stays(self, etcd_cluster: EtcdCluster) -> None:
        """Silence that is no deafness costs a question now and then, and no event."""
        patience = Patience(next_ms=100, deadline_ms=20_000, silence_ms=50)
        watching, store = etcd_cluster.open("quiet", patience=patience), etcd_cluster.open("quiet")
        async with opened(watching, store):
            await create(store, "k", b"1")
            async with Told(watching) as told:
                await told.until_synced()
                await asyncio.sleep(0.5)
                assert len(told.events) == 2

    async def test_a_member_without_a_majority_ends_its_streams(self, etcd_cluster: EtcdCluster) -> None:
        """The one that is left still answers and would keep a stream open, for ever silent."""
        patience = Patience(next_ms=100, deadline_ms=1_500, silence_ms=60_000)
        watching, store = etcd_cluster.open("alone", etcd_cluster.urls[:1], patience), etcd_cluster.open("alone")
        async with opened(watching, store), Told(watching) as told:
            await told.until_synced()
            async with killed(etcd_cluster, etcd_cluster.members[1]):
                async with killed(etcd_cluster, etcd_cluster.members[2], last=False):
                    await told.until(lambda events: isinstance(events[-1], Lost))
                await told.until_synced(times=2)
                await set_for_certain(store, "k", b"1")
                await told.until_stands({"k": b"1"})

    async def test_history_that_was_compacted_is_no_obstacle(self, etcd_cluster: EtcdCluster) -> None:
        async with Proxy(etcd_cluster.urls[0]) as proxy:
            watching, store = etcd_cluster.open("compacted", [proxy.url], HASTY), etcd_cluster.open("compacted")
            async with opened(watching, store), Told(watching) as told:
                await create(store, "goes", b"1")
                revision = await create(store, "k", b"1")
                await told.until_stands({"goes": b"1", "k": b"1"})
                proxy.requests_pass.clear()
                proxy.break_connections()
                await told.until(lambda events: isinstance(events[-1], Lost))
                await store.delete("goes")
                for _ in range(3):
                    revision = applied(await store.compare_and_set("k", b"2", revision))
                await etcd_cluster.ask(etcd_cluster.urls[0], "/kv/compaction", {"revision": str(revision)})
                proxy.let_through()
                await told.until_stands({"k": b"2"})

    async def test_a_stream_from_compacted_history_is_refused(self, etcd_cluster: EtcdCluster) -> None:
        """What the case above rests on: etcd says so, rather than leaving out what it has forgotten."""
        store = etcd_cluster.open("forgotten")
        async with opened(store):
            revision = await create(store, "k", b"1")
        await etcd_cluster.ask(etcd_cluster.urls[0], "/kv/compaction", {"revision": str(revision)})
        endpoint = Endpoint(etcd_cluster.urls[0], Session(SystemNetwork()))
        stream = await endpoint.watch(Keys("/twinstar/forgotten/").watch("", 0))
        with pytest.raises(Doubtful, match="the watch was ended"):
            await stream.next()
        await stream.close()


class TestSecurity:
    async def test_a_wrong_password_is_told_without_showing_it(self, secured_etcd: EtcdCluster) -> None:
        assert secured_etcd.secured is not None
        store = EtcdStore(
            secured_etcd.urls,
            "c",
            SystemClock(),
            SystemNetwork(),
            tls=secured_etcd.secured.context,
            login=Login("twinstar", lambda: "not-the-password"),
        )
        async with opened(store):
            with pytest.raises(StoreUnavailable, match="does not log twinstar in") as caught:
                await store.read("k")
            outcome = await store.compare_and_set("k", b"", 0)
        assert isinstance(outcome, Unknown)
        for said in (str(caught.value), outcome.why, repr(store), repr(secured_etcd.secured.login())):
            assert "not-the-password" not in said
            assert secured_etcd.secured.password not in said

    async def test_members_that_forgot_the_token_are_given_a_new_login(self, secured_etcd: EtcdCluster) -> None:
        """A restarted member knows no tokens. The doubtless outcome shows that the login happened before the change."""
        store = secured_etcd.open("token")
        async with opened(store):
            revision = await create(store, "k", b"0")
            for member in secured_etcd.members:
                async with killed(secured_etcd, member):
                    pass
            applied(await store.compare_and_set("k", b"1", revision))

    async def test_a_certificate_that_etcd_would_take_for_a_user_is_explained(
        self, secured_etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """etcd's own words for it do not say what to do."""
        assert secured_etcd.secured is not None
        authority = secured_etcd.secured.certificates
        files = authority.another_client(tmp_path_factory.mktemp("named"), "n1")
        tls = Tls(certificate=files.certificate, key=files.key, authority=authority.authority)
        context, login = ssl_context(tls, Purpose.STORE), secured_etcd.secured.login()
        store = EtcdStore(secured_etcd.urls, "c", SystemClock(), SystemNetwork(), tls=context, login=login)
        async with opened(store):
            with pytest.raises(StoreUnavailable, match="client certificates without a common name: issue one"):
                await store.read("k")

    async def test_what_the_user_may_not_do_is_said(self, secured_etcd: EtcdCluster) -> None:
        assert secured_etcd.secured is not None
        session = Session(SystemNetwork(), secured_etcd.secured.context, secured_etcd.secured.login())
        endpoint = Endpoint(secured_etcd.urls[0], session)
        with pytest.raises(NotDone, match="permission denied"):
            await endpoint.ask("/kv/range", {"key": "AA=="})
        await endpoint.close()

    async def test_rights_that_are_withdrawn_are_a_store_that_is_away(self, secured_etcd: EtcdCluster) -> None:
        store, right = secured_etcd.open("withdrawn"), {"name": "twinstar", "role": "twinstar"}
        async with opened(store):
            revision = await create(store, "k", b"0")
            await secured_etcd.ask(secured_etcd.urls[0], "/auth/user/revoke", right, "root")
            try:
                with pytest.raises(StoreUnavailable, match="permission denied"):
                    await store.read("k")
                outcome = await store.compare_and_set("k", b"1", revision)
            finally:
                await secured_etcd.ask(
                    secured_etcd.urls[0], "/auth/user/grant", {"user": "twinstar", "role": "twinstar"}, "root"
                )
            assert isinstance(outcome, Unknown)
            assert "permission denied" in outcome.why
            applied(await store.compare_and_set("k", b"1", revision))

    async def test_a_user_of_one_cluster_reaches_no_other(self, secured_etcd: EtcdCluster) -> None:
        secured = secured_etcd.secured
        assert secured is not None
        first, behind = (base64.b64encode(key).decode() for key in (b"/twinstar/orders/", b"/twinstar/orders0"))
        permission = {"permType": "READWRITE", "key": first, "range_end": behind}
        for path, request in (
            ("/auth/user/add", {"name": "orders", "password": secured.password}),
            ("/auth/role/add", {"name": "orders"}),
            ("/auth/role/grant", {"name": "orders", "perm": permission}),
            ("/auth/user/grant", {"user": "orders", "role": "orders"}),
        ):
            await secured_etcd.ask(secured_etcd.urls[0], path, request, "root")
        own, others = (
            EtcdStore(
                secured_etcd.urls, name, SystemClock(), SystemNetwork(),
                tls=secured.context, login=Login("orders", lambda: secured.password),
            )
            for name in ("orders", "orders2")
        )  # fmt: skip
        async with opened(own, others), Told(own) as told:
            await create(own, "register", b"0")
            await told.until_stands({"register": b"0"})
            with pytest.raises(StoreUnavailable, match="permission denied"):
                await others.read("register")
            assert isinstance(await others.compare_and_set("register", b"1", 0), Unknown)
        everybodys = secured_etcd.open("orders2")
        async with opened(everybodys):
            assert await everybodys.read("register") is None

    async def test_a_server_of_another_authority_is_not_trusted(
        self, secured_etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        files = make_certificates(tmp_path_factory.mktemp("others"))
        tls = Tls(certificate=files.client.certificate, key=files.client.key, authority=files.authority)
        context = ssl_context(tls, Purpose.STORE)
        store = EtcdStore(secured_etcd.urls, "c", SystemClock(), SystemNetwork(), tls=context)
        async with opened(store):
            with pytest.raises(StoreUnavailable, match=r"(?i)certificate verify failed"):
                await store.read("k")

    @pytest.mark.parametrize("url", ["", "etcd:2379", "ftp://x:1", "http://h:port", "http://h:1/v3", "https://"])
    def test_what_is_no_endpoint_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="is no etcd endpoint"):
            EtcdStore([url], "c", SystemClock(), SystemNetwork(), patience=PATIENT)


async def test_changes_of_other_prefixes_are_not_told(etcd_cluster: EtcdCluster) -> None:
    """The end of a range is the next key after the prefix, whatever its last character is."""
    store = etcd_cluster.open("range")
    async with opened(store), Told(store, "sé") as told:
        await told.until_synced()
        await create(store, "sê", b"")
        revision = await create(store, "sé1", b"")
        await told.until(lambda events: len(events) == 2)
        assert told.events[1] == Changed("sé1", Versioned("sé1", b"", revision))
