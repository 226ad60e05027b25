"""What follows from the configuration: defaults that depend on other values, and each node's own view of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel

from twinstar.config.schema import Config, Node, Tls
from twinstar.config.tls import tls_for
from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability
from twinstar.model.timing import LeaseTimes, Timings

Policy = Literal["block", "degrade"]
SYSTEM_USER = "twinstar"


def copies(config: Config) -> frozenset[str]:
    """The data nodes: those whose copy counts and that may lead."""
    return frozenset(node.name for node in config.nodes if not node.tags.nofailover)


def required(config: Config) -> int:
    """Voters that must have flushed a commit: with `quorum` half of the data nodes, rounded down, unless written.

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


def _addresses(node: Node, host: str) -> Addresses:
    return Addresses(*(Address(host, port) for port in (node.port, node.api_port, node.agent_port, node.guard_port)))


def tls_of(config: Config, name: str) -> Tls | None:
    """The TLS files of a node (or of ``router``, ``client``); None without TLS."""
    return tls_for(config.tls, name) if config.tls else None


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


@dataclass(frozen=True, slots=True)
class Effective:
    """A value that is in effect, and where it comes from."""

    value: Any
    origin: Literal["file", "preset", "derived", "default"]


def effective(config: Config) -> dict[str, Effective]:
    """Every value in effect by its key's path (``timing.heartbeat_ms``, ``nodes[0].port``), in the file's order.

    `derived` values follow from others in the file, `preset` ones from the preset. No secret is among them.
    """
    found = dict(_walk(config, ""))
    for name in ("required", "policy"):
        if getattr(config, name) is None:
            found[name] = Effective({"required": required, "policy": policy}[name](config), "derived")
    for field in fields(Timings):
        key = f"timing.{field.name}"
        if key not in found or found[key].value is None:
            origin: Literal["preset", "default"] = "preset" if field.name in _BY_PRESET else "default"
            found[key] = Effective(getattr(timings(config), field.name), origin)
    found.pop("timing.renewal_ms")
    if config.durability is Durability.ASYNC:
        origin_of_renewal: Literal["file", "derived"] = "file" if config.timing.renewal_ms else "derived"
        found["timing.renewal_ms"] = Effective(renewal_ms(config), origin_of_renewal)
    return found


_BY_PRESET = frozenset(
    field.name
    for field in fields(Timings)
    if getattr(Timings.preset("fast"), field.name) != getattr(Timings.preset("patient"), field.name)
)


def _walk(section: BaseModel, path: str) -> list[tuple[str, Effective]]:
    found: list[tuple[str, Effective]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        written = name in section.model_fields_set
        found += _leaves(value, f"{path}.{name}".removeprefix("."), "file" if written else "default")
    return found


def _leaves(value: Any, path: str, origin: Literal["file", "default"]) -> list[tuple[str, Effective]]:
    if isinstance(value, BaseModel):
        return _walk(value, path)
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return [leaf for index, entry in enumerate(value) for leaf in _walk(entry, f"{path}[{index}]")]
    if isinstance(value, dict) and value:
        return [(f"{path}.{key}", Effective(entry, origin)) for key, entry in value.items()]
    return [(path, Effective(value, origin))]
