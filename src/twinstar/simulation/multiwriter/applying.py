"""What an applier does with a batch of a peer's transactions: one local transaction, statement by statement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twinstar.rules.active_active.conflicts import Replaced, lost
from twinstar.rules.active_active.stamps import NONE, REMOVAL, following, node_of, removal
from twinstar.rules.active_active.state import State, join, join_counts, newer_cell, nothing, total
from twinstar.rules.active_active.uniques import Claim, losers
from twinstar.rules.active_active.writing import burial
from twinstar.simulation.multiwriter.database import Grave, Row, Steps, Transaction, View
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.stream import Batch, Burial, Contribution, Image
from twinstar.simulation.multiwriter.triggers import bucket, buried

if TYPE_CHECKING:
    from twinstar.simulation.multiwriter.node import Node


class Applying:
    """One batch. Raises Ended when it has to be tried again."""

    def __init__(self, node: Node, transaction: Transaction, batch: Batch) -> None:
        self._node, self._mine, self._batch = node, transaction, batch
        self._aside: dict[str, Row] = {}
        """Rows that have made room for others, and for which the batch has something newer."""
        self._done: set[str] = set()

    def _with(self, safeguard: Safeguard) -> bool:
        return safeguard not in self._node.without

    def run(self) -> Steps[None]:
        batch = self._batch
        for _, grave in sorted(batch.burials.items()):
            yield from self._burial(grave)
        for key, image in sorted(batch.images.items()):
            if key in self._node.obstacles:
                self._mine.put("letters", (batch.peer, batch.first, key), image)
                self._node.seen("dead letter")
            else:
                yield from self._image(image)
            self._done.add(key)
        for _, contribution in sorted(batch.contributions.items()):
            yield from self._contribution(contribution)
        if self._node.table.counters:
            for key in sorted({*batch.images, *(key for key, _, _ in batch.contributions)}):
                yield from self._sums(key)

    # -- tombstones ----------------------------------------------------------------------------------------------------

    def _burial(self, change: Burial) -> Steps[None]:
        """Delete, lock, delete again, and keep the tombstone."""
        mine, key, delta = self._mine, change.key, change.delta
        found, delta = yield from self._delete(mine.view(), key, delta, change.replaced)
        if not found:
            if not self._with(Safeguard.TOMBSTONE_OF_ABSENT):
                return
            if self._with(Safeguard.BUCKET_LOCK) and not mine.try_lock(bucket(key)):
                # An insertion is open: nobody waits for it, later it is looked again.
                mine.put("unsettled", key, value=True)
                self._node.seen("unsettled tombstone")
            elif self._with(Safeguard.SECOND_DELETE):
                while mine.view().get("rows", key) is not None and not found:
                    found, delta = yield from self._delete(mine.view(), key, delta, change.replaced)
        yield from self._keep(key, delta)

    def settle(self, key: str) -> Steps[bool]:
        """Looks again at a tombstone beside which an insertion was open; False: one still is."""
        mine = self._mine
        if not mine.try_lock(bucket(key)):
            return False
        grave: Grave | None = mine.view().get("deleted", key)
        if grave is not None:
            yield from self._burial(Burial(key, State(grave.kept, None, grave.tombstone), Replaced()))
            now: Grave | None = mine.current("deleted", key)
            if now is not None and now.stamp > grave.stamp and self._with(Safeguard.SAME_TOMBSTONE):
                return True
        mine.remove("unsettled", key)
        return True

    def _keep(self, key: str, delta: State) -> Steps[None]:
        """The tombstone is there from now on, also for transactions whose snapshot is older."""
        mine = self._mine
        yield from mine.lock(("deleted", key))
        if self._with(Safeguard.REMOVAL) or node_of(delta.tombstone) != REMOVAL:
            mine.put("deleted", key, buried(mine.current("deleted", key), delta))

    def _delete(self, view: View, key: str, delta: State, replaced: Replaced) -> Steps[tuple[bool, State]]:
        """Was there a row? And the tombstone, with what it keeps of the row."""
        seen: Row | None = view.get("rows", key)
        yield
        if seen is None:
            return False, delta
        yield from self._mine.lock(("row", key))
        row: Row | None = self._mine.current("rows", key)
        if row is None or row.chain != seen.chain:
            return False, delta
        if row.stamp > delta.tombstone:
            return True, delta
        self._log(key, State(row.cells, row.head), delta, replaced)
        yield from self._remove(key, row)
        return True, self._keeping(delta, row)

    def _keeping(self, delta: State, row: Row) -> State:
        if not self._with(Safeguard.KEPT_IMAGES):
            return delta
        return replace(delta, cells=tuple(map(newer_cell, delta.cells, row.cells)))

    def _remove(self, key: str, row: Row) -> Steps[None]:
        for claim in row.claims:
            yield from self._mine.lock(claim)
        self._mine.remove("rows", key)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _image(self, change: Image) -> Steps[None]:
        mine, key = self._mine, change.key
        while True:
            seen: Row | None = mine.view().get("rows", key)
            yield
            if seen is None:
                if (yield from self._insert(change)):
                    return
                continue
            yield from mine.lock(("row", key))
            row: Row | None = mine.current("rows", key)
            if row is not None and row.chain == seen.chain:
                yield from self._merge(change, row)
                return

    def _merge(self, change: Image, row: Row) -> Steps[None]:
        """There is a row."""
        here, delta = State(row.cells, row.head), change.delta
        self._log(change.key, here, delta, change.replaced)
        both = join(here, delta)
        if not self._with(Safeguard.MERGED_GROUPS) and delta.stamp > row.stamp:
            both = delta
        if both.cells != row.cells:
            assert both.head is not None
            yield from self._put(change.key, replace(row, head=both.head, cells=both.cells), row)

    def _insert(self, change: Image) -> Steps[bool]:
        """There is no row; False: now there is."""
        mine, key, delta = self._mine, change.key, change.delta
        if self._with(Safeguard.BUCKET_LOCK):
            yield from mine.lock(bucket(key), shared=True)
        if self._with(Safeguard.GRAVE_LOCK) and mine.view().get("deleted", key) is not None:
            yield from mine.lock(("deleted", key))
            if mine.view().get("rows", key) is not None:
                return False
        known = mine.view().get("deleted", key)
        here = self._here(mine.view(), key)
        if here.tombstone > delta.stamp and self._with(Safeguard.TOMBSTONE_CHECK):
            yield from self._refuse(change, here)
            return True
        yield
        held = mine.holds(("row", key))
        yield from mine.lock(("row", key))
        if mine.current("rows", key) is not None:
            if not held:
                mine.release(("row", key))
            return False
        if key in self._aside:
            self._log(key, here, delta, change.replaced)
        both = join(here, delta)
        assert both.head is not None
        yield from self._put(key, Row(self._node.database.next_chain(), both.head, both.cells, None), None)
        yield
        if self._with(Safeguard.LOOK_AFTER) and self._with(Safeguard.TOMBSTONE_CHECK):
            now = self._here(mine.view(), key)
            row: Row | None = mine.current("rows", key) if ("rows", key) in mine.own else None
            if row is not None and now.tombstone > row.stamp:
                yield from self._remove(key, row)
                yield from self._refuse(change, now)
            elif row is not None and known is None and mine.view().get("deleted", key) is not None:
                # What the tombstone keeps may be newer than some of the row.
                yield from self._remove(key, row)
                return False
        return True

    def _here(self, view: View, key: str) -> State:
        """What is known of a key that has no row: its grave, and the row when it was put aside."""
        state = replace(view.state(key, self._node.table.groups), head=None, counts={})
        if not self._with(Safeguard.KEPT_IMAGES):
            state = replace(state, cells=nothing(len(state.cells)).cells)
        aside = self._aside.get(key)
        return join(state, State(aside.cells, aside.head)) if aside else state

    def _refuse(self, change: Image, here: State) -> Steps[None]:
        """A tombstone is newer."""
        key = change.key
        self._log(key, here, change.delta, change.replaced)
        if self._with(Safeguard.KEPT_IMAGES):
            yield from self._mine.lock(("deleted", key))
            grave = self._mine.current("deleted", key)
            if grave is not None:
                self._mine.put(
                    "deleted", key, replace(grave, kept=tuple(map(newer_cell, grave.kept, change.delta.cells)))
                )

    # -- unique keys ---------------------------------------------------------------------------------------------------

    def _put(self, key: str, row: Row, old: Row | None) -> Steps[None]:
        """The row takes its place, or goes under as the loser of a unique key."""
        mine = self._mine
        claims = [claim for claim in row.claims if old is None or claim not in old.claims]
        for claim in dict.fromkeys([*claims, *(old.claims if old else [])]):
            yield from mine.lock(claim)
        me = Claim(key, row.stamp)
        while True:
            holders = {holder for claim in claims for holder in self._node.holders(mine, claim, key)}
            replaced = {each for each in holders if self._replaces(str(each.key))}
            if replaced and self._with(Safeguard.FREED_FIRST):
                for each in sorted(replaced, key=str):
                    yield from self._put_aside(str(each.key))
                continue
            gone = losers(me, holders)
            if me in gone:
                yield from self._under(key, row, present=old is not None)
                return
            if not gone:
                mine.put("rows", key, row)
                return
            for each in sorted(gone, key=str):
                loser: Row | None = yield from self._lock_row(str(each.key))
                if loser is not None and loser.stamp == each.stamp:
                    yield from self._under(str(each.key), loser, present=True)

    def _replaces(self, key: str) -> bool:
        """Is there something in the batch, still to come, that was written over this row?"""
        image, row = self._batch.images.get(key), self._mine.newest().get("rows", key)
        if image is None or row is None or key in self._node.obstacles or key in self._done or key in self._aside:
            return False
        return all(image.replaced.names(group, cell.stamp) for group, cell in enumerate(row.cells))

    def _lock_row(self, key: str) -> Steps[Row | None]:
        yield from self._mine.lock(("row", key))
        row: Row | None = self._mine.current("rows", key)
        return row

    def _put_aside(self, key: str) -> Steps[None]:
        row = yield from self._lock_row(key)
        if row is not None:
            self._aside[key] = row
            yield from self._remove(key, row)

    def _under(self, key: str, row: Row, *, present: bool) -> Steps[None]:
        """A loser: removed, logged, and under a tombstone of its own, which an ordinary session will send."""
        mine = self._mine
        state = State(row.cells, row.head)
        above = removal(row.stamp)
        if not self._with(Safeguard.REMOVAL_STAMP):
            above = following(row.stamp, 0, self._node.number)
        delta = burial(state, above)
        self._log(key, state, delta, Replaced())
        if self._with(Safeguard.REMOVAL):
            mine.put("removals", (key, delta.tombstone), delta)
        if present:
            yield from self._remove(key, row)
            yield from self._keep(key, delta)
        else:
            if ("rows", key) not in mine.own:
                mine.release(("row", key))
            yield from self._burial(Burial(key, delta, Replaced()))

    # -- counters ------------------------------------------------------------------------------------------------------

    def _contribution(self, change: Contribution) -> Steps[None]:
        mine = self._mine
        at = change.key, change.born, change.node
        yield from mine.lock(("counted", *at))
        known = mine.current("counted", at)
        if self._with(Safeguard.CONTRIBUTIONS):
            making = change.born, change.node
            joined = join_counts({making: known} if known else {}, {making: change.count})[making]
        else:
            sums = tuple(map(sum, zip(known.sums, change.added, strict=True))) if known else change.added
            joined = replace(change.count, sums=sums)
        mine.put("counted", at, joined)
        yield

    def _sums(self, key: str) -> Steps[None]:
        """The row has the sums of what counts, made when it is locked."""
        mine = self._mine
        view = mine.view()
        yield
        yield from mine.lock(("row", key))
        if self._with(Safeguard.SUMS_UNDER_LOCK):
            view = mine.view()
        row: Row | None = mine.current("rows", key)
        if row is not None:
            base = row.head.base if self._with(Safeguard.MAKINGS) else NONE
            mine.put("rows", key, replace(row, sums=total(base, view.counts(key))))

    # -- conflicts -----------------------------------------------------------------------------------------------------

    def _log(self, key: str, here: State, arriving: State, replaced: Replaced) -> None:
        if not self._with(Safeguard.CONFLICTS_BY_GROUP) and max(replaced.last, default=NONE) == here.stamp:
            return
        for each in lost(here, arriving, replaced):
            self._mine.put("lost", (key, each.group, each.stamp), each)
