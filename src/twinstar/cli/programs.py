"""Which programs make a local cluster, and how each is started."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from twinstar.cli.local_files import LocalFiles
from twinstar.cli.namespaces import Network
from twinstar.config.derive import guard_settings
from twinstar.config.schema import Config

PEERS = "peers"
ETCD = ("etcd1", "etcd2", "etcd3")


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start. `node` is empty for what belongs to no node."""

    name: str
    kind: str
    node: str
    argv: tuple[str, ...]


def store_programs(config: Config, files: LocalFiles) -> list[Program]:
    """The store's processes; none when the store is somebody else's."""
    if config.store.embedded is not None:
        store = config.store.embedded
        argv = _module("twinstar.store.embedded", "--socket", str(store.socket), "--file", str(store.file))
        return [Program("store", "store", "", argv)]
    if config.store.etcd is not None and files.etcd.is_dir():
        return _placed(files, etcd_programs(config.store.etcd.endpoints, files.etcd))
    return []


def etcd_programs(endpoints: tuple[str, ...], folder: Path) -> list[Program]:
    """One etcd per endpoint; the addresses among themselves are in the folder's `PEERS` file, one a line."""
    peers = (folder / PEERS).read_text().split()
    cluster = ",".join(f"{name}={peer}" for name, peer in zip(ETCD, peers, strict=True))
    return [
        Program(
            name,
            "store",
            "",
            (
                *("etcd", "--name", name, "--data-dir", str(folder / name)),
                *("--listen-client-urls", endpoint, "--advertise-client-urls", endpoint),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new"),
                *("--heartbeat-interval", "100", "--election-timeout", "1000", "--log-level", "warn"),
            ),
        )
        for name, endpoint, peer in zip(ETCD, endpoints, peers, strict=True)
    ]


def node_programs(config: Config, files: LocalFiles, node: str) -> list[Program]:
    """The guard and the agent of a node, in the order in which they are started."""
    agent = Program(
        f"{node} agent", "agent", node, _module("twinstar.agent", "--config", str(files.config), "--node", node)
    )
    if config.strategy == "active-active":
        return _placed(files, [agent])  # Nobody leads, so there is no leader to guard.
    settings = files.settings / f"guard-{node}.json"
    settings.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.write_text(guard_settings(config, node))
    guard = Program(f"{node} guard", "guard", node, _module("twinstar.guard", str(settings)))
    return _placed(files, [guard, agent])


def router_programs(config: Config, files: LocalFiles) -> list[Program]:
    if config.router is None:
        return []
    return _placed(files, [Program("router", "router", "", _module("twinstar.router", "--config", str(files.config)))])


def _placed(files: LocalFiles, programs: list[Program]) -> list[Program]:
    """Each at its host, when this cluster has a network of its own."""
    network = Network.read(files.network)
    if network is None:
        return programs
    return [replace(each, argv=(*network.enter(each.node or each.name), *each.argv)) for each in programs]


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
