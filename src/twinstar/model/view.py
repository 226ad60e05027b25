"""What a member knows when it decides: a snapshot, made by the agent, read by the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from twinstar.model.address import Address
from twinstar.model.effects import EngineEffect
from twinstar.model.engine import EngineState, Names, Primary
from twinstar.model.register import Durability, Register, Seal
from twinstar.model.wire import EngineWord


@dataclass(frozen=True, slots=True)
class Settings:
    """The cluster's configuration, as far as the protocol looks at it. Durations in milliseconds."""

    members: tuple[str, ...]
    """The data nodes, in the order of the configuration."""
    durability: Durability
    required: int
    policy: Literal["block", "degrade"]
    nofailover: frozenset[str] = frozenset()
    priorities: Mapping[str, int] = field(default_factory=dict)
    election_timeout_ms: float = 1_000
    naming_delay_ms: float = 50
    retake_window_ms: float = 150
    heartbeat_ms: float = 100
    voter_removal_ms: float = 10_000
    start_grace_ms: float = 10_000
    attach_patience_ms: float = 5_000
    lease_ms: int = 10_000
    renewal_ms: float | None = None
    """None: derived from the lease."""
    maximum_lag_bytes: int = 1 << 20
    witnesses: tuple[str, ...] = ()
    """Members without a database: never copies, never voters; whom they hear is asked before an accusation."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another member as this one sees it."""

    silent: bool = False
    """Heartbeats, replication and direct probes have all been silent for longer than the preset's bound."""
    heard: bool = False
    """Something authentic came from it within the bound."""
    ever_heard: bool = False
    engine: EngineWord = EngineWord.UNKNOWN
    epoch: int = 0
    leading: bool = False
    agent_age_ms: float = 1e12
    not_leading_ms: float = 0
    """For how long it has been named and heard without a running database that leads the register's epoch."""
    silent_for_ms: float = 0
    """Since its last heartbeat, as far as that counts; 0 when none has come since this member's start."""
    overdue: bool = False
    """Its second heartbeat is: it is probed."""
    hears_me: bool = False
    """It answered a probe sent after the register last changed, and said that it hears this member."""
    unheard: frozenset[str] = frozenset()
    """By its gossip: the members that are silent to it."""
    members: frozenset[str] = frozenset()
    """By its gossip: those that its configuration names."""
    deaf_ms: float = 0
    """For how long it has been saying that this member is silent to it."""
    suspects: bool = False
    """Its fresh answer about the leader of this epoch."""
    can_seal: bool = False
    has_data: bool | None = None
    """By its gossip; None: not known."""
    position: str = ""
    opened: int = 0
    """By its gossip: the epoch that is open under its lead. A hint; 0 when nothing fresh is known."""


@dataclass(frozen=True, slots=True)
class View:
    me: str
    now_ms: float
    wall_ms: int
    settings: Settings
    addresses: Mapping[str, Address]

    # the store
    register_seen: bool
    """A read or the watch has succeeded since the start."""
    register: Register | None
    revision: int
    register_age_ms: float
    """Since this member first saw the present version."""
    epoch_age_ms: float
    """Since it first saw the present epoch and phase."""
    seals: Mapping[str, Seal]
    """Published for the register's epoch."""
    next_seals: Mapping[str, Seal]
    """Published for the epoch after it (a leader that hands over)."""
    seals_age_ms: float
    store_ok: bool
    changing: bool
    """A change of the register is in flight, or its outcome is not known yet."""
    settled: bool
    """No change of an earlier run of this agent can still be in flight."""

    # this member
    promise: int
    led: int
    """The epoch for which the database that runs now was made leader (0: it was not)."""
    handing_over: bool
    engine: EngineState
    running_effect: EngineEffect | None
    died: bool
    """The database ended without having been asked to, in this agent's sight, while it led."""
    sealed: Seal | None
    """Sealed in this agent's sight, and nothing done to the database since."""
    bootstrapped: str
    """System identifier of the database that this agent bootstrapped for the register's nonce."""
    primary: Primary | None
    enforced: Names | None
    """The names known to be in effect."""
    enforced_lsn: int
    """The log's end read after they came into effect."""
    opening_lsn: int
    """The log's end read after this epoch began; 0 before."""
    opened: int
    absent_ms: Mapping[str, float]
    """For how long each other member has not been attached, genuinely and for this epoch."""
    not_receiving_ms: float
    """For how long a standby that should follow has received nothing although its leader is heard."""
    up_ms: float
    """Since this agent started."""
    back_off_ms: float
    """Random, drawn anew for each epoch."""
    forbearance_ms: float
    """After a change of epoch or leader, before its leader is accused: 0 unless many brought no service."""
    retake_age_ms: float
    """Since this member last took an epoch back."""
    has_changed: bool
    """A change of the register by this run of the agent is known to have applied; otherwise it knows of no lease, while
    an earlier run may have told the guard of one."""
    lease_left_ms: float
    """`async`: until this leader's lease ends, counted from before its last successful renewal was sent; or until that
    ends which it has asked for, if that is sooner."""
    guard_silent_ms: float
    """Since this agent last heard its own guard, or since its start."""
    renewed_age_ms: float
    """`async`: since the last renewal was sent."""
    peers: Mapping[str, Peer]
    asked_lease_ms: int = 0
    """The first or another lease that this leader has asked for by a change whose outcome is not known yet; else 0."""
    spent: int = 0
    """The highest epoch for which a promotion of this database was begun and cut off by a crash."""

    def peer(self, name: str) -> Peer:
        return self.peers.get(name, _NOBODY)


_NOBODY = Peer()
