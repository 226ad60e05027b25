"""The shape of `status --json`: stable, and explained field by field in `docs/status.md`.

A field is never removed and never changes its meaning; new ones may come. Unknown values are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from twinstar.model.effects import State
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase
from twinstar.model.wire import Gossip

MemberState = State
"""What a member's database is doing: one vocabulary for the rules, the agents' gossip and the status."""


class Role(StrEnum):
    """What a member is by the register, whatever its database does at the moment."""

    LEADER = "leader"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class StoreStatus:
    kind: str
    reachable: bool


@dataclass(frozen=True, slots=True)
class Endpoints:
    """DSNs that a client can use as they are; the password is in the passfile that they name."""

    write: str
    read: str


@dataclass(frozen=True, slots=True)
class MemberStatus:
    name: str
    dsn: str
    """Straight to this member."""
    role: Role
    state: MemberState
    host: str
    port: int
    epoch: int | None = None
    """The epoch for which it runs."""
    timeline: int | None = None
    position: Position | None = None
    """How far its log reaches (flushed)."""
    lag_bytes: int | None = None
    """Behind the leader's position; null when either is unknown or on another timeline."""
    agent_pid: int | None = None
    engine_pid: int | None = None
    guard_pid: int | None = None
    leads: bool | None = None
    """Its database runs as a leader's, whatever the register says."""
    promise: int | None = None
    """The highest epoch to which it has durably bound itself."""
    system_identifier: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """One sentence for people when there is something to say."""

    def to_dict(self) -> dict[str, Any]:
        raw = asdict(self)
        raw["role"], raw["state"] = self.role.value, self.state.value
        raw["position"] = str(self.position) if self.position else None
        return raw


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster as one agent sees it."""

    cluster: str
    strategy: str
    durability: Durability
    epoch: int
    phase: Phase
    leader: str | None
    """The last named leader, also while electing; null only while bootstrapping."""
    required: int
    copies: tuple[str, ...]
    policy: str
    paused: bool
    open: bool
    """Clients may read and write: enough voters have confirmed the leader's beginning."""
    store: StoreStatus
    endpoints: Endpoints
    members: tuple[MemberStatus, ...]
    waiting_for: str = ""
    """Why writes wait, and for whom; empty when they do not."""
    restart_pending: tuple[str, ...] = ()
    """``member: setting`` that a restart of that member's database would bring into effect."""
    drift: tuple[str, ...] = ()
    """``member: setting`` that is Twinstar's own but has another value there, or differs between nodes."""

    def to_dict(self) -> dict[str, Any]:
        """What `status --json` prints."""
        return {
            "cluster": self.cluster,
            "strategy": self.strategy,
            "durability": self.durability.value,
            "epoch": self.epoch,
            "phase": self.phase.value,
            "leader": self.leader or None,
            "required": self.required,
            "copies": sorted(self.copies),
            "policy": self.policy,
            "paused": self.paused,
            "open": self.open,
            "store": asdict(self.store),
            "endpoints": asdict(self.endpoints),
            "members": [member.to_dict() for member in self.members],
            "waiting_for": self.waiting_for,
            "restart_pending": list(self.restart_pending),
            "drift": list(self.drift),
        }


def each_one(said: Mapping[str, Gossip | None], field: str) -> tuple[str, ...]:
    """``member: entry`` for what every member says in this list of its own."""
    return tuple(f"{m}: {entry}" for m, gossip in said.items() if gossip for entry in gossip.extra.get(field, ()))
