"""A whole cluster on this machine: free ports on the loopback, data where the database's user can reach it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinstar.config.load import parse
from twinstar.config.plan import NodeText, Plan, StoreText, WitnessText
from twinstar.config.schema import Config, Strategy
from twinstar.config.template import render
from twinstar.model.errors import UsageError

FindPorts = Callable[[str, int], list[int]]
"""(host, count) → ports that are free for TCP and UDP: `ports.free_ports.find_free_ports`."""

_PER_NODE = 4
_ROUTER = 3
_PER_WITNESS = 2
_EXAMPLES = {"etcd": "http://127.0.0.1:2379", "zookeeper": "127.0.0.1:2181"}


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """The file's text, and what it says."""

    text: str
    config: Config


def data_home(cluster: str) -> Path:
    """Where a local cluster's data goes: below `XDG_DATA_HOME` when that is set; else below /var/lib/twinstar when
    root, since the database runs as a system user that cannot enter root's home, or below one's own ~/.local/share.
    """
    xdg = os.environ.get("XDG_DATA_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg) / "twinstar" / cluster
    if os.geteuid() == 0:
        return Path("/var/lib/twinstar") / cluster
    return Path.home() / ".local" / "share" / "twinstar" / cluster


def local_config(
    *,
    find_ports: FindPorts,
    file: Path,
    cluster: str = "twinstar",
    nodes: int = 3,
    strategy: Strategy = "active-passive",
    durability: str | None = None,
    store: str = "embedded",
    witnesses: int = 0,
    endpoints: tuple[str, ...] = (),
    kubeconfig: Path | None = None,
    preset: str = "fast",
    policy: str | None = None,
    host: str = "127.0.0.1",
    hosts: Mapping[str, str] | None = None,
    directory: Path | None = None,
    secrets: Path | None = None,
    bin_dir: Path | None = None,
    lease_ms: int | None = None,
    insecure: bool = False,
    managed_port: int | None = None,
) -> LocalCluster:
    """The commented configuration of a cluster on `host` (an IPv4 or IPv6 loopback), to be written to `file`.

    `hosts`: where nodes and ``router`` are that have another address of this machine; ports are looked for on `host`.
    `endpoints`, `kubeconfig`: of such a store. `managed_port`: the first of as many as its members need, two each.
    Raises UsageError for what `load` would refuse, two nodes without a `policy` among it.
    """
    if lease_ms is not None and strategy == "active-active":
        raise UsageError("In active-active nobody leads, so there is no lease: leave --lease-ms out.")
    base = directory or data_home(cluster)
    count = nodes * _PER_NODE + _ROUTER + witnesses * _PER_WITNESS
    ports = find_ports(host, count)
    at = hosts or {}
    names = [f"n{index + 1}" for index in range(nodes)]
    members = tuple(_node(name, at.get(name, host), ports[i * _PER_NODE :], base) for i, name in enumerate(names))
    main_port, read_port, notice_port, *rest = ports[nodes * _PER_NODE :]
    beside = tuple(
        _witness(name, at.get(name, host), rest[i * _PER_WITNESS :], base)
        for i, name in enumerate(witness_names(witnesses))
    )
    plan = Plan(
        cluster=cluster,
        strategy=strategy,
        durability=durability,
        policy=policy,
        preset=preset,
        lease_ms=lease_ms,
        secrets=secrets or base / "secrets",
        store=_store(store, endpoints, kubeconfig, base, managed_port),
        witnesses=beside,
        nodes=members,
        router_bind=(at.get("router", host),),
        router_ports=(main_port, read_port, notice_port),
        bin_dir=bin_dir,
        insecure=insecure,
    )
    text = render(plan)
    return LocalCluster(text, parse(text, file))


def _node(name: str, host: str, ports: list[int], base: Path) -> NodeText:
    return NodeText(name, host, (ports[0], ports[1], ports[2], ports[3]), base / name)


def witness_names(witnesses: int) -> tuple[str, ...]:
    return tuple(f"w{index + 1}" for index in range(witnesses))


def _witness(name: str, host: str, ports: list[int], base: Path) -> WitnessText:
    return WitnessText(name, host, (ports[0], ports[1]), base / name)


def _store(
    kind: str, endpoints: tuple[str, ...], kubeconfig: Path | None, base: Path, managed_port: int | None
) -> StoreText:
    if kind == "managed":
        return StoreText(managed_port=managed_port)
    if kind == "embedded":
        return StoreText(socket=base / "store" / "store.sock", file=base / "store" / "store.sqlite")
    if kind in _EXAMPLES and endpoints:
        return StoreText(endpoints=endpoints, kind=kind)
    if kind in _EXAMPLES:
        raise UsageError(f"The store {kind} needs endpoints: name them, such as --{kind} {_EXAMPLES[kind]}.")
    if kind == "kubernetes" and kubeconfig:
        return StoreText(kubeconfig=kubeconfig, kind=kind)
    if kind == "kubernetes":
        raise UsageError("The store kubernetes needs to be reached: name a file, such as --kubeconfig ~/.kube/config.")
    raise UsageError(f"There is no store {kind!r}: choose embedded, managed, {', '.join(_EXAMPLES)} or kubernetes.")
