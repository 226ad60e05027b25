"""How far an applier is, and how old what is missing here is.

*Lag* is the age of the oldest write of the peer that is not applied here. What has come and waits is as old as its
commit says, by the peer's clock; how far that clock is from this node's is seen from each message, which says when it
was sent (the way it took counts as difference). Nothing waits: then the lag is nothing while the peer is heard, and
else as long as nobody knows what it has written since. So an idle peer has no lag, and one that is cut off a growing
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from twinstar.engine.postgresql.multiwriter.beginning import Gap
from twinstar.model.position import format_lsn

HEARD_MS: Final = 3_000.0
"""Who was heard so recently is heard now: three beats."""


@dataclass(slots=True)
class Lag:
    oldest_us: int | None = None
    """When the oldest transaction that came and is not applied was committed, by the peer's clock, since 1970."""
    ahead_ms: float = 0.0
    """This node's clock less the peer's."""
    level_ms: float | None = None
    """When it was last known that nothing is missing, on the clock that never goes back."""

    def at_ms(self, now_ms: float, wall_ms: float) -> float | None:
        """None: nothing is known yet."""
        if self.oldest_us is not None:
            return max(0.0, wall_ms - self.oldest_us / 1000 - self.ahead_ms)
        if self.level_ms is None:
            return None
        silent_ms = now_ms - self.level_ms
        return silent_ms if silent_ms > HEARD_MS else 0.0


@dataclass(slots=True)
class Progress:
    """Of one applier's process, since it began."""

    received: int = 0
    """How far the peer's log is known here."""
    applied: int = 0
    """How far it is applied for good."""
    rows: int = 0
    transactions: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    error: str = ""
    """The last that was tried again because of it."""
    gap: Gap | None = None
    lag: Lag = field(default_factory=Lag)

    def to_json(self, now_ms: float, wall_ms: float) -> dict[str, Any]:
        """For the state file: positions as PostgreSQL writes them, `at_ms` is since 1970."""
        lag_ms = self.lag.at_ms(now_ms, wall_ms)
        gap = self.gap
        return {
            "at_ms": round(wall_ms),
            "received": format_lsn(self.received),
            "applied": format_lsn(self.applied),
            "lag_ms": None if lag_ms is None else round(lag_ms, 1),
            "rows": self.rows,
            "transactions": self.transactions,
            "conflicts": self.conflicts,
            "dead_letters": self.dead_letters,
            "error": self.error,
            "gap": gap and {"cause": gap.cause, "here": format_lsn(gap.here), "there": format_lsn(gap.there)},
        }
