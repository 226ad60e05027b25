"""Whose clock nobody should follow.

A node with a fast clock wins every conflict, and what it writes stays ahead of everyone. So it is *fenced*: it takes
no writes until its clock is right. The verdict rests on clocks that were *measured*, never on stamps: an honest node
that writes over a row from a fast one must stamp above it, and would be punished for the other's clock.

A measurement is an interval: asked at `sent_us`, the peer said `said_us`, heard at `heard_us`; somewhere in between
it looked at its clock (Cristian, *Probabilistic clock synchronization*, 1989). A clock is *surely* off when the whole
interval is beyond the bound: a slow network makes an interval wide, and nobody guilty.

A node is fenced when it is surely off from a majority of all the members, so that of three the one that is wrong
goes, and the other two stay. Of two nobody can say which: both are told, neither is fenced. Nor is one that measures
too few: a partition is no reason to stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a peer's clock is ahead of one's own: at least and at most, in microseconds."""

    least_us: int
    most_us: int

    def surely_beyond(self, bound_us: int) -> bool:
        return self.least_us > bound_us or self.most_us < -bound_us


def measured(sent_us: int, said_us: int, heard_us: int) -> Offset:
    """What one question and its answer say. All three are clocks: one's own, the peer's, one's own."""
    return Offset(said_us - heard_us, said_us - sent_us)


def fenced(offsets: Iterable[Offset], members: int, bound_us: int) -> bool:
    """Should this node stop taking writes? `offsets`: the newest to each peer that answers; `members`: how many."""
    return 2 * sum(offset.surely_beyond(bound_us) for offset in offsets) > members


def suspect(offsets: Iterable[Offset], bound_us: int) -> bool:
    """Should people be told that some clock is wrong?"""
    return any(offset.surely_beyond(bound_us) for offset in offsets)
