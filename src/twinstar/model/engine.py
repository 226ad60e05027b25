"""What is said about a database: the state it is in, whom it follows, who must confirm its commits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twinstar.model.address import Address
from twinstar.model.position import Position


class EngineStatus(StrEnum):
    ABSENT = "absent"
    """No data directory, or an empty one."""
    INCOMPLETE = "incomplete"
    """A directory that a bootstrap, clone or rewind left half done: never started, only made anew."""
    STOPPED = "stopped"
    """A data directory, and no process of it."""
    REMAINS = "remains"
    """The main process is gone, but others of this database are still there: not yet dead."""
    STARTING = "starting"
    STANDBY = "standby"
    PRIMARY = "primary"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Upstream:
    """Whom to follow: the leader of `epoch`, who is counted only from those attached as ``name@epoch``."""

    member: str
    epoch: int
    address: Address


@dataclass(frozen=True, slots=True)
class Names:
    """Who must confirm a commit before it is acknowledged: `required` of `voters`, attached for `epoch`.

    `required` 0 lets commits return at once. `BLOCKED` holds every commit.
    """

    epoch: int
    voters: frozenset[str]
    required: int


BLOCKED = Names(epoch=0, voters=frozenset({"nobody"}), required=1)
"""Nobody can confirm: the value an engine starts with, so that no commit returns before the register was asked."""


@dataclass(frozen=True, slots=True)
class EngineState:
    status: EngineStatus
    pid: int | None = None
    run: str = ""
    """Identifies this run of the main process: ``pid:start time``."""
    position: Position | None = None
    """End of the last complete record known: flushed on a primary, received or replayed on a standby."""
    upstream: tuple[str, int] | None = None
    """(member, epoch) that the durable settings point at, None when detached."""
    receiving: bool = False
    """A log receiver is running and streaming."""
    names: Names | None = None
    """On a primary, the names last set."""
    system_identifier: str = ""
    nonce: str = ""
    """Written beside the data directory by `bootstrap`, kept until `bootstrap_done`."""
    shut_down_at: Position | None = None
    """Of a cleanly stopped database: where its last checkpoint record begins. Who holds a log that ends beyond it
    holds all of it."""
    restart_pending: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    """Settings that are ours, but in effect with another value."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A standby as its leader sees it. Only `genuine` ones confirm: name, role, slot and process agree."""

    member: str
    epoch: int
    flush_lsn: int
    replay_lsn: int
    streaming: bool
    genuine: bool
    pid: int


@dataclass(frozen=True, slots=True)
class Primary:
    """What a running primary says of itself: its log's end, and who is attached."""

    position: Position
    attachments: tuple[Attachment, ...]
