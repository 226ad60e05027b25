"""What follows from the configuration: defaults that depend on other values, and each node's own view of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from twinstar.config.schema import Config, Node, Tls, Witness
from twinstar.config.secrets import Secret
from twinstar.config.tls import tls_for
from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability
from twinstar.model.timing import LeaseTimes, Timings

Policy = Literal["block", "degrade"]
Endpoint = Literal["write", "read", "any"]
"""What a router listens for: `write` and `read` in active-passive, `any` and `read` in active-active."""
SYSTEM_USER = "twinstar"


def main_endpoint(config: Config) -> Endpoint:
    """The one for sessions that write."""
    return "write" if config.strategy == "active-passive" else "any"


def endpoints(config: Config) -> dict[Endpoint, int]:
    """The router's endpoints with their ports, the one for writes first; empty without a router."""
    router = config.router
    if router is None:
        return {}
    main = main_endpoint(config)
    port = router.write_port if main == "write" else router.any_port
    assert port is not None, "refused when the file was read (`strategies.ports_of_the_strategy`)"
    return {main: port, "read": router.read_port}


def copies(config: Config) -> frozenset[str]:
    """The data nodes: those whose copy counts and that may lead."""
    return frozenset(node.name for node in config.nodes if not node.tags.nofailover)


def required(config: Config) -> int:
    """Other nodes that must have a commit on disk: with `quorum` half of the data nodes, rounded down, unless written.

    With that any majority of the copies makes progress (`docs/protocol.md`, "How many"). 0 with `async`.
    """
    if config.durability is Durability.ASYNC:
        return 0
    return config.required if config.required is not None else len(copies(config)) // 2


def policy(config: Config) -> Policy:
    return config.policy or "block"


def timings(config: Config) -> Timings:
    """The preset's durations with the file's overrides. Raises UsageError when they cannot stand together."""
    return Timings.preset(config.preset, config.timing.model_dump(exclude={"renewal_ms"}))


def renewal_ms(config: Config) -> float:
    return lease_times(config).renewal_ms


def lease_times(config: Config) -> LeaseTimes:
    """`async` alone."""
    return LeaseTimes.of(config.lease_ms, config.timing.renewal_ms)


def node(config: Config, name: str) -> Node:
    """The node's entry. Raises UsageError when there is none of this name."""
    found = next((node for node in config.nodes if node.name == name), None)
    if found is None:
        raise UsageError(f"There is no node {name!r}: choose one of {', '.join(n.name for n in config.nodes)}.")
    return found


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where one member is reached."""

    database: Address
    api: Address
    agent: Address
    guard: Address


def addresses(node: Node) -> Addresses:
    """Where the others and the clients reach this node."""
    return _addresses(node, node.host)


def bind_addresses(node: Node) -> Addresses:
    """Where this node itself listens."""
    return _addresses(node, node.bind or node.host)


def witness_addresses(witness: Witness, *, bind: bool = False) -> tuple[Address, Address]:
    """The agent's and the guard's; `bind`: where they listen themselves."""
    host = witness.bind or witness.host if bind else witness.host
    return Address(host, witness.agent_port), Address(host, witness.guard_port)


def _addresses(node: Node, host: str) -> Addresses:
    return Addresses(*(Address(host, port) for port in (node.port, node.api_port, node.agent_port, node.guard_port)))


def tls_of(config: Config, name: str) -> Tls | None:
    """The TLS files of a node (or of ``router``, ``client``); None without TLS."""
    return tls_for(config.tls, name) if config.tls else None


def after_the_move(config: Config) -> Config:
    """The configuration when the register is in `next_store`."""
    assert config.next_store is not None
    return config.model_copy(update={"store": config.next_store, "next_store": None})


def store_tls(config: Config, name: str) -> Tls | None:
    """The TLS files with which a node (or ``router``) speaks to the store."""
    store = config.store.etcd or config.store.zookeeper
    return tls_for(store.tls, name) if store and store.tls else None


def system_user(config: Config) -> str:
    """Who runs the database when the agent is root."""
    return config.postgresql.system_user or SYSTEM_USER


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node's part of the configuration, resolved: what its agent and its guard work with."""

    cluster: str
    node: Node
    bind: Addresses
    peers: dict[str, Addresses]
    """Every member, this one included."""
    may_lead: bool
    durability: Durability
    required: int
    policy: Policy
    timings: Timings
    lease: LeaseTimes | None
    """None with `quorum`."""
    tls: Tls | None


