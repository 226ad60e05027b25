"""Batches become transactions of this node.

A batch is one transaction; progress is committed with it, and everything that is applied may be applied again, so a
crash at any point does no harm. What can pass (a deadlock, a lock that somebody holds) is tried again as often as it
takes. What cannot be applied at all is looked for in halves, with nothing kept: the rows that fail alone become dead
letters, and the rest is applied *together*, since rows of one transaction may depend on each other (one takes over a
unique value that another gives up).

A transaction that comes in several batches is applied in savepoints of one transaction of this node. When something in
the middle of it could pass but does not, everything of it is given up and received again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import psycopg

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.batch import Changes
from twinstar.engine.postgresql.multiwriter.collapse import Batch, Part, Stray
from twinstar.engine.postgresql.multiwriter.pause import Pause
from twinstar.engine.postgresql.multiwriter.session import ApplySession, Connection
from twinstar.engine.postgresql.multiwriter.table import Table
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness

log = logging.getLogger(__name__)

_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 2.0, 500.0
_TRIES_IN_THE_MIDDLE = 5
_SCHEMA_CLASS = "42"
_PASSING_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
"""Of SQLSTATE: connections, transactions' states, rollbacks, resources, objects that are in use, operators, disks."""


class Rules(Protocol):
    """What becomes of changes in the database. All run in an open transaction of the applier's session, and raise
    psycopg.Error, after which the transaction, or the savepoint, is lost.
    """

    async def apply(self, connection: Connection, table: Table, changes: Changes, peer: str) -> int:
        """Returns by how many of the changes somebody's write lost."""
        ...

    async def keep_failed(
        self, connection: Connection, table: Table, changes: Changes, peer: str, error: psycopg.Error
    ) -> None:
        """Writes the dead letter of one change that cannot be applied."""
        ...

    async def keep_stray(self, connection: Connection, stray: Stray, peer: str) -> None:
        """Writes the dead letter of a row that no table here can take."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch."""

    conflicts: int = 0
    dead_letters: int = 0


