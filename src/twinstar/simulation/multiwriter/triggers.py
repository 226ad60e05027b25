"""What a user's statement does in the database of an active-active node: the statement itself, and our triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from twinstar.rules.active_active.conflicts import Replaced
from twinstar.rules.active_active.state import State, Values, join, newer_tombstone
from twinstar.rules.active_active.writing import Writer, deletion, insertion, update
from twinstar.simulation.multiwriter.database import Ended, Grave, Resource, Row, Steps, Transaction
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.stream import Burial, Change, Contribution, Image

if TYPE_CHECKING:
    from twinstar.simulation.multiwriter.node import Node

BUCKETS = 2


def bucket(key: str) -> Resource:
    """What stands between an insertion and a tombstone for a key without a row."""
    return ("bucket", int(key[1:]) % BUCKETS)


class Session:
    """One local transaction, with what it will send."""

    def __init__(self, node: Node, transaction: Transaction) -> None:
        self._node, self._transaction = node, transaction
        self.sends: list[Change] = []

    def sees(self, key: str) -> bool:
        """Is there a row, as a statement that begins now has it?"""
        return self._transaction.view().get("rows", key) is not None

    def insert(self, key: str, values: tuple[Values, ...], amounts: tuple[int, ...]) -> Steps[None]:
        """Raises Ended when a key is taken."""
        mine, groups = self._transaction, self._node.table.groups
        by = self._writer()
        before = mine.view().state(key, groups)
        if before.alive:
            raise Ended("the key is there")
        yield
        yield from mine.lock(("row", key))
        if mine.newest().get("rows", key) is not None:
            raise Ended("the key is there")
        delta = insertion(replace(before, head=None), by, values, amounts)
        yield from self._place(key, delta)
        if Safeguard.LOOK_AFTER not in self._node.without:
            yield
            delta = yield from self._look_after(key, delta, values, amounts)
        if amounts:
            ((born, node), count) = next(iter(delta.counts.items()))
            mine.put("counted", (key, born, node), count)
            self.sends.append(Contribution(key, born, node, count, amounts))
        self.sends.append(Image(key, replace(delta, counts={}), Replaced()))

    def _look_after(self, key: str, delta: State, values: tuple[Values, ...], amounts: tuple[int, ...]) -> Steps[State]:
        """The row is in its place: a tombstone that is not below it now has come meanwhile."""
        mine, node = self._transaction, self._node
        if Safeguard.BUCKET_LOCK not in node.without:
            yield from mine.lock(bucket(key), shared=True)
        state, by = replace(mine.view().state(key, node.table.groups), head=None), self._writer()
        assert delta.head is not None
        old = mine.repeatable and Safeguard.OLD_SNAPSHOT not in node.without
        if old:
            yield from self._placeholder(key)
        elif by.floor < delta.stamp and max((state.tombstone, *(born for born, _ in state.counts))) <= delta.head.base:
            return delta
        delta = insertion(state, by, values, amounts)
        if old:
            # What is over is not in the snapshot, so the row counts from itself on.
            assert delta.head is not None
            delta = replace(delta, head=replace(delta.head, base=delta.stamp - 1))
        yield from self._place(key, delta)
        return delta

    def _placeholder(self, key: str) -> Steps[None]:
        """Raises Ended when there is a tombstone that the snapshot does not have."""
        mine = self._transaction
        yield from mine.lock(("deleted", key))
        grave = mine.newest().get("deleted", key)
        if grave is not None and grave != mine.view().get("deleted", key):
            raise Ended("could not serialize access")

    def _place(self, key: str, delta: State) -> Steps[None]:
        assert delta.head is not None
        sums = next(iter(delta.counts.values())).sums if delta.counts else None
        row = Row(self._node.database.next_chain(), delta.head, delta.cells, sums)
        yield from self._claim(key, row)
        self._transaction.put("rows", key, row)

    def _claim(self, key: str, row: Row) -> Steps[None]:
        for claim in row.claims:
            yield from self._transaction.lock(claim)
            if self._node.holders(self._transaction, claim, key):
                raise Ended("a unique value is taken")

    def update(self, key: str, changed: Mapping[int, Values], added: tuple[int, ...]) -> Steps[None]:
        """Nothing when there is no row. Raises Ended when a value is taken."""
        row = yield from self._locked(key)
        if row is None:
            return
        mine = self._transaction
        state = State(row.cells, row.head, None, mine.newest().counts(key))
        by = self._writer()
        delta = update(state, by, changed, added)
        assert delta.head is not None
        if not changed and Safeguard.COUNTERS_ALONE in self._node.without:
            delta = replace(delta, head=replace(delta.head, stamp=by.stamp(row.stamp)))
            delta = replace(delta, cells=tuple(replace(cell, stamp=delta.stamp) for cell in delta.cells))
        assert delta.head is not None
        sums = tuple(map(sum, zip(row.sums or (0,) * len(added), added, strict=True))) if added else row.sums
        new = Row(row.chain, delta.head, delta.cells, sums)
        if new.claims != row.claims:
            yield from self._give_up(row)
            yield from self._claim(key, new)
        mine.put("rows", key, new)
        for (born, node), count in delta.counts.items():
            mine.put("counted", (key, born, node), count)
            self.sends.append(Contribution(key, born, node, count, added))
        over = tuple(cell.stamp for cell in row.cells)
        self.sends.append(Image(key, replace(delta, counts={}), Replaced(over, over)))

    def delete(self, key: str) -> Steps[None]:
        """Nothing when there is no row."""
        row = yield from self._locked(key)
        if row is None:
            return
        mine, by = self._transaction, self._writer()
        yield from self._give_up(row)
        mine.remove("rows", key)
        yield
        yield from mine.lock(("deleted", key))
        grave = mine.current("deleted", key)
        unsettled = grave is not None and grave.stamp >= row.stamp
        delta = deletion(State(row.cells, row.head, None if unsettled else grave and grave.tombstone), by)
        grave = buried(grave, delta)
        mine.put("deleted", key, grave)
        over = tuple(cell.stamp for cell in row.cells)
        if unsettled:
            delta = State(grave.kept, None, grave.tombstone)
        self.sends.append(Burial(key, delta, Replaced(over, over)))

    def _locked(self, key: str) -> Steps[Row | None]:
        """The row that the statement finds, as it is when it is locked."""
        seen: Row | None = self._transaction.view().get("rows", key)
        yield
        if seen is None:
            return None
        yield from self._transaction.lock(("row", key))
        row: Row | None = self._transaction.current("rows", key)
        return row if row and row.chain == seen.chain else None

    def _give_up(self, row: Row) -> Steps[None]:
        for claim in row.claims:
            yield from self._transaction.lock(claim)

    def _writer(self) -> Writer:
        return self._node.writer(self._transaction.view())


def buried(grave: Grave | None, delta: State) -> Grave:
    """The grave after a tombstone, and what it keeps, was joined to it."""
    assert delta.buried is not None
    if grave is None:
        return Grave(delta.buried, delta.cells)
    both = join(State(grave.kept, None, grave.tombstone), delta)
    tombstone = newer_tombstone(grave.tombstone, delta.buried)
    assert tombstone is not None
    return Grave(tombstone, both.cells)
