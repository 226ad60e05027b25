"""Which programs make a local cluster, and how each is started."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from twinstar.cli.local_files import LocalFiles
from twinstar.cli.namespaces import Network
from twinstar.cli.own_kubernetes import KUBERNETES, OwnKubernetes
from twinstar.cli.own_zookeeper import ZOOKEEPER, command
from twinstar.config.derive import guard_settings, witness_named
from twinstar.config.managed import keeper_settings, places
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
    if config.store.managed is not None:
        return [each for place in places(config) for each in keeper_programs(config, files, place.name)]
    if config.store.etcd is not None and files.etcd.is_dir():
        return _placed(files, etcd_programs(config.store.etcd.endpoints, files.etcd))
    if config.store.kubernetes is not None and files.kubernetes.is_dir():
        own = OwnKubernetes(files.kubernetes)
        commands = zip(KUBERNETES, (own.etcd_command(), own.server_command()), strict=True)
        return [Program(name, "store", "", argv) for name, argv in commands]
    if config.store.zookeeper is not None and files.zookeeper.is_dir():
        servers = [Program(name, "store", "", command(files.zookeeper / name)) for name in ZOOKEEPER]
        return _placed(files, servers)
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


def keeper_programs(config: Config, files: LocalFiles, node: str) -> list[Program]:
    """The store keeper of a node or witness; none where the managed store has no member. Raises UsageError."""
    if node not in {place.name for place in places(config)}:
        return []
    settings = _settings(files, f"store-{node}.json", keeper_settings(config, node))
    return _placed(files, [Program(f"{node} store", "store", node, _module("twinstar.store.managed", settings))])


def node_programs(config: Config, files: LocalFiles, node: str) -> list[Program]:
    """The guard and the agent of a node, in the order in which they are started."""
    agent = Program(
        f"{node} agent", "agent", node, _module("twinstar.agent", "--config", str(files.config), "--node", node)
    )
    if config.strategy == "active-active":  # Nobody leads, so there is no leader to guard, or to hear for others.
        return [] if witness_named(config, node) else _placed(files, [agent])
    settings = _settings(files, f"guard-{node}.json", guard_settings(config, node))
    guard = Program(f"{node} guard", "guard", node, _module("twinstar.guard", settings))
    return _placed(files, [guard, agent])


def _settings(files: LocalFiles, name: str, text: str) -> str:
    """Writes them for a program that reads no configuration; their path."""
    file = files.settings / name
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


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
