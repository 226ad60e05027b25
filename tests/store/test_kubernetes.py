"""Kubernetes as a store: the real API server on a real etcd, its faults, and who may do what."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.store.conformance import StoreConformance, Told, applied, create, settled
from tests.store.kube_server import (
    HASTY,
    PATIENT,
    KubeBackend,
    KubeServer,
    full,
    write_kubeconfig,
    write_private,
)
from tests.store.kubernetes_facts import FACTS, Fact, Json
from tests.store.proxy import Proxy
from twinstar.cli.own_kubernetes import ACCOUNT
from twinstar.config import schema
from twinstar.config.secrets import Secrets
from twinstar.model.errors import StoreUnavailable
from twinstar.model.register import Durability, Phase, Register
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import ABSENT, Applied, Changed, Conflict, Lost, Store, Synced, Unknown, Versioned
from twinstar.store.factory import open_store
from twinstar.store.kubernetes.access import Access, in_pod
from twinstar.store.kubernetes.api import Api, Patience
from twinstar.store.kubernetes.client import KubernetesStore
from twinstar.store.kubernetes.kubeconfig import from_kubeconfig
from twinstar.store.kubernetes.records import Records
from twinstar.store.race import Failed

NAMESPACE = "conformance"
PATIENCE_S = 60
_fresh = itertools.count()


@pytest.fixture(params=["api", "etcd"])
def backend(request: pytest.FixtureRequest, ready: KubeServer) -> KubeBackend:
    return KubeBackend(ready, NAMESPACE, below=request.param == "etcd")


@pytest.fixture(scope="module")
def prepared(kube: KubeServer) -> KubeServer:
    kube.prepare(NAMESPACE)
    return kube


@pytest.fixture
def ready(prepared: KubeServer) -> KubeServer:
    prepared.serves()
    return prepared


class TestKubernetes(StoreConformance):
    pass


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
async def test_what_the_model_takes_it_to_do(ready: KubeServer, fact: Fact) -> None:
    async def ask(method: str, path: str, document: Json | None) -> tuple[int, Json]:
        return await asyncio.to_thread(ready.ask, method, path, document)

    await fact(ask, Records(fresh(), NAMESPACE))


@asynccontextmanager
async def opened(*stores: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for store in stores:
            await store.close()


def store_at(server: KubeServer, cluster: str, url: str | None = None, patience: Patience = PATIENT) -> KubernetesStore:
    return server.store(cluster, server.kubeconfig(NAMESPACE, url), patience=patience)


def fresh() -> str:
    return f"k{next(_fresh)}"


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again: of what the server does by itself nobody tells us."""
    async with asyncio.timeout(PATIENCE_S):
        while not await so():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def is_so(condition: bool) -> bool:
    return condition


async def holds(store: Store, key: str, value: bytes) -> bool:
    found = await store.read(key)
    return found is not None and found.value == value


async def fails(store: Store, verb: str) -> bool:
    return not await works(store, verb)


async def watches(api: Api) -> bool:
    try:
        await (await api.watch(1)).close()
    except Failed:
        return False
    return True


async def until_refused(store: Store, words: str) -> str:
    """A right that was taken away is known to the server a moment later."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await store.read("k")
            except StoreUnavailable as error:
                if words in str(error):
                    return str(error)
            await asyncio.sleep(0.05)


class TestConnections:
    async def test_an_answer_that_does_not_come_in_time_leaves_a_doubt(self, ready: KubeServer) -> None:
        """What was not answered was made all the same."""
        async with Proxy(ready.url) as proxy:
            cluster = fresh()
            store, other = store_at(ready, cluster, proxy.url, HASTY), store_at(ready, cluster)
            async with opened(store, other):
                revision = await create(other, "k", b"0")
                async with asyncio.timeout(PATIENCE_S):  # a hasty one needs a connection that stands already
                    while not isinstance(await store.compare_and_set("warm", b"", ABSENT), Conflict):
                        pass
                proxy.answers_pass.clear()
                outcome = await store.compare_and_set("k", b"1", revision)
                assert isinstance(outcome, Unknown)
                assert f"no answer within {HASTY.deadline_ms:g} ms" in outcome.why
                await until(lambda: holds(other, "k", b"1"))

    async def test_a_slow_server_is_waited_for(self, ready: KubeServer) -> None:
        async with Proxy(ready.url) as proxy:
            store = store_at(ready, fresh(), proxy.url)
            async with opened(store):
                revision = await create(store, "k", b"0")
                proxy.answers_pass.clear()
                changing = asyncio.create_task(store.compare_and_set("k", b"1", revision))
                await asyncio.wait_for(proxy.held.wait(), PATIENCE_S)
                await asyncio.sleep(2)
                proxy.let_through()
                assert applied(await changing) > revision

    async def test_a_connection_that_breaks_in_the_middle_leaves_a_doubt(self, ready: KubeServer) -> None:
        """The change was made; what says so is lost. It is neither repeated nor taken for another's."""
        async with Proxy(ready.url) as proxy:
            store = store_at(ready, fresh(), proxy.url)
            async with opened(store):
                revision = await create(store, "k", b"0")
                proxy.answers_pass.clear()
                changing = asyncio.create_task(store.compare_and_set("k", b"1", revision))
                await asyncio.wait_for(proxy.held.wait(), PATIENCE_S)
                proxy.break_connections()
                assert isinstance(await changing, Unknown)
                proxy.let_through()
                found = await settled(store, "k", revision)
                assert found is not None
                assert found.value == b"1"

    async def test_a_dead_endpoint_is_a_matter_of_one_agent(self, ready: KubeServer) -> None:
        cluster = fresh()
        async with Proxy(ready.url) as proxy:
            cut_off, other = store_at(ready, cluster, proxy.url), store_at(ready, cluster)
            async with opened(cut_off, other):
                await create(cut_off, "k", b"0")
        async with opened(cut_off, other):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await cut_off.read("k")
            assert await other.read("k") is not None


