"""How far a member's log reaches.

A position is a (timeline, LSN) pair. The number of a timeline is the epoch of the promotion that began it
(`docs/protocol.md`, "Timelines"), so of two positions of one cluster the one with the larger timeline comes from the
later leadership, and within one timeline the larger LSN reaches further. That order is only meaningful because no
timeline number is ever used twice.
"""

from __future__ import annotations

from dataclasses import dataclass


def parse_lsn(text: str) -> int:
    """The byte offset that PostgreSQL writes as ``0/3000148``. Raises ValueError for anything else."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: int) -> str:
    """The way PostgreSQL writes a byte offset in its log."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A point in the log: ``timeline`` (= epoch of its promotion), then ``lsn`` in bytes."""

    timeline: int
    lsn: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads ``timeline:lsn`` as `str` writes it. Raises ValueError."""
        timeline, lsn = text.split(":")
        return cls(int(timeline), parse_lsn(lsn))

    def __str__(self) -> str:
        return f"{self.timeline}:{format_lsn(self.lsn)}"


@dataclass(frozen=True, slots=True)
class Branch:
    """A leader's timeline with its recorded history: where each earlier timeline was left."""

    timeline: int
    left_at: tuple[tuple[int, int], ...] = ()
    """(timeline, LSN at which the branch left it), oldest first."""

    def contains(self, position: Position) -> bool:
        """Whether a log that ends at `position` is a prefix of this branch (so that it may attach without a rewind)."""
        if position.timeline == self.timeline:
            return True
        return any(t == position.timeline and position.lsn <= lsn for t, lsn in self.left_at)
