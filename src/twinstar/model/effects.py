"""What a decision can ask for. The agent carries it out; nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from twinstar.model.engine import Names, Upstream
from twinstar.model.position import Position
from twinstar.model.register import Register


class Reason(StrEnum):
    """Why the register is changed. Stands in the register and in the history."""

    BOOTSTRAP = "bootstrap"
    DATABASE_DEAD = "database-dead"
    SUSPECTED = "suspected"
    NOT_LEADING = "not-leading"
    DEAF = "hears-nobody"
    OPERATOR = "operator"
    FORCED = "operator-accepts-loss"
    ADOPTED = "adopted"
    UNFINISHED = "election-unfinished"
    NAMED = "named"
    RESTARTED = "leader-restarted"
    RETAKEN = "false-alarm"
    SWITCHOVER = "switchover"
    VOTERS = "voters"
    SETTLED = "settled"
    LEASE_LOST = "lease-lost"
    RENEWED = "renewed"
    GIVEN_UP = "given-up"
    PAUSE = "pause"
    DURABILITY = "durability"


@dataclass(frozen=True, slots=True)
class ChangeRegister:
    """Compare-and-set on `base_revision`. The nonce is added by whoever writes it."""

    register: Register
    base_revision: int
    reason: Reason
    evidence: str = ""


# -- effects on the database: at most one at a time ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Make a new database for the attempt `nonce`."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Lead `epoch` with the database that was just bootstrapped."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start as a standby without upstream."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Demote: an orderly stop, and when it has not ended in time, a kill. Nothing of it is left afterwards."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End what is left of a dead or hung database."""


@dataclass(frozen=True, slots=True)
class SealFor:
    """Promise `epoch` durably, detach, drain, and (unless it is for a switchover or a restart) publish the seal."""

    epoch: int
    publish: bool = True


@dataclass(frozen=True, slots=True)
class PromoteFor:
    """Become the primary of `epoch`, with `names` in effect from the first commit on."""

    epoch: int
    names: Names


@dataclass(frozen=True, slots=True)
class Follow:
    """Detach, compare, promise, attach; rewind or rebuild when the comparison says so."""

    upstream: Upstream
    fork: Position | None
    """Where the register says the leader's leadership starts: a log that ends before it on the same timeline is
    part of the leader's branch, without asking."""
    careful: bool
    """Not enough others hold the leader's start yet: build beside the old copy instead of rewinding in place."""
    as_it_is: bool = False
    """While paused: a copy that would have to be rewound or rebuilt is left alone."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Make this copy anew from the leader."""

    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Enforce:
    """Change who must confirm, on a running primary."""

    names: Names


@dataclass(frozen=True, slots=True)
class Retag:
    """Go on as leader under a later epoch, without a promotion."""

    names: Names


@dataclass(frozen=True, slots=True)
class HandOver:
    """The leader's part of a switchover: promise the next epoch, stop in order, publish where the log ends."""

    to: str
    epoch: int


EngineEffect = (
    Bootstrap | Adopt | Start | Stop | Kill | SealFor | PromoteFor | Follow | Rebuild | Enforce | Retag | HandOver
)


class State(StrEnum):
    """What a member's database is doing, for people (`docs/status.md`)."""

    RUNNING = "running"
    """A leader that serves."""
    STREAMING = "streaming"
    """A standby that receives its leader's log."""
    CATCHING_UP = "catching-up"
    """A standby that runs, but receives nothing at the moment."""
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CRASHED = "crashed"
    """The database ended without having been asked to."""
    SEALED = "sealed"
    """Detached for an election: acknowledges nothing, waits for the choice."""
    PROMOTING = "promoting"
    BOOTSTRAPPING = "bootstrapping"
    REWINDING = "rewinding"
    REBUILDING = "rebuilding"
    """Being copied anew from the leader."""
    WAITING = "waiting"
    """For the store, for the leader, for its turn; `note` says for what."""
    REFUSED = "refused"
    """Something must be put right by hand first; `note` says what."""
    UNREACHABLE = "unreachable"
    """Nothing has been heard of it; the other fields are the last known ones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision: at most one effect per lane, and what to tell people."""

    engine: EngineEffect | None = None
    change: ChangeRegister | None = None
    ask_about: str | None = None
    """Ask the other voters whether they suspect this leader."""
    probe: frozenset[str] = field(default_factory=frozenset)
    """Members to probe directly, now and again while they stand here."""
    opened: int = 0
    """The epoch whose opening has been reached (0: none)."""
    state: State = State.WAITING
    note: str = ""
    waiting: bool = False
    """Commits on this leader wait for confirmations that nobody gives; `note` says whose."""
    soon: bool = False
    """Something is under way: decide again within 10 ms."""