class TestWatch:
    async def test_one_that_has_gone_deaf_is_begun_again(self, ready: KubeServer) -> None:
        """Its connection stays open and silent, as when the other end is gone without a word."""
        async with Proxy(ready.url) as proxy:
            cluster = fresh()
            watching, store = store_at(ready, cluster, proxy.url, HASTY), store_at(ready, cluster)
            async with opened(watching, store):
                await create(store, "goes", b"1")
                revision = await create(store, "k", b"1")
                async with Told(watching) as told:
                    await told.until_stands({"goes": b"1", "k": b"1"})
                    proxy.forget_connections()
                    applied(await store.compare_and_set("k", b"2", revision))
                    await store.delete("goes")
                    await told.until_stands({"k": b"2"})
                    await create(store, "later", b"3")
                    await told.until_stands({"k": b"2", "later": b"3"})

    async def test_the_end_of_a_stream_is_no_loss_of_contact(self, ready: KubeServer) -> None:
        """The server ends each after a while. Neither that nor silence tells the consumer anything."""
        async with Proxy(ready.url) as proxy:
            cluster = fresh()
            patience = Patience(deadline_ms=20_000, silence_ms=300, stream_ms=1_000)
            watching, store = store_at(ready, cluster, proxy.url, patience), store_at(ready, cluster)
            async with opened(watching, store):
                await create(store, "k", b"1")
                async with Told(watching) as told:
                    await told.until_synced()
                    before = proxy.connections
                    await until(lambda: is_so(proxy.connections >= before + 3))
                    await create(store, "later", b"2")
                    await told.until_stands({"k": b"1", "later": b"2"})
                    assert [type(event) for event in told.events] == [Changed, Synced, Changed]

    async def test_what_the_server_has_forgotten_it_says(self, ready: KubeServer) -> None:
        """What beginning again rests on: a restarted server does not leave out what it no longer knows, it refuses."""
        await asyncio.to_thread(ready.api.kill)
        await asyncio.to_thread(ready.start)
        access = Access(from_kubeconfig(ready.kubeconfig(NAMESPACE), None))
        api = Api(access, Records("c", NAMESPACE), SystemClock(), SystemNetwork(), PATIENT)
        await until(lambda: watches(api))  # for a moment it says that it is not ready for that yet
        lines = await api.watch(1)
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await lines.next())
        await lines.close()
        assert (message["type"], message["object"]["code"]) == ("ERROR", 410)

    async def test_an_update_that_changes_nothing_is_none(self, ready: KubeServer) -> None:
        """Why each object says what it was written after (`records`)."""
        store = store_at(ready, cluster := fresh())
        async with opened(store):
            revision = await create(store, "k", b"1")
            path = Records(cluster, NAMESPACE).path("k")
            status, found = ready.ask("GET", path)
            assert status == 200
            status, again = ready.ask("PUT", path, found)
            assert (status, again["metadata"]["resourceVersion"]) == (200, str(revision))
            assert applied(await store.compare_and_set("k", b"1", revision)) > revision


