"""What a node knows of one key, and how two such knowledges become one.

A *join semilattice* (Shapiro et al., *Conflict-free replicated data types*, 2011): `join` is associative, commutative
and idempotent, each write only adds. So who has received the same writes has the same state, in whatever order,
grouped however, however often. What travels is as much of a state as a write has changed (Almeida et al., *Delta
state replicated data types*, 2018), and is joined in the same way.

The parts, each a maximum by a stamp or a counter that one writer owns:

* `cells`: for each group of columns its newest values. A table without groups has one group, the row.
* `head`: of the newest write to any of them its stamp, and which making of the row it belongs to.
* `buried`: the newest tombstone. There is a row when its head is above that.
* `counts`: the contribution of each node to the counters, for each making of the row: the one with more writes behind
  it is the newer one, since nobody but that node adds to it.

*Cells outlive the row.* A write that is newer than a tombstone brings the row back, and finds the groups that it did
not write as everyone else finds them: so what loses to a tombstone is joined to what the tombstone keeps. With one
group nothing need be kept: what brings the row back is newer than all of it.

*Which contributions count.* A row that is inserted is made on its `base`: the tombstone below it, and whatever else
is known to be over. It is `born` with the stamp of its insertion, and what is added to it is tagged with that. The
value of a counter is the sum of the contributions that were born above the base of the winner. So

* two nodes that make the same key at once both count, whichever wins, and an increment counts also when the rest of
  its row loses;
* what was added to a row that was deleted and made again does not count for the new one, whenever it arrives;
* when a row outlives a deletion because it was written later, its counters do, too.

An increment is lost in one case alone: its row was made before a deletion on which another node made the row that
wins.

What users see is a function of the state: `alive`, `values`, `sums`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from twinstar.rules.active_active.stamps import NONE

Values = Hashable
"""What a group of columns holds."""
Making = tuple[int, int]
"""Whose contribution, to what: (born, node)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A group of columns. Two cells of a group with one stamp are equal."""

    stamp: int
    values: Values = None


NO_CELL = Cell(NONE)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest write to the row, and the making it belongs to."""

    stamp: int
    base: int
    born: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deletion, and of each group the version that was deleted."""

    stamp: int
    was: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """One node's contribution: after so many writes it has added so much to each counter."""

    writes: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a key; also what a write adds to that."""

    cells: tuple[Cell, ...]
    head: Head | None = None
    buried: Tombstone | None = None
    counts: Mapping[Making, Count] = field(default_factory=dict)

    @property
    def tombstone(self) -> int:
        """The stamp of the newest tombstone, or NONE."""
        return self.buried.stamp if self.buried else NONE

    @property
    def stamp(self) -> int:
        """The stamp of the newest write to the row, or NONE."""
        return self.head.stamp if self.head else NONE

    @property
    def alive(self) -> bool:
        """Is there a row?"""
        return self.stamp > self.tombstone

    @property
    def values(self) -> tuple[Values, ...] | None:
        """What the row holds, group by group; None: there is no row."""
        return tuple(cell.values for cell in self.cells) if self.alive else None

    @property
    def sums(self) -> tuple[int, ...] | None:
        """The counters. None: there is no row, or it has none."""
        if self.head is None or not self.alive:
            return None
        return total(self.head.base, self.counts)


def nothing(groups: int) -> State:
    """The least element: a key of a table with so many groups of columns, of which nothing is known."""
    return State((NO_CELL,) * groups)


def total(base: int, counts: Mapping[Making, Count]) -> tuple[int, ...] | None:
    """The counters of a row with this base. None: nobody has contributed."""
    counting = [count.sums for (born, _), count in counts.items() if born > base]
    return tuple(map(sum, zip(*counting, strict=True))) if counting else None


def join(one: State, other: State) -> State:
    """Both knowledges in one: the least state that has what either has."""
    return State(
        tuple(newer_cell(mine, theirs) for mine, theirs in zip(one.cells, other.cells, strict=True)),
        newer_head(one.head, other.head),
        newer_tombstone(one.buried, other.buried),
        join_counts(one.counts, other.counts),
    )


def newer_cell(one: Cell, other: Cell) -> Cell:
    """The one with the greater stamp."""
    return other if other.stamp > one.stamp else one


def newer_head(one: Head | None, other: Head | None) -> Head | None:
    """The one with the greater stamp."""
    if one is None or other is None:
        return one or other
    return other if other.stamp > one.stamp else one


def newer_tombstone(one: Tombstone | None, other: Tombstone | None) -> Tombstone | None:
    """The one with the greater stamp. Removals by different nodes have one stamp and may have seen different groups:
    then the greater of these."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: (each.stamp, each.was))


def join_counts(one: Mapping[Making, Count], other: Mapping[Making, Count]) -> dict[Making, Count]:
    """Of each contribution the one with more writes behind it."""
    joined = dict(one)
    for making, count in other.items():
        mine = joined.get(making)
        if mine is None or count.writes > mine.writes:
            joined[making] = count
    return joined
