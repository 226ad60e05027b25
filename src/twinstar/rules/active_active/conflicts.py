"""Which version was lost, when a write arrives that did not know it.

A version of a group of columns is *replaced* when a write names it as what it wrote over; it is *lost* when something
greater took its place and no write ever did. Each arriving write names, for each group, the version it replaced
(`was`); a batch that has several writes of one peer to one key names what the first of them replaced, and the last.

* Something here gives way to what arrives: lost, unless it is what the writer says it replaced.
* What arrives gives way to what is here, or to a tombstone: lost, unless the writer did not write this group but only
  carried it along (then whoever wrote it tells), or the tombstone names it as what was deleted.

**Nothing lost is missed.** Every version sits, at least on the node that wrote it, in the row until something takes
its place there. If that is a local write, it names it. If it arrives, either it names it, or it is found lost here.
The same holds on every other node that it reaches.

**Something replaced may be taken for lost**: the early versions of a chain that loses as a whole; and, on a node that
hears of a version after its successor's successor, an ancestor of what won: A
writes, B writes over it, C over that, and C's write arrives before B's. To tell for certain a row would have to carry
all its ancestors. So a conflict log is complete, and may have more than it must; it is keyed by the version, so that
the same one arriving again adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.rules.active_active.state import State, Values


@dataclass(frozen=True, slots=True)
class Lost:
    """A version of a group that something greater took the place of."""

    group: int
    stamp: int
    values: Values
    winner: int
    """The stamp of what won: a version, or a tombstone."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Of each group the version over which a write, or the first and last of a batch, was made. Empty: insertion."""

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    def names(self, group: int, stamp: int) -> bool:
        return any(stamp == names[group] for names in (self.first, self.last) if names)

    def carried(self, group: int, stamp: int) -> bool:
        """The group was not written, the version is the one from before."""
        return bool(self.first) and self.first[group] == stamp


def lost(here: State, arriving: State, replaced: Replaced) -> tuple[Lost, ...]:
    """What the state here, or the image or burial that arrives, loses when they are joined."""
    if arriving.head is None:
        return _buried(here, arriving, replaced)
    if here.tombstone > arriving.stamp:
        return _refused(here, arriving, replaced)
    if not here.alive:
        return ()
    losses = []
    for group, (mine, theirs) in enumerate(zip(here.cells, arriving.cells, strict=True)):
        if theirs.stamp > mine.stamp and not replaced.names(group, mine.stamp):
            losses.append(Lost(group, mine.stamp, mine.values, theirs.stamp))
        elif theirs.stamp < mine.stamp and not replaced.carried(group, theirs.stamp):
            losses.append(Lost(group, theirs.stamp, theirs.values, mine.stamp))
    return tuple(losses)


def _refused(here: State, arriving: State, replaced: Replaced) -> tuple[Lost, ...]:
    """An image meets a tombstone that is newer."""
    deleted = here.buried.was if here.buried else ()
    return tuple(
        Lost(group, cell.stamp, cell.values, here.tombstone)
        for group, cell in enumerate(arriving.cells)
        if not replaced.carried(group, cell.stamp) and not (deleted and deleted[group] == cell.stamp)
    )


def _buried(here: State, arriving: State, replaced: Replaced) -> tuple[Lost, ...]:
    """A tombstone meets a row that is older."""
    if not here.alive or here.stamp > arriving.tombstone:
        return ()
    return tuple(
        Lost(group, cell.stamp, cell.values, arriving.tombstone)
        for group, cell in enumerate(here.cells)
        if not replaced.names(group, cell.stamp)
    )
