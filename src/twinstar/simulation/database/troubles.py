"""What can be wrong with a simulated database's machine. Its methods are the menu; `mend` ends all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_REPLAY_PER_MS = 5.0
_SLOW_REPLAY_PER_MS = 0.05
_SLOW_CHECKPOINT_MS = 4_000.0
_SLOW_FSYNC = 100.0
_SLOW_COPYING = 30.0


@dataclass(slots=True)
class Troubles:
    """State is read by the database; `changed` tells it that there may be something to go on with."""

    changed: Callable[[], None]
    full: bool = False
    """The disk: what must be written ends in an error, and a log that cannot be written ends the database."""
    fsync_hangs: bool = False
    fsync_factor: float = 1.0
    checkpoint_ms: float = 0.0
    """A checkpoint takes so much longer, and with it every orderly stop."""
    copying_factor: float = 1.0
    """A rewind and a clone take so many times longer."""
    replay_per_ms: float = _REPLAY_PER_MS
    """Records."""
    _breaks: set[str] = field(default_factory=set)

    def fill_disk(self) -> None:
        self.full = True

    def hang_fsync(self) -> None:
        """Nothing reaches the disk; what is in memory is still answered."""
        self.fsync_hangs = True

    def slow_fsync(self) -> None:
        self.fsync_factor = _SLOW_FSYNC

    def slow_checkpoint(self) -> None:
        """An orderly stop takes longer than anybody waits."""
        self.checkpoint_ms = _SLOW_CHECKPOINT_MS

    def slow_copying(self) -> None:
        self.copying_factor = _SLOW_COPYING

    def slow_replay(self) -> None:
        """What is flushed and confirmed is replayed, and shown, much later."""
        self.replay_per_ms = _SLOW_REPLAY_PER_MS

    def break_promotion(self) -> None:
        """The next promotion ends in an error, or the database ends in the middle of it."""
        self._breaks.add("promotion")

    def break_rewind(self) -> None:
        """The next rewind fails half-way and leaves a copy that is none."""
        self._breaks.add("rewind")

    def break_clone(self) -> None:
        """The next clone is broken off half-way."""
        self._breaks.add("clone")

    def breaks(self, what: str) -> bool:
        """Whether this one breaks: once."""
        broken = what in self._breaks
        self._breaks.discard(what)
        return broken

    def mend(self) -> None:
        """There is room, disks are fast, and nothing breaks any more."""
        self.full = self.fsync_hangs = False
        self.fsync_factor = self.copying_factor = 1.0
        self.checkpoint_ms, self.replay_per_ms = 0.0, _REPLAY_PER_MS
        self._breaks.clear()
        self.changed()
