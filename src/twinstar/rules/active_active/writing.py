"""What a local write adds to the state of a key: what triggers do in the database.

Each function takes the state as the writer sees it under the row's lock, and returns what is new: joined to the state
it is the state after the write, and it is what the peers receive.

*Insertions* are stamped above the key's tombstone, and above the node's `floor`: a node may have forgotten tombstones
that others still have (`collecting`), or, in a transaction with an old snapshot, not see one that is there. The base
of the new row is all that is over: the tombstone, the contributions that are here already, and `collected`, the
greatest tombstone that this node has forgotten.

*Counters*: an update that changes nothing else leaves the stamp alone. Otherwise the image with which an increment
travels would take away what another node wrote at the same time to the other columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from twinstar.rules.active_active.stamps import FOUND, NONE, following
from twinstar.rules.active_active.state import NO_CELL, Cell, Count, Head, Making, State, Tombstone, Values


@dataclass(frozen=True, slots=True)
class Writer:
    """A node that writes, at an instant. `floor` and `collected` are stamps."""

    node: int
    now_us: int
    floor: int = NONE
    collected: int = NONE

    def stamp(self, known: int) -> int:
        return following(known, self.now_us, self.node)


def found(values: tuple[Values, ...], amounts: tuple[int, ...] = ()) -> State:
    """A row that was in its table before that was taken in; its counters are node 0's contribution."""
    counts = {(FOUND, 0): Count(0, amounts)} if amounts else {}
    return State(tuple(Cell(FOUND, each) for each in values), Head(FOUND, NONE, FOUND), None, counts)


def insertion(state: State, by: Writer, values: tuple[Values, ...], amounts: tuple[int, ...] = ()) -> State:
    """A row is made where there is none."""
    assert not state.alive, "the primary key refuses this"
    here = max((born for born, _ in state.counts), default=NONE)
    base = max(state.tombstone, by.collected, here)
    stamp = by.stamp(max(base, by.floor))
    counts = {(stamp, by.node): Count(1, amounts)} if amounts else {}
    return State(tuple(Cell(stamp, each) for each in values), Head(stamp, base, stamp), None, counts)


def update(state: State, by: Writer, changed: Mapping[int, Values], added: tuple[int, ...] = ()) -> State:
    """Groups get new values, and counters are added to."""
    assert state.head is not None and state.alive, "there is no row to update"
    cells, head = state.cells, state.head
    if changed:
        stamp = by.stamp(head.stamp)
        cells = tuple(Cell(stamp, changed[at]) if at in changed else cell for at, cell in enumerate(cells))
        head = replace(head, stamp=stamp)
    counts: dict[Making, Count] = {}
    if any(added):
        making = (head.born, by.node)
        mine = state.counts.get(making, Count(0, (0,) * len(added)))
        counts[making] = Count(mine.writes + 1, tuple(map(sum, zip(mine.sums, added, strict=True))))
    return State(cells, head, None, counts)


def deletion(state: State, by: Writer) -> State:
    """The row goes; the tombstone keeps its groups."""
    assert state.alive, "there is no row to delete"
    return burial(state, by.stamp(max(state.stamp, state.tombstone)))


def burial(state: State, stamp: int) -> State:
    """A tombstone with this stamp for the row that is here."""
    was = tuple(cell.stamp for cell in state.cells)
    cells = state.cells if len(state.cells) > 1 else (NO_CELL,)
    return State(cells, None, Tombstone(stamp, was))