def node_settings(config: Config, name: str) -> NodeSettings:
    """Raises UsageError when there is no such node."""
    own = node(config, name)
    return NodeSettings(
        cluster=config.cluster,
        node=own,
        bind=bind_addresses(own),
        peers={peer.name: addresses(peer) for peer in config.nodes},
        may_lead=not own.tags.nofailover,
        durability=config.durability,
        required=required(config),
        policy=policy(config),
        timings=timings(config),
        lease=lease_times(config) if config.durability is Durability.ASYNC else None,
        tls=tls_of(config, name),
    )


def witness_named(config: Config, name: str) -> Witness | None:
    """None when there is no witness of this name."""
    return next((witness for witness in config.witnesses if witness.name == name), None)


def _guard_peers(config: Config, name: str) -> list[dict[str, object]]:
    """Every other node and witness: where its agent and its guard hear datagrams."""
    places = {node.name: (addresses(node).agent, addresses(node).guard) for node in config.nodes}
    places |= {witness.name: witness_addresses(witness) for witness in config.witnesses}
    return [
        {"member": member, "agent": asdict(agent), "guard": asdict(guard)}
        for member, (agent, guard) in places.items()
        if member != name
    ]


def _witness_guard(config: Config, witness: Witness) -> str:
    folder, pace = witness.directory.absolute(), timings(config)
    agent, guard = witness_addresses(witness, bind=True)
    document = {
        "cluster": config.cluster,
        "member": witness.name,
        "secret_file": str(config.secrets.absolute() / Secret.WIRE),
        "bind": asdict(guard),
        "agent": asdict(agent),
        "data_directory": str(folder / "data"),
        "state_file": str(folder / "state" / "guard.json"),
        "peers": _guard_peers(config, witness.name),
        "heartbeat_ms": pace.heartbeat_ms,
        "stall_ms": pace.stall_ms,
        "engine_kill_allowed": False,
    }
    return json.dumps(document, indent=2, sort_keys=True)


def guard_settings(config: Config, name: str) -> str:
    """The JSON document that a node's guard is started with (`guard.settings` reads it). Raises UsageError.

    The guard knows nothing of this configuration: it is the standard library alone. A witness's finds no database.
    """
    witness = witness_named(config, name)
    if witness is not None:
        return _witness_guard(config, witness)
    settings = node_settings(config, name)
    own, folder, pace = settings.node, settings.node.directory.absolute(), settings.timings
    document = {
        "cluster": settings.cluster,
        "member": name,
        "secret_file": str(config.secrets.absolute() / Secret.WIRE),
        "bind": asdict(settings.bind.guard),
        "agent": asdict(settings.bind.agent),
        "data_directory": str(folder / "data"),
        "state_file": str(folder / "state" / "guard.json"),
        "peers": _guard_peers(config, name),
        "database_socket": str(folder / "run" / f".s.PGSQL.{own.port}"),
        "database": asdict(settings.bind.database),
        "durability": settings.durability.value,
        "lease_ms": settings.lease.lease_ms if settings.lease else 0,
        "heartbeat_ms": pace.heartbeat_ms,
        "stall_ms": pace.stall_ms,
        "guard_grace_ms": pace.guard_grace_ms,
        "agent_silent_ms": pace.agent_silent_ms,
        "hung_query_ms": pace.hung_query_ms,
        "hung_strikes": pace.hung_strikes,
    }
    return json.dumps(document, indent=2, sort_keys=True)
