"""Which programs make a local cluster, and how each is started."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from twinstar.cli.local_files import LocalFiles
from twinstar.config.derive import guard_settings
from twinstar.config.schema import Config

PEERS = "peers"


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
        return etcd_programs(config.store.etcd.endpoints, files.etcd)
    return []


def etcd_programs(endpoints: tuple[str, ...], folder: Path) -> list[Program]:
    """One etcd per endpoint; the addresses among themselves are in the folder's `PEERS` file, one a line."""
    peers = (folder / PEERS).read_text().split()
    cluster = ",".join(f"etcd{i}={peer}" for i, peer in enumerate(peers, 1))
    return [
        Program(
            f"etcd{i}",
            "store",
            "",
            (
                *("etcd", "--name", f"etcd{i}", "--data-dir", str(folder / f"etcd{i}")),
                *("--listen-client-urls", endpoint, "--advertise-client-urls", endpoint),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new"),
                *("--heartbeat-interval", "100", "--election-timeout", "1000", "--log-level", "warn"),
            ),
        )
        for i, (endpoint, peer) in enumerate(zip(endpoints, peers, strict=True), 1)
    ]


def node_programs(config: Config, files: LocalFiles, node: str) -> list[Program]:
    """The guard and the agent of a node, in the order in which they are started."""
    settings = files.settings / f"guard-{node}.json"
    settings.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.write_text(guard_settings(config, node))
    return [
        Program(f"{node} guard", "guard", node, _module("twinstar.guard", str(settings))),
        Program(
            f"{node} agent", "agent", node, _module("twinstar.agent", "--config", str(files.config), "--node", node)
        ),
    ]


def router_programs(config: Config, files: LocalFiles) -> list[Program]:
    if config.router is None:
        return []
    return [Program("router", "router", "", _module("twinstar.router", "--config", str(files.config)))]


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