class TestTrouble:
    async def test_a_full_etcd_takes_no_change_and_answers_all_the_same(self, ready: KubeServer) -> None:
        store = store_at(ready, fresh())
        async with opened(store), Told(store) as told:
            revision = await create(store, "k", b"0")
            with full(ready.etcd_url):
                outcome = await store.compare_and_set("k", b"1", revision)
                assert isinstance(outcome, Unknown)
                assert "space" in outcome.why
                assert await store.read("k") == Versioned("k", b"0", revision)
            assert not any(isinstance(event, Lost) for event in told.events)
            found = await settled(store, "k", revision)
            assert found is not None
            applied(await store.compare_and_set("k", b"1", found.revision))
            await told.until_stands({"k": b"1"})

    async def test_a_withdrawn_right_is_told_with_what_to_do(self, ready: KubeServer) -> None:
        ready.prepare("withdrawn")
        store = ready.store("c", ready.kubeconfig("withdrawn"))
        binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/withdrawn/rolebindings/{ACCOUNT}"
        async with opened(store), Told(store) as told:
            revision = await create(store, "k", b"0")
            await told.until_stands({"k": b"0"})
            assert ready.ask("DELETE", binding)[0] == 200
            assert "twinstar store manifest" in await until_refused(store, "403")
            assert isinstance(await store.compare_and_set("k", b"1", revision), Unknown)
            await told.until(lambda events: isinstance(events[-1], Lost))
            ready.prepare("withdrawn")
            await told.until_synced(times=2)
            applied(await store.compare_and_set("k", b"1", revision))
            await told.until_stands({"k": b"1"})

    async def test_a_token_that_is_none_is_told_and_never_shown(self, ready: KubeServer) -> None:
        """And the next one that is written into its file does."""
        kubeconfig = ready.kubeconfig(NAMESPACE)
        secret = kubeconfig.with_suffix(".token")
        good = secret.read_text()
        write_private(secret, "not-a-token-71")
        store = ready.store(fresh(), kubeconfig)
        async with opened(store):
            said = await until_refused(store, "401")
            outcome = await store.compare_and_set("k", b"", ABSENT)
            assert isinstance(outcome, Unknown)
            assert "not-a-token-71" not in said + outcome.why
            assert "renew the token" in said
            write_private(secret, good)
            await create(store, "k", b"")
            secret.unlink()
            with pytest.raises(StoreUnavailable, match="cannot be read"):
                await store.read("k")

    async def test_a_cluster_without_the_kind_is_told(self, ready: KubeServer) -> None:
        """It is not an empty store, whose keys are not there."""
        kind = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/twinstarrecords.twinstar.dev"
        store = store_at(ready, fresh())
        async with opened(store):
            assert await store.read("k") is None
            assert ready.ask("DELETE", kind)[0] == 200
            try:
                assert "apply what `twinstar store manifest` prints" in await until_refused(store, "404")
                assert isinstance(await store.compare_and_set("k", b"", 7), Unknown)
            finally:
                await until(lambda: is_so(ready.ask("GET", kind)[0] == 404))
                ready.prepare(NAMESPACE)
            await create(store, "k", b"")

    async def test_somebody_elses_object_is_not_read(self, ready: KubeServer) -> None:
        cluster = fresh()
        records = Records(cluster, NAMESPACE)
        strange = records.written("register", b"{}", ABSENT, wall_ms=0)
        strange["spec"]["key"] = "another"
        assert ready.ask("POST", records.collection, strange)[0] == 201
        store = store_at(ready, cluster)
        async with opened(store):
            for reading in (store.read("register"), store.read_all("")):
                with pytest.raises(StoreUnavailable, match=r"not Twinstar's.*another namespace"):
                    await reading
        assert ready.ask("DELETE", records.path("register"))[0] == 200


