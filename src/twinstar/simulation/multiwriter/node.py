"""A node: its database, its log, and the processes that work on them. Each process is a generator that others may
interrupt wherever it yields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from twinstar.rules.active_active.collecting import Report, collectable, effective
from twinstar.rules.active_active.conflicts import Replaced
from twinstar.rules.active_active.stamps import NONE, following, pack
from twinstar.rules.active_active.state import State
from twinstar.rules.active_active.uniques import Claim
from twinstar.rules.active_active.writing import Writer
from twinstar.simulation.multiwriter.applying import Applying
from twinstar.simulation.multiwriter.database import Database, Ended, Resource, Row, Steps, Transaction, View
from twinstar.simulation.multiwriter.plan import Table
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.stream import Batch, Burial, Change, Sent
from twinstar.simulation.multiwriter.triggers import Session, bucket

_RETENTION_US = 40
"""Tombstones are kept at least so long; short, so that they are forgotten within a run."""
_BATCH = 4
"""So many transactions are applied together at most."""


class Careless(Writer):
    """A writer whose stamps are its clock."""

    def stamp(self, known: int) -> int:  # noqa: ARG002 - that is what is careless
        return pack(self.now_us, self.node)


@dataclass(slots=True)
class Node:
    """`received` survives crashes, as the database and the log do. Times in microseconds."""

    number: int
    table: Table
    without: frozenset[Safeguard]
    now_us: Callable[[], int]
    sent: Callable[[Node, Sent], None]
    """Called with each transaction that is committed here and travels."""
    skew_us: int = 0
    database: Database = field(default_factory=Database)
    log: list[Sent] = field(default_factory=list)
    received: dict[int, list[Sent]] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)
    """Dead members from which this node receives no more -> how far it had received."""
    ends: dict[int, int] = field(default_factory=dict)
    """Dead members -> where their logs end."""
    obstacles: set[str] = field(default_factory=set)
    """Keys whose rows cannot be taken in: they become dead letters."""
    sometimes: dict[str, int] = field(default_factory=dict)

    def clock_us(self) -> int:
        return max(1, self.now_us() + self.skew_us)

    def seen(self, what: str) -> None:
        self.sometimes[what] = self.sometimes.get(what, 0) + 1

    def writer(self, view: View) -> Writer:
        """Who writes now, for the triggers."""
        kind = Writer if Safeguard.ROW_CLOCK not in self.without else Careless
        collected = view.get("collected", "") or NONE
        if Safeguard.COLLECTED_BASE in self.without or not self.table.counters:
            collected = NONE
        floor = NONE if Safeguard.FLOOR in self.without else self.database.floor
        return kind(self.number, self.clock_us(), floor, collected)

    def holders(self, transaction: Transaction, claim: Resource, but: str) -> list[Claim]:
        """Who else holds this value."""
        rows = transaction.newest().items("rows")
        return [Claim(key, row.stamp) for key, row in rows if key != but and claim in row.claims]

    def applied(self, peer: int) -> int:
        return int(self.database.read().get("progress", peer) or 0)

    def effective(self, peer: int) -> int:
        """How far the peer's log is here, but for what still waits."""
        if Safeguard.DEAD_LETTERS in self.without:
            return self.applied(peer)
        waiting = [position for (of, position, _), _ in self.database.read().items("letters") if of == peer]
        return effective(self.applied(peer), waiting)

    def reports(self) -> dict[int, Report]:
        """The newest report of each member, when all that the member sent before it is here."""
        found = self.database.read().items("reports")
        return {peer: report for peer, (position, report) in found if position <= self.effective(peer)}

    def commit(self, transaction: Transaction, sends: list[Change]) -> None:
        """Raises Ended."""
        transaction.commit()
        if sends:
            self.log.append(Sent(self.number, len(self.log) + 1, tuple(sends)))
            self.sent(self, self.log[-1])

    # -- processes -----------------------------------------------------------------------------------------------------

    def applying(self, peer: int, chance: Random, repeats: float) -> Steps[None]:
        """Applies what has been received from a peer, batch by batch."""
        while True:
            yield
            ready = self.received.setdefault(peer, [])
            done = self.applied(peer)
            if done >= len(ready):
                continue
            again = chance.randint(1, 3) if chance.random() < repeats else 0
            some = ready[max(0, done - again) : done + chance.randint(1, _BATCH)]
            transaction = self.database.begin()
            try:
                batch = Batch.of(some)
                yield from Applying(self, transaction, batch).run()
                if batch.report is not None:
                    transaction.put("reports", peer, batch.report)
                transaction.put("progress", peer, max(done, batch.upto))
                yield
                transaction.commit()
            except Ended as why:
                self.seen(f"applier: {why}")
            finally:
                transaction.roll_back()

    def sending_removals(self) -> Steps[None]:
        """Publishes the tombstones of rows that lost a unique key."""
        while True:
            yield
            waiting = sorted(self.database.read().items("removals"), key=lambda each: each[0])
            if not waiting or Safeguard.REMOVAL_SENT in self.without:
                continue
            transaction = self.database.begin()
            try:
                sends: list[Change] = []
                for (key, stamp), delta in waiting:
                    yield from transaction.lock(("deleted", key))
                    transaction.remove("removals", (key, stamp))
                    newest = self._newest(transaction, key, delta)
                    lost = max(delta.buried.was) if delta.buried and newest is delta else NONE
                    sends.append(Burial(key, newest, Replaced(), lost))
                self.commit(transaction, sends)
                self.seen("removal sent")
            except Ended as why:
                self.seen(f"removal: {why}")
            finally:
                transaction.roll_back()

    def retrying(self) -> Steps[None]:
        """Applies what could not be applied before."""
        while True:
            yield
            letters = sorted(self.database.read().items("letters"), key=lambda each: each[0])
            for (peer, position, key), image in letters:
                if key in self.obstacles:
                    continue
                transaction = self.database.begin()
                try:
                    batch = Batch(peer, position, position, {key: image})
                    yield from Applying(self, transaction, batch).run()
                    transaction.remove("letters", (peer, position, key))
                    transaction.commit()
                except Ended as why:
                    self.seen(f"dead letter: {why}")
                finally:
                    transaction.roll_back()

    def settling(self) -> Steps[None]:
        """Looks again at tombstones beside which an insertion was open."""
        while True:
            yield
            waiting = sorted(key for key, _ in self.database.read().items("unsettled"))
            if Safeguard.UNSETTLED in self.without:
                continue
            for key in waiting:
                transaction = self.database.begin()
                try:
                    if (yield from Applying(self, transaction, Batch(0, 0, 0)).settle(key)):
                        transaction.commit()
                except Ended as why:
                    self.seen(f"unsettled: {why}")
                finally:
                    transaction.roll_back()

    def _newest(self, transaction: Transaction, key: str, delta: State) -> State:
        """The tombstone as it is by now: of one sender the tombstones of a key only grow."""
        grave = transaction.current("deleted", key)
        newer = grave is not None and grave.stamp > delta.tombstone
        return State(grave.kept, None, grave.tombstone) if newer else delta

    def reporting(self, chance: Random) -> Steps[None]:
        """Raises the floor, waits for all that may have been stamped below it, and reports."""
        while True:
            for _ in range(chance.randint(2, 25)):
                yield
            database = self.database
            database.floor = max(database.floor, following(NONE, max(0, self.clock_us() - _RETENTION_US), self.number))
            # Who has not written yet looks at the floor once more when its row is in its place.
            floor, open_then = database.floor, [each for each in database.open if each.own]
            while Safeguard.OPEN_FIRST not in self.without and any(each in database.open for each in open_then):
                yield
            transaction = database.begin()
            try:
                applied = {peer: self.effective(peer) for peer, _ in transaction.view().items("progress")}
                self.commit(transaction, [Report(applied, floor)])
            except Ended as why:
                self.seen(f"report: {why}")
            finally:
                transaction.roll_back()

    def collecting(self, others: Callable[[], list[int]], chance: Random) -> Steps[None]:
        """Forgets tombstones when nothing that was written without knowing them can still arrive."""
        while True:
            for _ in range(chance.randint(2, 25)):
                yield
            view = self.database.read()
            cut = {**dict(view.items("progress")), self.number: len(self.log)}
            graves = {
                key: (grave.stamp, view.get("rows", key))
                for key, grave in view.items("deleted")
                if not view.get("unsettled", key)
            }
            limit = NONE
            while graves and limit == NONE:
                yield
                limit = collectable(cut, self.reports(), others(), self.database.floor)
                if Safeguard.REPORTS in self.without:
                    limit = self.database.floor
            for key in sorted(graves):
                stamp, row = graves[key]
                if stamp <= limit:
                    yield from self._forget(key, stamp, row)

    def _forget(self, key: str, stamp: int, noted: Row | None) -> Steps[None]:
        """`noted`: the row as it was when the cut was noted."""
        transaction = self.database.begin()
        try:
            yield from transaction.lock(("row", key))
            yield from transaction.lock(bucket(key))
            yield from transaction.lock(("deleted", key))
            grave = transaction.current("deleted", key)
            row = transaction.current("rows", key)
            settled = (row and row.stamp) == (noted and noted.stamp) or Safeguard.SETTLED_ROW in self.without
            if transaction.view().get("unsettled", key) or (self.table.counters and not settled):
                return
            if grave is not None and grave.stamp == stamp:
                below = row.head.base if row else stamp
                for born, node in transaction.view().counts(key):
                    if born <= below:
                        transaction.remove("counted", (key, born, node))
                transaction.remove("deleted", key)
                collected = transaction.view().get("collected", "") or NONE
                transaction.put("collected", "", max(collected, stamp))
                transaction.commit()
                self.seen("tombstone forgotten")
        except Ended as why:
            self.seen(f"collector: {why}")
        finally:
            transaction.roll_back()

    def session(self, *, repeatable: bool) -> tuple[Session, Transaction]:
        transaction = self.database.begin(repeatable=repeatable)
        return Session(self, transaction), transaction
