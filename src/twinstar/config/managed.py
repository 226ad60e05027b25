"""The store that Twinstar runs, out of the configuration: where its members are, and what each keeper is told."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from twinstar.config.derive import timings, tls_of
from twinstar.config.schema import Config, EtcdStore, ManagedStore, Node, Store, Witness
from twinstar.config.secrets import Secret
from twinstar.model.address import Address
from twinstar.model.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """One member of the managed store."""

    name: str
    host: str
    bind: str
    port: int
    """Of clients; the next one is for the members among themselves."""
    directory: Path

    @property
    def client(self) -> Address:
        return Address(self.host, self.port)

    @property
    def peer(self) -> Address:
        return Address(self.host, self.port + 1)


def _managed(config: Config) -> ManagedStore | None:
    """Also the one that the register is to move to: it has to be there before."""
    return config.store.managed or (config.next_store.managed if config.next_store else None)


def places(config: Config) -> tuple[Place, ...]:
    """The managed store's members, the founder first; empty when the store is somebody else's."""
    store = _managed(config)
    if store is None:
        return ()
    machines: list[Node | Witness] = [node for node in config.nodes if not store.members or node.name in store.members]
    machines += config.witnesses
    found: list[Place] = []
    before: Counter[str] = Counter()
    for each in machines:
        port = store.port + 2 * before[each.host]
        found.append(Place(each.name, each.host, each.bind or each.host, port, each.directory / "store"))
        before[each.host] += 1
    return tuple(found)


def store_settings(config: Config, name: str) -> Store:
    """The store as a client on the node `name` (or ``router``, ``client``) opens it: a managed one is an etcd whose
    first endpoint is the member of this node.
    """
    if config.store.managed is None:
        return config.store
    found = places(config)
    scheme = "https" if config.tls else "http"
    near_first = sorted(found, key=lambda place: place.name != name)
    endpoints = tuple(f"{scheme}://{place.client}" for place in near_first)
    return Store(etcd=EtcdStore(endpoints=endpoints, tls=config.tls))


def keeper_settings(config: Config, name: str) -> str:
    """The JSON document that a node's store keeper is started with (`store.managed.settings` reads it). Raises
    UsageError when no member of the store is there.
    """
    found, store = places(config), _managed(config)
    own = next((place for place in found if place.name == name), None)
    if own is None or store is None:
        have = ", ".join(place.name for place in found) or "nobody: `store.managed` is not in the configuration"
        raise UsageError(f"{name} has no member of the store: those that have one are {have}.")
    tls = tls_of(config, name)
    document = {
        "cluster": config.cluster,
        "name": name,
        "secret_file": str(config.secrets.absolute() / Secret.WIRE),
        "program": program(store),
        "folder": str(own.directory.absolute()),
        "quota_bytes": store.quota_bytes,
        "heartbeat_ms": round(timings(config).heartbeat_ms / 2),
        "bind": own.bind,
        "members": [
            {"name": place.name, "client": asdict(place.client), "peer": asdict(place.peer)} for place in found
        ],
        "tls": {key: str(path) for key, path in tls} if tls else None,
    }
    return json.dumps(document, indent=2, sort_keys=True)


def program(store: ManagedStore) -> str:
    """The path of etcd. Raises UsageError when it is not installed."""
    path = store.program or shutil.which("etcd")
    if path is None or not Path(path).is_file():
        raise UsageError(
            f"etcd is not installed{f' at {path}' if path else ''}: install it (on Debian `apt-get install "
            "etcd-server`), or name its program in `store.managed.program`."
        )
    return str(path)