class TestRights:
    async def test_another_namespace_is_out_of_reach(self, ready: KubeServer) -> None:
        for namespace in ("ours", "theirs"):
            ready.prepare(namespace)
        ours, theirs = (ready.store("c", ready.kubeconfig(name)) for name in ("ours", "theirs"))
        intruder = ready.store("c", ready.kubeconfig("ours"), namespace="theirs")
        async with opened(ours, theirs, intruder):
            revision = await create(theirs, "k", b"theirs")
            await create(ours, "k", b"ours")
            for reading in (intruder.read("k"), intruder.read_all(""), intruder.delete("k")):
                with pytest.raises(StoreUnavailable, match="403"):
                    await reading
            for expected in (revision, ABSENT):
                outcome = await intruder.compare_and_set("k", b"x", expected)
                assert isinstance(outcome, Unknown)
                assert "403" in outcome.why
            async with Told(intruder) as told:
                await told.until(lambda events: any(isinstance(event, Lost) for event in events))
            assert await theirs.read("k") == Versioned("k", b"theirs", revision)

    @pytest.mark.parametrize("path", ["secrets", "pods", "configmaps", "serviceaccounts"])
    def test_nothing_else_is_within_reach(self, ready: KubeServer, path: str) -> None:
        status, _ = ready.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/{path}", token=ready.token(NAMESPACE))
        assert status == 403

    @pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "delete"])
    async def test_no_right_can_be_spared(self, ready: KubeServer, verb: str) -> None:
        ready.prepare("spared")
        store = ready.store(fresh(), ready.kubeconfig("spared"))
        async with opened(store):
            await create(store, "k", b"0")
            with less(ready, "spared", verb):
                await until(lambda: fails(store, verb))  # the server hears of it a moment later
            await until(lambda: works(store, verb))

    async def test_the_accounts_of_pods_and_certificates_are_known(self, ready: KubeServer, tmp_path: Path) -> None:
        """As a pod has it in its files, and as a person has it in a kubeconfig, with everything within."""
        write_private(tmp_path / "token", ready.token(NAMESPACE))
        write_private(tmp_path / "namespace", NAMESPACE)
        (tmp_path / "ca.crt").write_bytes(ready.authority.read_bytes())
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(ready.port)}
        access = Access(in_pod(environment, tmp_path))
        cluster = fresh()
        in_a_pod = KubernetesStore(access, access.namespace, cluster, SystemClock(), SystemNetwork(), patience=PATIENT)

        person = ready.people.another_client(tmp_path, "ann")
        data = {
            "client-certificate-data": base64.b64encode(person.certificate.read_bytes()).decode(),
            "client-key-data": base64.b64encode(person.key.read_bytes()).decode(),
        }
        authority = {"certificate-authority-data": base64.b64encode(ready.authority.read_bytes()).decode()}
        write_kubeconfig(tmp_path / "n1.kubeconfig", ready.url, authority, data, NAMESPACE)
        allow_user(ready, NAMESPACE, "ann")
        settings = schema.KubernetesStore(kubeconfig=tmp_path / "{name}.kubeconfig")
        by_hand = open_store(
            schema.Store(kubernetes=settings), cluster, SystemClock(), SystemNetwork(), Secrets(tmp_path), "n1"
        )
        async with opened(in_a_pod, by_hand):
            revision = await create(in_a_pod, "k", b"pod")
            await until(lambda: works(by_hand, "get"))  # the binding is known a moment later
            assert await by_hand.read("k") == Versioned("k", b"pod", revision)


@contextmanager
def less(server: KubeServer, namespace: str, verb: str) -> Iterator[None]:
    """The role without one of its verbs."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/{ACCOUNT}"
    role = server.ask("GET", path)[1]
    before = list(role["rules"][0]["verbs"])
    try:
        role["rules"][0]["verbs"] = [each for each in before if each != verb]
        assert len(role["rules"][0]["verbs"]) == len(before) - 1
        assert server.ask("PUT", path, role)[0] == 200
        yield
    finally:
        role = server.ask("GET", path)[1]
        role["rules"][0]["verbs"] = before
        assert server.ask("PUT", path, role)[0] == 200


async def works(store: Store, verb: str) -> bool:
    """Whether the store does that for which it needs the verb."""
    try:
        if verb == "get":
            await store.read("k")
        elif verb == "list":
            await store.read_all("")
        elif verb == "delete":
            await store.delete("other")
        elif verb == "watch":
            async with Told(store) as told:
                await told.until(lambda events: any(isinstance(event, Synced | Lost) for event in events))
                return not isinstance(told.events[0], Lost)
        elif verb == "update":
            found = await store.read("k")
            assert found is not None
            return isinstance(await store.compare_and_set("k", b"1", found.revision), Applied)
        else:
            return isinstance(await store.compare_and_set(fresh(), b"1", ABSENT), Applied)
    except StoreUnavailable:
        return False
    return True


def allow_user(server: KubeServer, namespace: str, user: str) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
    }
    assert server.ask("POST", f"/apis/{group}/v1/namespaces/{namespace}/rolebindings", binding)[0] == 201


async def test_kubectl_shows_who_leads(ready: KubeServer) -> None:
    """The table as the server renders it, which is what kubectl prints."""
    cluster = fresh()
    register = Register(
        epoch=7,
        phase=Phase.LEADING,
        leader="n1",
        copies=frozenset({"n1", "n2"}),
        required=1,
        durability=Durability.QUORUM,
        nonce="n1:1",
    )
    store = store_at(ready, cluster)
    async with opened(store):
        await create(store, "register", register.encode())
    table: dict[str, Any] = ready.ask("GET", Records(cluster, NAMESPACE).path("register"), table=True)[1]
    names = [column["name"] for column in table["columnDefinitions"]]
    row = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert {name: row[name] for name in ("Name", "Cluster", "Key", "Leader", "Epoch", "Phase")} == {
        "Name": f"{cluster}.register",
        "Cluster": cluster,
        "Key": "register",
        "Leader": "n1",
        "Epoch": 7,
        "Phase": "leading",
    }
    assert {"Changed", "Age"} <= set(names)
