"""A cluster on machines of its own: the same ports on each, certificates, and the store beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twinstar.config.local import data_home
from twinstar.config.plan import NodeText, Plan, StoreText, WitnessText
from twinstar.config.schema import Strategy

_NODE_PORTS = (5432, 8008, 7432, 7433)
"""Database, HTTP, agent's and guard's datagrams."""
MANAGED_PORT = 2379
_ROUTER_PORTS = (6432, 6433, 6434)


def plan_for_machines(
    nodes: Sequence[tuple[str, str]],
    store: StoreText,
    *,
    witnesses: Sequence[tuple[str, str]] = (),
    cluster: str = "twinstar",
    strategy: Strategy = "active-passive",
    durability: str | None = None,
    required: int | None = None,
    policy: str | None = None,
    preset: str = "balanced",
    lease_ms: int | None = None,
    removal_ms: int | None = None,
    insecure: bool = False,
    bin_dir: Path | None = None,
) -> Plan:
    """`nodes`: (name, host); `store`: where it is. A router runs on every node's host."""
    hosts = tuple(host for _, host in nodes)
    base = data_home(cluster)
    encrypted = any(url.startswith("https:") for url in store.endpoints) or (store.kind == "zookeeper" and not insecure)
    return Plan(
        cluster=cluster,
        secrets=Path("secrets"),
        store=replace(store, certificates=encrypted),
        witnesses=tuple(WitnessText(name, host, _NODE_PORTS[2:], base / name) for name, host in witnesses),
        nodes=tuple(NodeText(name, host, _NODE_PORTS, base / name) for name, host in nodes),
        router_bind=("::",) if any(":" in host for host in hosts) else ("0.0.0.0",),  # noqa: S104 (clients are elsewhere)
        router_ports=_ROUTER_PORTS,
        router_hosts=hosts,
        strategy=strategy,
        durability=durability,
        required=required,
        policy=policy,
        preset=preset,
        lease_ms=lease_ms,
        removal_ms=removal_ms,
        insecure=insecure,
        certificates=None if insecure else Path("certificates"),
        bin_dir=bin_dir,
    )
