"""What a database must be able to do to be kept alive by the active-passive protocol.

An engine knows nothing of the register, of epochs being granted or of other agents: it does what it is told, says
exactly what is the case, and never decides. Every engine passes `tests/engine/conformance.py`.

All operations are safe to repeat after a crash in the middle, and safe to cancel: a cancelled operation leaves a state
that `inspect` describes truthfully. None of them is run beside another one; the agent sees to that. `inspect`,
`attachments`, `answers`, `ended` and `end_walsenders` may be called at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from twinstar.model.engine import BLOCKED as BLOCKED
from twinstar.model.engine import Attachment as Attachment
from twinstar.model.engine import EngineState as EngineState
from twinstar.model.engine import EngineStatus as EngineStatus
from twinstar.model.engine import Names as Names
from twinstar.model.engine import Primary as Primary
from twinstar.model.engine import Upstream as Upstream
from twinstar.model.position import Branch, Position

Progress = Callable[[str], None]
"""Told one short sentence now and then during a long operation."""


class RewindResult(StrEnum):
    DONE = "done"
    IMPOSSIBLE = "impossible"
    """The copy must be rebuilt."""


class Engine(Protocol):
    async def inspect(self) -> EngineState:
        """The truth right now, within some milliseconds; from files and processes when the database does not answer."""
        ...

    async def ended(self) -> None:
        """Returns as soon as the main process that runs now has ended (its other processes may still be there)."""
        ...

    async def answers(self, deadline_ms: float) -> bool:
        """Whether a real query on a *fresh* connection returned within the deadline."""
        ...

    # -- life of the processes -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts as a standby without upstream and with `BLOCKED` names, whatever it was before; returns when it
        accepts connections, or raises EngineError with the log's last words. Refuses ABSENT and INCOMPLETE. Over the
        network it lets no client in until it follows somebody or `admit` is called.
        """
        ...

    async def stop(self, deadline_ms: float) -> bool:
        """An orderly stop. False when it has not ended by the deadline (it may still be stopping)."""
        ...

    async def kill(self) -> None:
        """Kills every process of this database, also of one whose main process is gone. Returns when none is left."""
        ...

    # -- the protocol's steps --------------------------------------------------------------------------------------

    async def bootstrap(self, nonce: str, progress: Progress) -> str:
        """Makes a new database beside which `nonce` is written, runs it as a primary on timeline 1 with `BLOCKED`
        names, creates the roles; returns the system identifier. Anything left of an attempt with a nonce is wiped
        first; a directory without one is refused (EngineError).
        """
        ...

    async def bootstrap_done(self) -> None:
        """Forgets the nonce: the register names this database now."""
        ...

    async def seal(self) -> Position:
        """Detaches a standby for good and drains it: afterwards nothing is received, all local log is replayed,
        sessions that held replay up are ended. The position is the end of the last complete replayed record.
        Survives a restart. (`docs/protocol.md`, "Seal".)
        """
        ...

    async def promote(self, epoch: int, names: Names) -> Position:
        """Makes a sealed standby the primary of timeline `epoch`, with `names` in effect before its first commit.
        Returns its log's end just after promotion. Raises ProtocolBreach when the timeline is not the epoch, or the
        log has a record of `epoch` or later; EpochSpent when only an earlier attempt has left its mark.
        """
        ...

    async def open_names(self, names: Names) -> Position:
        """Changes who must confirm on a running primary; returns, once the change is *in effect* in every process
        that matters, the log's end read after that.
        """
        ...

    async def admit(self) -> None:
        """Lets clients in, on a primary whose epoch is open. Harmless if repeated. Raises EngineError."""
        ...

    async def branch(self, upstream: Upstream) -> Branch:
        """The leader's timeline with its history, asked of the leader itself. Raises EngineError when it does not
        answer or is another database (system identifier).
        """
        ...

    async def has_log_from(self, upstream: Upstream, position: Position) -> bool:
        """Whether the leader still has the log that a copy at `position` needs next. Raises EngineError."""
        ...

    async def detach(self) -> Position | None:
        """The first part of `seal`, without waiting for replay: stops receiving, durably. The position is what is
        held, None when the database is not running.
        """
        ...

    async def follow(self, upstream: Upstream) -> None:
        """Attaches as ``self@epoch`` with this member's own slot. The caller has compared branches before."""
        ...

    async def rewind(self, upstream: Upstream, progress: Progress) -> RewindResult:
        """Makes a stopped, diverged copy a prefix of the leader's branch, after saving what only the fork holds.
        Leaves it stopped. An interrupted rewind leaves INCOMPLETE.
        """
        ...

    async def clone(self, upstream: Upstream, progress: Progress) -> None:
        """Builds a copy of the leader beside an old one, which is dropped (its fork saved) when the new one is
        complete. Leaves it stopped. The slot is created before.
        """
        ...

    # -- a running primary's care ----------------------------------------------------------------------------------

    async def primary(self) -> Primary:
        """Log end (flushed) and attachments of a running primary. Raises EngineError when it is not one."""
        ...

    async def attachments(self) -> tuple[Attachment, ...]: ...

    async def end_walsenders(self, pids: frozenset[int]) -> None:
        """Ends these log senders at once."""
        ...

    async def prepare_stop(self) -> None:
        """What makes the coming orderly stop short (checkpoints). May take long; harmless if repeated."""
        ...

    async def keep_slots(self, members: frozenset[str]) -> None:
        """Sees to a replication slot for each other member, on a primary and on a standby (there advanced), and drops
        those of ours that belong to nobody in `members`.
        """
        ...

    async def reload(self, parameters: dict[str, str], hba: tuple[str, ...]) -> None:
        """Applies the user's settings and access rules; what needs a restart shows in `restart_pending`."""
        ...

    async def close(self) -> None:
        """Lets go of connections. The database goes on running."""
        ...
