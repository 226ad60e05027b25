"""What a node of an active-active cluster knows (`View`), and what it does next (`Plan`): the terms of `life`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from twinstar.model.membership import Membership
from twinstar.rules.active_active.membership import Missing


class Database(StrEnum):
    """What is in this member's data directory."""

    NONE = "none"
    UNFINISHED = "unfinished"
    """A database or a copy is being made, or was when its maker stopped."""
    MADE = "made"
    """Complete, for the attempt `made_for`, and not yet a node of its own."""
    NODE = "node"
    """A node of its own, with its number."""


@dataclass(frozen=True, slots=True)
class Own:
    """This member's database."""

    database: Database
    number: int = 0
    """`NODE`: which."""
    made_for: int = 0
    """`UNFINISHED` and `MADE`: the number it is made for."""
    running: bool = False
    slots: Mapping[int, int] = field(default_factory=dict)
    """Receiver's number -> from where its slot here sends."""
    applied: Mapping[int, int] = field(default_factory=dict)
    """Sender's number -> up to where its log is here for good, applied or at least received."""
    received: Mapping[int, int] = field(default_factory=dict)
    """Sender's number -> the same, of those that are read no more: whoever read them has ended."""
    closed_at: int | None = None
    """Where its log ended when nobody could write here any more; None: somebody still can, or it is not known yet."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a member whose agent is heard says of its database."""

    number: int
    """Of the node that runs there; 0: none."""
    slots: Mapping[int, int] = field(default_factory=dict)
    applied: Mapping[int, int] = field(default_factory=dict)
    """Sender's number -> up to where its log is in the database itself, and so in a copy of it."""
    end: int = 0
    """How far its log reaches."""


@dataclass(frozen=True, slots=True)
class View:
    me: str
    store_seen: bool
    """The store has said what is in it (perhaps nothing) since this agent or its database started."""
    membership: Membership | None
    own: Own
    said: Mapping[str, Said]
    """Of the members that are heard now, this one included."""
    silent_ms: Mapping[str, float] = field(default_factory=dict)
    """Since when agents of others are not heard."""
    removal_ms: float = 600_000
    fenced: bool = False
    """This member's clock is wrong (`skew`)."""
    leave: bool = False
    """It was told to leave."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make a new database for `number`: empty, the cluster's first."""

    number: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the donor's database, for `number`; what is there is set aside."""

    donor: str
    number: int


@dataclass(frozen=True, slots=True)
class Become:
    """Make a complete copy a node of its own: its number, triggers and sequences, and its progress in the donor's log,
    which is exactly where the copy ends.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start the database, with clients shut out."""


Effect = Make | Copy | Become | Start


class State(StrEnum):
    WAITING = "waiting"
    JOINING = "joining"
    STARTING = "starting"
    SERVING = "serving"
    FENCED = "fenced"
    LEAVING = "leaving"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Plan:
    state: State
    note: str = ""
    engine: Effect | None = None
    change: Membership | None = None
    admit: bool | None = False
    """Whether clients are let in; None: as it is."""
    places: frozenset[int] | None = None
    """The receivers for whom slots are kept here, and for nobody else; None: as it is."""
    read: Mapping[int, str] = field(default_factory=dict)
    """Senders whose logs are applied: number -> member."""
    compare: Mapping[int, str] = field(default_factory=dict)
    """Senders with whose databases this one must be compared before it reads on: number -> member.

    One transaction here takes in the sender's whole state of one moment (rows, tombstones and contributions, whoever
    wrote them), and with it that moment's progress: in the sender's own log and in every log that it reads, of each the
    greater of theirs and ours.
    """
    fetch: tuple[int, Missing] | None = None
    """The number of a dead node, and what of its log this one must get from another survivor: what is taken and how far
    it reaches, in one transaction.
    """
