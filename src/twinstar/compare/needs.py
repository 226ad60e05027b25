"""What somebody wants of a database, as far as it decides between strategies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from twinstar.model.errors import UsageError


class Conflicts(StrEnum):
    """How often two clients, at different places, change one row at about the same time."""

    NONE = "none"
    """Each row is written in one place."""
    RARE = "rare"
    OFTEN = "often"
    COUNTERS = "counters"
    """They do, and what they do is adding."""

    @property
    def gives_way(self) -> bool:
        """Where every node takes writes, an acknowledged write may have to give way to another one."""
        return self in (Conflicts.RARE, Conflicts.OFTEN)


@dataclass(frozen=True, slots=True)
class Loss:
    """The most that may be gone when a machine is: acknowledged writes of so many seconds, or so many of them.

    Neither: nothing.
    """

    seconds: float = 0.0
    writes: int = 0

    @property
    def none(self) -> bool:
        return not self.seconds and not self.writes

    @classmethod
    def parse(cls, text: str) -> Loss:
        """From ``none``, ``5s``, ``200ms`` or ``100`` (writes). Raises UsageError."""
        if text == "none":
            return cls()
        if text.isdecimal():
            return cls(writes=int(text))
        try:
            return cls(seconds=milliseconds(text) / 1000)
        except UsageError:
            raise UsageError(f"{text!r} is no loss: say none, a time such as 5s, or a number of writes.") from None


@dataclass(frozen=True, slots=True)
class Needs:
    loss: Loss
    outage_ms: float
    """The longest time that a client may go without an acknowledged write when one machine dies."""
    regions: int
    rtt_ms: float
    """Round trip between two regions; 0 with one."""
    conflicts: Conflicts
    isolated: bool
    """Transactions must be isolated from each other, whichever nodes they are on."""
    writes_when_cut: bool
    """Each region goes on taking writes while it is cut off from the others."""

    def __post_init__(self) -> None:
        if (self.regions > 1) != (self.rtt_ms > 0):
            raise UsageError(
                "Regions that are apart have a round trip: say --rtt 40ms, or what it is."
                if self.regions > 1
                else "One region has no round trip between regions: leave --rtt away, or say --regions 2."
            )


_UNITS = {"ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0}


def milliseconds(text: str) -> float:
    """From ``40ms``, ``0.5s``, ``2min``, ``1h``; a bare 0 needs no unit. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)", text)
    if found:
        return float(found[1]) * _UNITS[found[2]]
    if text == "0":
        return 0.0
    raise UsageError(f"{text!r} is no duration: write it with its unit, such as 40ms or 2s.")
