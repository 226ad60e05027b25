"""The kinds of store: which model stands for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinstar.ports.clock import Clock
from twinstar.simulation.plan import StoreKind
from twinstar.simulation.stores.etcd_gateway import EtcdStorage
from twinstar.simulation.stores.kubernetes_machines import KubernetesStorage
from twinstar.simulation.stores.machines import StoreMachines
from twinstar.simulation.stores.memory import MemoryServer
from twinstar.simulation.stores.zookeeper_server import ZooKeeperStorage
from twinstar.simulation.world.wires import Wires

_MACHINES: dict[StoreKind, Callable[[Wires, Clock], StoreMachines[Any]]] = {
    StoreKind.ETCD: EtcdStorage,
    StoreKind.ZOOKEEPER: ZooKeeperStorage,
    StoreKind.KUBERNETES: KubernetesStorage,
}
_EMBEDDED_MS = (0.1, 1.0)


def storage(kind: StoreKind, wires: Wires, clock: Clock) -> MemoryServer:
    """A whole store; its servers, if it has some, do not run yet."""
    return _MACHINES[kind](wires, clock) if kind in _MACHINES else MemoryServer()


def latency_ms(server: MemoryServer) -> tuple[float, float]:
    """Of a healthy one: one way, from and to."""
    return server.LATENCY_MS if isinstance(server, StoreMachines) else _EMBEDDED_MS
