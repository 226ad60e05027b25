"""Kubernetes as a store on machines of its own: the processes of its servers, and the client that agents are given."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from functools import cache

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.simulation.stores.etcd import EtcdServer
from twinstar.simulation.stores.kubernetes import ApiServer, Json, Kubernetes, served
from twinstar.simulation.stores.kubernetes_api import Connection
from twinstar.simulation.stores.machines import HOSTS, StoreMachines
from twinstar.simulation.stores.memory import Doubts
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import Ear, VirtualTransports
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Versioned, root
from twinstar.store.endpoints import Patience as EndpointsPatience
from twinstar.store.kubernetes.access import Access, Identity
from twinstar.store.kubernetes.api import DEFAULT_PATIENCE, Patience
from twinstar.store.kubernetes.client import KubernetesStore
from twinstar.store.kubernetes.records import GROUP, Records

NAMESPACE = "twinstar"
SERVICE = Address("10.96.0.1", 443)
"""The address that clients know. Nobody is there: who calls it is sent on."""


class _Balanced(VirtualNetwork):
    """Whoever is called, it is one of the servers that the balancer takes for well."""

    def __init__(self, kubernetes: Kubernetes, wires: Wires, gate: Gate, host: str, clock: Clock) -> None:
        super().__init__(wires, gate, clock, VirtualTransports(wires, gate, host))
        self._kubernetes = kubernetes

    async def dial(
        self,
        to: Address,  # noqa: ARG002 - there is one that clients know
        tls: ssl.SSLContext | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await super().dial(Address(self._kubernetes.server_for_connection().host, KubernetesStorage.PORT), tls)


class KubernetesStorage(StoreMachines[EtcdServer]):
    """On each machine an API server and an etcd server: both are meant, unless one of them is named."""

    LATENCY_MS = (0.5, 4.0)
    PORT = 6443

    def __init__(self, wires: Wires, clock: Clock) -> None:
        self.kubernetes = Kubernetes(HOSTS, wires, clock)
        of_machine = {server.below: server for server in self.kubernetes.servers}
        super().__init__(self.kubernetes.etcd, lambda below, gate: Connection(of_machine[below], gate, self.doubts_of))
        self.kubernetes.objects.noticed = self._notice
        self.kubernetes.objects.reached = self._reach
        self._doubts: defaultdict[str, Doubts] = defaultdict(Doubts)
        self._specs: dict[str, Json] = {}
        """What counts in each object of ours."""
        self._written: dict[str, int] = {}
        """The revision at which that was changed."""
        self._known: dict[str, Versioned] = {}
        self._beside = asyncio.create_task(self.kubernetes.run())

    # -- its processes -------------------------------------------------------------------------------------------------

    @property
    def serves(self) -> bool:
        return super().serves and all(server.is_ready and server.cache.filled for server in self.kubernetes.servers)

    def start(self) -> None:
        super().start()
        for server in self.kubernetes.servers:
            if server.gate is None:
                self._start_api(server)

    async def close(self) -> None:
        self._beside.cancel()
        await asyncio.gather(super().close(), self._beside, self.kubernetes.objects.close(), return_exceptions=True)

    def kill(self, number: int) -> None:
        self.kill_api(number)
        self.kill_etcd(number)

    def kill_etcd(self, number: int) -> None:
        super().kill(number)

    def kill_api(self, number: int) -> None:
        server = self.kubernetes.servers[number]
        gate, server.gate = server.gate, None
        if gate is not None:
            gate.kill()

    def restart_api(self, number: int) -> None:
        self.kill_api(number)
        self._start_api(self.kubernetes.servers[number])

    def freeze(self, number: int) -> None:
        self.freeze_api(number)
        self.freeze_etcd(number)

    def freeze_etcd(self, number: int) -> None:
        super().freeze(number)

    def freeze_api(self, number: int) -> None:
        gate = self.kubernetes.servers[number].gate
        if gate is not None:
            gate.shut()

    def thaw(self) -> None:
        super().thaw()
        for server in self.kubernetes.servers:
            server.cache.extra_lag_ms = 0.0
            if server.gate is not None:
                server.gate.open()

    def _start(self, server: EtcdServer) -> None:
        """Etcd's process alone, whom no client knows."""
        server.gate = Gate()
        server.begin()

    def _start_api(self, server: ApiServer) -> None:
        gate = Gate()
        server.begin(gate)
        Ear(self.majority.wires, Address(server.host, self.PORT), lambda: self._serve(server.below, gate), gate)

    # -- what happens to it as a whole ---------------------------------------------------------------------------------

    def compact(self) -> None:
        self.kubernetes.compact()

    def note(self, key: str) -> None:
        """Other people write an annotation beside what stands there."""
        path, objects = _path(key), self.kubernetes.objects
        self.kubernetes.pass_on(lambda: objects.annotate(path, f"revision {objects.revision}"))

    def doubts_of(self, host: str) -> Doubts:
        return self._doubts[host]

    def lag(self, number: int, extra_ms: float) -> None:
        """A server's cache is behind by so much more, until `thaw`."""
        self.kubernetes.servers[number].cache.extra_lag_ms = extra_ms

    # -- who asks it ---------------------------------------------------------------------------------------------------

    def client(
        self, cluster: str, wires: Wires, gate: Gate, host: str, clock: Clock, patience: EndpointsPatience | None = None
    ) -> KubernetesStore:
        network = _Balanced(self.kubernetes, wires, gate, host, clock)
        access = Access(lambda: Identity(SERVICE, False, NAMESPACE))
        own = Patience(patience.deadline_ms, patience.silence_ms) if patience else DEFAULT_PATIENCE
        return KubernetesStore(access, NAMESPACE, cluster, clock, network, patience=own)

    # -- what is seen from outside -------------------------------------------------------------------------------------

    def read(self, key: str) -> Versioned | None:
        found = self.kubernetes.objects.read(_path(key))
        if found is None:
            return None
        known = self._known.get(key)
        if known is None or known.revision != found.revision:
            known = self._known[key] = _ours(served(found))
        return known

    def _reach(self, what: str) -> None:
        self.reached(what)

    def _notice(self, path: str, stored: bytes, applied: bool) -> None:
        """Somebody has asked for a change, of ours or of what else there is."""
        if not path.startswith(_OURS):
            return
        document = served(Versioned(path, stored, self.kubernetes.objects.revision))
        ours, spec = _ours(document), document["spec"]
        if not applied:
            if int(spec["after"]) >= self._written.get(path, 0):
                self.reached("refused over a note")
            self.noticed(ours.key, ours.value, False)
        elif spec == self._specs.get(path):
            self.reached("a note beside the register" if ours.key.endswith("/register") else "a note")
        else:
            self._specs[path], self._written[path] = spec, ours.revision
            self.noticed(ours.key, ours.value, True)


_OURS = f"/apis/{GROUP}/"


@cache
def _path(key: str) -> str:
    """Of the object, from a key below the root of its cluster."""
    _, _, cluster, own_key = key.split("/", 3)
    return Records(cluster, NAMESPACE).path(own_key)


def _ours(document: Json) -> Versioned:
    """What an object holds; the reverse."""
    cluster = document["spec"]["cluster"]
    found = Records(cluster, NAMESPACE).read(document)
    return Versioned(root(cluster) + found.key, found.value, found.revision)
