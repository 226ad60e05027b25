"""A whole cluster on this machine: free ports on the loopback, data where the database's user can reach it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinstar.config.load import parse
from twinstar.config.plan import NodeText, Plan, StoreText
from twinstar.config.schema import Config, Strategy
from twinstar.config.template import render
from twinstar.model.errors import UsageError

FindPorts = Callable[[str, int], list[int]]
"""(host, count) → ports that are free for TCP and UDP: `ports.free_ports.find_free_ports`."""

_PER_NODE = 4
_ROUTER = 3


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """The file's text, and what it says."""

    text: str
    config: Config


def data_home(cluster: str, *, is_root: bool | None = None) -> Path:
    """Where a local cluster's data goes: below /var/lib/twinstar when root, since the database runs as a system user
    that cannot enter root's home; else below the user's own XDG data directory.
    """
    root = os.geteuid() == 0 if is_root is None else is_root
    if root:
        return Path("/var/lib/twinstar") / cluster
    xdg = os.environ.get("XDG_DATA_HOME", "")
    home = Path(xdg) if xdg.startswith("/") else Path.home() / ".local" / "share"
    return home / "twinstar" / cluster


def local_config(
    *,
    find_ports: FindPorts,
    file: Path,
    cluster: str = "twinstar",
    nodes: int = 3,
    strategy: Strategy = "active-passive",
    durability: str | None = None,
    store: str = "embedded",
    etcd_endpoints: tuple[str, ...] = (),
    preset: str = "fast",
    policy: str | None = None,
    host: str = "127.0.0.1",
    hosts: Mapping[str, str] | None = None,
    directory: Path | None = None,
    secrets: Path | None = None,
    bin_dir: Path | None = None,
    lease_ms: int | None = None,
    insecure: bool = False,
) -> LocalCluster:
    """The commented configuration of a cluster on `host` (an IPv4 or IPv6 loopback), to be written to `file`.

    `hosts`: where nodes and ``router`` are that have another address of this machine; ports are looked for on `host`.
    Raises UsageError for what `load` would refuse, two nodes without a `policy` among it.
    """
    if lease_ms is not None and strategy == "active-active":
        raise UsageError("In active-active nobody leads, so there is no lease: leave --lease-ms out.")
    base = directory or data_home(cluster)
    ports = find_ports(host, nodes * _PER_NODE + _ROUTER)
    at = hosts or {}
    names = [f"n{index + 1}" for index in range(nodes)]
    members = tuple(_node(name, at.get(name, host), ports[i * _PER_NODE :], base) for i, name in enumerate(names))
    main_port, read_port, notice_port = ports[nodes * _PER_NODE :]
    plan = Plan(
        cluster=cluster,
        strategy=strategy,
        durability=durability,
        policy=policy,
        preset=preset,
        lease_ms=lease_ms,
        secrets=secrets or base / "secrets",
        store=_store(store, etcd_endpoints, base),
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


def _store(kind: str, endpoints: tuple[str, ...], base: Path) -> StoreText:
    if kind == "embedded":
        return StoreText(socket=base / "store" / "store.sock", file=base / "store" / "store.sqlite")
    if kind == "etcd" and endpoints:
        return StoreText(endpoints=endpoints)
    if kind == "etcd":
        raise UsageError("The store etcd needs endpoints: name them, such as --etcd http://127.0.0.1:2379.")
    raise UsageError(f"There is no store {kind!r}: choose embedded or etcd.")
