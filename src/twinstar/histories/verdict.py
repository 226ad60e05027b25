"""What a check of a history says."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from twinstar.histories.operation import Operation


class Fault(StrEnum):
    """What kind of untruth was told."""

    UNWRITTEN = "a value that nobody wrote"
    ABORTED = "a value whose write was refused"
    FUTURE = "a value before it was written"
    STALE = "a value after it was overwritten, or without what was acknowledged before"
    RIVALS = "a change from a value that was gone"
    REFUSED = "a change refused although the value was the expected one"
    LOST = "an acknowledged write that is gone"
    WENT_BACK = "a later read that knows less"
    CONTRADICTION = "reads that cannot both be true"
    TWICE = "a write that took effect twice"
    DISORDER = "a write in front of an earlier one"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that cannot be. `operations`: those that exclude each other, the one that shows it first."""

    fault: Fault
    key: Hashable
    sentence: str
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Accepted:
    """There is an order in which all of it is true."""

    operations: int

    def __str__(self) -> str:
        return f"All {self.operations} operations fit one order."


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no such order."""

    anomalies: tuple[Anomaly, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.anomalies))


@dataclass(frozen=True, slots=True)
class Undecided:
    """The search was given up for some keys, and nothing was found in the others."""

    keys: tuple[Hashable, ...]
    worlds: int

    def __str__(self) -> str:
        return (
            f"Undecided for {', '.join(map(str, self.keys))}: {self.worlds} states of each were looked at. "
            "Write values that differ, use more keys, or allow more."
        )


Verdict = Accepted | Refused | Undecided