class Writer:
    """Writes one peer's batches in their order. Raises psycopg.Error when the session has ended, or when it has to."""

    def __init__(
        self, session: ApplySession, rules: Rules, peer: str, clock: Clock, randomness: Randomness, doubts: set[int]
    ) -> None:
        self._session, self._rules, self._peer = session, rules, peer
        self._connection = session.connection
        self._clock, self._randomness = clock, randomness
        self._doubts = doubts
        """Ends of batches at which the tables were looked at anew; they outlive this session."""
        self.middle = False
        """Whether a transaction of several batches is open."""

    async def write(self, batch: Batch) -> Written:
        """Returns when the batch is durable, or, unless it is complete, a part of a transaction that is open."""
        if batch.complete and not self.middle:
            return await self._write_whole(batch)
        if not self.middle:
            await self._session.begin()
            self.middle = True
        written = await self._write_part(batch)
        if batch.complete:
            await self._session.commit(batch.end_lsn, batch.time_us)
            self.middle = False
        return written

    async def _write_whole(self, batch: Batch) -> Written:
        pause = self._pause()
        carefully = False
        while True:
            try:
                await self._session.begin()
                written = await (self._write_carefully(batch) if carefully else self._write_at_once(batch))
                await self._session.commit(batch.end_lsn, batch.time_us)
                return written
            except psycopg.Error as error:
                if self._connection.closed:
                    raise
                await self._session.rollback()
                if not _passes(error):
                    if carefully:
                        raise
                    self._doubt(batch, error)
                    log.warning("A row from %s cannot be applied: %s", self._peer, sentence(error))
                    carefully = True
                    continue
            await pause.wait()

    async def _write_part(self, batch: Batch) -> Written:
        pause = self._pause()
        tries = 0
        while True:
            tries += 1
            await self._connection.execute("SAVEPOINT part")
            try:
                written = await self._write_at_once(batch)
            except psycopg.Error as error:
                if self._connection.closed or (_passes(error) and tries == _TRIES_IN_THE_MIDDLE):
                    raise
                await self._connection.execute("ROLLBACK TO part; RELEASE part")
                if not _passes(error):
                    self._doubt(batch, error)
                    return await self._write_carefully(batch)
                await pause.wait()
            else:
                await self._connection.execute("RELEASE part")
                return written

    async def _write_at_once(self, batch: Batch) -> Written:
        conflicts = await self._apply(list(batch.parts))
        for stray in batch.strays:
            await self._rules.keep_stray(self._connection, stray, self._peer)
        return Written(conflicts, len(batch.strays))

    async def _write_carefully(self, batch: Batch) -> Written:
        """Without the rows that fail."""
        for _, changes in batch.parts:
            changes.spread()
        await self._connection.execute("SAVEPOINT looking")
        failing = await self._failing(list(batch.parts))
        await self._connection.execute("ROLLBACK TO looking; RELEASE looking")
        rest = [_without(part, failing) for part in batch.parts]
        await self._connection.execute("SAVEPOINT rest")
        conflicts = 0
        try:
            conflicts = await self._apply(rest)
        except psycopg.Error as error:
            if self._connection.closed or _passes(error):
                raise
            # They depend on a row that failed.
            await self._connection.execute("ROLLBACK TO rest")
            failing = await self._failing(list(batch.parts))
        await self._connection.execute("RELEASE rest")
        for table, changes, reason in failing:
            await self._rules.keep_failed(self._connection, table, changes, self._peer, reason)
        for stray in batch.strays:
            await self._rules.keep_stray(self._connection, stray, self._peer)
        return Written(conflicts, len(failing) + len(batch.strays))

    async def _failing(self, parts: list[Part]) -> list[tuple[Table, Changes, psycopg.Error]]:
        """Applies what can be applied; the single changes that cannot, and why."""
        await self._connection.execute("SAVEPOINT half")
        try:
            await self._apply(parts)
        except psycopg.Error as error:
            if self._connection.closed or _passes(error):
                raise
            await self._connection.execute("ROLLBACK TO half; RELEASE half")
            if sum(map(_size, parts)) <= 1:
                return [(table, changes, error) for table, changes in parts if _size((table, changes))]
            first, second = _halves(parts)
            return [*await self._failing(first), *await self._failing(second)]
        await self._connection.execute("RELEASE half")
        return []

    async def _apply(self, parts: list[Part]) -> int:
        conflicts = 0
        for table, changes in parts:
            conflicts += await self._rules.apply(self._connection, table, changes, self._peer)
        return conflicts

    def _pause(self) -> Pause:
        return Pause(self._clock, self._randomness, _FIRST_PAUSE_MS, _LONGEST_PAUSE_MS)

    def _doubt(self, batch: Batch, error: psycopg.Error) -> None:
        """An error that a change of this node's tables may have caused is raised once: a new session knows them."""
        if (error.sqlstate or "").startswith(_SCHEMA_CLASS) and batch.end_lsn not in self._doubts:
            self._doubts.clear()
            self._doubts.add(batch.end_lsn)
            raise error


def _passes(error: psycopg.Error) -> bool:
    """Whether the same may succeed later without anybody doing anything about the rows."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_PASSING_CLASSES)


def _size(part: Part) -> int:
    _, changes = part
    return len(changes.images) + len(changes.burials) + len(changes.contributions)


def _halves(parts: list[Part]) -> tuple[list[Part], list[Part]]:
    """Of at least two changes, each half with at least one."""
    flat = [piece for part in parts for piece in _kinds(part)]
    if len(flat) > 1:
        middle = len(flat) // 2
        return flat[:middle], flat[middle:]
    ((table, changes),) = flat
    middle = _size((table, changes)) // 2
    return (
        [(table, Changes(changes.images[:middle], changes.burials[:middle], changes.contributions[:middle]))],
        [(table, Changes(changes.images[middle:], changes.burials[middle:], changes.contributions[middle:]))],
    )


def _kinds(part: Part) -> list[Part]:
    """The part as parts with changes of one kind, in the order in which a TableApplier takes them."""
    table, changes = part
    kinds = (
        Changes(burials=changes.burials),
        Changes(images=changes.images),
        Changes(contributions=changes.contributions),
    )
    return [(table, kind) for kind in kinds if _size((table, kind))]


def _without(part: Part, failing: list[tuple[Table, Changes, psycopg.Error]]) -> Part:
    table, changes = part
    images = {id(image) for _, single, _ in failing for image in single.images}
    burials = {id(burial) for _, single, _ in failing for burial in single.burials}
    contributions = {id(each) for _, single, _ in failing for each in single.contributions}
    return table, Changes(
        [image for image in changes.images if id(image) not in images],
        [burial for burial in changes.burials if id(burial) not in burials],
        [each for each in changes.contributions if id(each) not in contributions],
    )
