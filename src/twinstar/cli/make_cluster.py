"""Makes the configuration, secrets and folders of a cluster on this machine: for `up`, `drill` and `demo`."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets as tokens
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twinstar.cli import own_kubernetes
from twinstar.cli.local_files import CONFIG_NAME, LocalFiles
from twinstar.cli.namespaces import Network
from twinstar.cli.own_zookeeper import ZOOKEEPER, reserve
from twinstar.cli.programs import ETCD, PEERS
from twinstar.config.dsn import write_passfile
from twinstar.config.load import load
from twinstar.config.local import data_home, local_config, witness_names
from twinstar.config.managed import places, program
from twinstar.config.schema import Config, ManagedStore, Strategy
from twinstar.config.secrets import Secrets
from twinstar.engine.postgresql.shared_memory import release_of
from twinstar.model.errors import EnvironmentTrouble, TwinstarError, UsageError
from twinstar.ports.free_ports import find_free_ports, find_ports_in_a_row

_HOST = "127.0.0.1"
_SERVERS = {"etcd": ETCD, "zookeeper": ZOOKEEPER}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants of a cluster on this machine; the rest has defaults."""

    nodes: int = 3
    strategy: Strategy = "active-passive"
    durability: str | None = None
    """None: what the strategy has."""
    store: str = "embedded"
    witnesses: int = 0
    policy: str | None = None
    preset: str = "fast"
    bin_dir: Path | None = None
    lease_ms: int | None = None


def hosts_of(wishes: Wishes) -> tuple[str, ...]:
    """Whoever needs an address in a network of the cluster's own (`network`)."""
    nodes = tuple(f"n{number + 1}" for number in range(wishes.nodes))
    return (*nodes, *witness_names(wishes.witnesses), *_SERVERS.get(wishes.store, ()), "router")


def make_cluster(folder: Path, wishes: Wishes, base: Path | None = None, network: Network | None = None) -> Path:
    """Writes `twinstar.yaml` into `folder` and returns its path; data goes below `base`. Raises UsageError.

    `network`: each node, the router and each server of the store are at a host of their own in it (`hosts_of`).
    """
    file = folder / CONFIG_NAME
    if file.exists():
        raise UsageError(
            f"{file} exists already: start that cluster with `twinstar up` without further options, "
            "or change to an empty folder for a new one."
        )
    if wishes.nodes < 1:
        raise UsageError(f"A cluster of {wishes.nodes} nodes serves nobody: choose --nodes 3.")
    if network is not None:
        network.write(LocalFiles(file).network)
    endpoints = _own_store(wishes.store, LocalFiles(file), network)
    made = local_config(
        find_ports=find_free_ports,
        file=file,
        nodes=wishes.nodes,
        strategy=wishes.strategy,
        durability=wishes.durability,
        store=wishes.store,
        witnesses=wishes.witnesses,
        managed_port=_managed_port(wishes),
        endpoints=endpoints,
        kubeconfig=own_kubernetes.reserve(LocalFiles(file).kubernetes) if wishes.store == "kubernetes" else None,
        preset=wishes.preset,
        policy=wishes.policy,
        directory=base or _base_for(folder),
        bin_dir=wishes.bin_dir,
        lease_ms=wishes.lease_ms,
        hosts={host: network.address(host) for host in network.hosts} if network else None,
        insecure=network is not None,  # No packet leaves the machine.
    )
    file.write_text(made.text, encoding="utf-8")
    return file


def _managed_port(wishes: Wishes) -> int | None:
    """Two for each member. Raises EnvironmentTrouble."""
    if wishes.store != "managed":
        return None
    program(ManagedStore())
    return find_ports_in_a_row(_HOST, 2 * (wishes.nodes + wishes.witnesses))


def prepare(config: Config) -> None:
    """Folders and secrets that a local cluster needs, as far as they are missing. Raises UsageError."""
    try:
        for node in config.nodes:
            node.directory.mkdir(parents=True, exist_ok=True)
            (node.directory / "state").mkdir(mode=0o700, exist_ok=True)  # The guard starts before its agent.
        for witness in config.witnesses:
            (witness.directory / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in places(config):
            place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if config.store.embedded is not None:
            for path in (config.store.embedded.socket, config.store.embedded.file):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as trouble:
        raise UsageError(
            f"{trouble.filename} cannot be made ({trouble.strerror}): choose directories that you may write to."
        ) from None
    secrets = Secrets(config.secrets)
    if secrets.missing():
        secrets.make()
    write_passfile(config, secrets)


@contextlib.contextmanager
def throw_away(
    wishes: Wishes, purpose: str, network: Network | None = None, remove: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """A new cluster's configuration in a folder of its own, removed with everything in it at the end: by `remove`, if
    that is not to be waited for.

    When something went wrong the logs stay, and their place is said on standard error.
    """
    folder = data_home(f"{purpose}-{tokens.token_hex(3)}")
    try:
        folder.mkdir(parents=True)
    except OSError as trouble:
        raise EnvironmentTrouble(
            f"{folder} cannot be made ({trouble.strerror}): set XDG_DATA_HOME to a folder that you may write to."
        ) from None
    try:
        yield make_cluster(folder, wishes, base=folder, network=network)
    except TwinstarError:
        _keep_logs(folder)
        raise
    finally:
        for pid_file in folder.glob("*/data/postmaster.pid"):
            release_of(pid_file.parent)
        (remove or _remove)(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(folder: Path) -> None:
    """The programs' logs and the databases', beside the folder that is about to be removed."""
    kept = folder.with_name(f"{folder.name}-logs")
    logs = {"twinstar": folder / ".twinstar" / "log"}
    logs |= {log.parent.name: log for log in folder.glob("*/log")}
    for name, log in logs.items():
        if log.is_dir():
            shutil.copytree(log, kept / name, dirs_exist_ok=True)
    if kept.exists():
        sys.stderr.write(f"The logs are kept in {kept}.\n")


def load_prepared(file: Path) -> Config:
    """The configuration, with everything made that `up` needs. Raises UsageError."""
    config = load(file)
    prepare(config)
    return config


def _base_for(folder: Path) -> Path:
    """Two folders with clusters of the same name must not share their data."""
    word = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:20] or "cluster"
    return data_home(f"{word}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}")


def _own_store(kind: str, files: LocalFiles, network: Network | None) -> tuple[str, ...]:
    """Where the servers of a store of this cluster's own will be; empty for the embedded one."""
    if kind == "etcd":
        return _own_etcd(files, network)
    if kind == "zookeeper":
        return reserve(files.zookeeper, [network.address(server) if network else _HOST for server in ZOOKEEPER])
    return ()


def _own_etcd(files: LocalFiles, network: Network | None) -> tuple[str, ...]:
    """Reserves ports for three etcd processes of this cluster; returns their endpoints. Raises EnvironmentTrouble."""
    if shutil.which("etcd") is None:
        raise EnvironmentTrouble(
            "etcd is not installed: install it (on Debian `apt-get install etcd-server`), or choose --store embedded."
        )
    hosts = 2 * [network.address(member) if network else _HOST for member in ETCD]
    urls = [f"http://{host}:{port}" for host, port in zip(hosts, find_free_ports(_HOST, len(hosts)), strict=True)]
    files.etcd.mkdir(mode=0o700, parents=True, exist_ok=True)
    (files.etcd / PEERS).write_text("\n".join(urls[len(ETCD) :]))
    return tuple(urls[: len(ETCD)])
