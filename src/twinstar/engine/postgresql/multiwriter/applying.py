"""Gives a peer's changes of one table to the database: what is simple by sets, the rest row by row.

Simple are *successors* (the row here is the very version that was replaced), *new rows* and *deletions of the very
version that is here*: that is nearly everything, and costs one statement each. What they do not take is decided by the
table's functions (`resolving`), one row after another; these know every case, the simple ones too, so that it does
harm to nothing but speed when a row takes the slow way.

Values go to the server as arrays of text, one for each column, and are converted there, as the server's own input
would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, TypeVar, cast

import psycopg
from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Image, Swath
from twinstar.engine.postgresql.multiwriter.resolving import COLLIDES, CONFLICT, DONE, LOST
from twinstar.engine.postgresql.multiwriter.statements import (
    MergingStatements,
    Statements,
    array,
    array_of_bytes,
    copied,
    copying,
)
from twinstar.engine.postgresql.multiwriter.table import Table

Connection = AsyncConnection[tuple[Any, ...]]
PLANNING = {
    # Batches of one row and of a thousand are joined by the key's index alike, and planned once.
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
}
"""How a session that applies should plan."""
_WARY_BATCHES = 32
"""Rows that two nodes have inserted come in crowds, and a `COPY` that fails has been in vain."""


class _Stamped(Protocol):
    @property
    def stamp(self) -> int: ...


Change = TypeVar("Change", bound=_Stamped)


@dataclass(frozen=True, slots=True)
class Applied:
    rows: int
    """Changes that had an effect here; of those that are written many at once, some may have been here already."""
    conflicts: int
    """Changes by which somebody's write lost: one of here, or their own."""


class Applier(Protocol):
    """Applies changes to one table. Its statements are made once, and prepared by the session that runs them."""

    table: Table

    async def apply(self, connection: Connection, changes: Changes, peer: str) -> Applied:
        """Applies everything, in a transaction that the caller has begun; the session is an `ApplySession`'s.

        Raises psycopg.Error, after which the transaction is lost.
        """
        ...


def applier_of(table: Table) -> Applier:
    return TableApplier(table) if table.plain else MergingApplier(table)


class TableApplier:
    """Of a plain table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._statements = Statements.of(table)
        names = [column.name for column in table.sent_columns]
        self._key = [names.index(name) for name in table.key]
        self._wary = 0
        """For so many swaths it is assumed that some of their rows are here already."""

    async def apply(self, connection: Connection, changes: Changes, peer: str) -> Applied:
        outcomes = Counter[int]()
        left: list[Image] = []
        if changes.burials:
            # A tombstone may be of one of them.
            changes.spread()
        for swath in changes.swaths:
            left += await (self._copy if swath.was is None else self._replace)(connection, swath)
            outcomes[DONE] += len(swath.rows)
        outcomes[DONE] -= len(left)
        images = [*changes.images]
        if changes.burials:
            images, ancestors = self._sort_out(changes)
            outcomes += await self._bury(connection, sorted(changes.burials), ancestors, peer)
        # In one order, so that two appliers seldom wait for each other.
        images = sorted(images, key=self._key_of)
        outcomes[DONE] += len(images)
        others = await self._update(connection, [image for image in images if image.was])
        others += await self._insert(connection, [image for image in images if not image.was])
        outcomes[DONE] -= len(others)
        left += others
        outcomes += await self._resolve(connection, left, peer)
        return Applied(outcomes[DONE] + outcomes[CONFLICT], outcomes[CONFLICT] + outcomes[LOST])

    def _key_of(self, image: Image) -> tuple[str, ...]:
        return cast("tuple[str, ...]", tuple([image.values[place] for place in self._key]))

    def _sort_out(self, changes: Changes) -> tuple[list[Image], dict[tuple[str, ...], list[int]]]:
        """The images that the batch does not bury itself, and the versions that each of its tombstones knew of."""
        stamps = {burial.key: burial.stamp for burial in changes.burials}
        ancestors = {burial.key: [burial.was] for burial in changes.burials}
        images = []
        for image in changes.images:
            key = self._key_of(image)
            stamp = stamps.get(key)
            if stamp is None:
                images.append(image)
                continue
            ancestors[key] += [version for version in (image.was, image.last_was, image.stamp) if version < stamp]
            if image.stamp > stamp:
                # Made anew after the deletion: it replaces nothing.
                images.append(image._replace(was=0, last_was=0))
        return images, ancestors

    async def _bury(
        self, connection: Connection, burials: list[Burial], ancestors: dict[tuple[str, ...], list[int]], peer: str
    ) -> Counter[int]:
        burials = [burial for burial in burials if burial.stamp >= 0]
        known = [f"{{{','.join(map(str, ancestors[burial.key]))}}}" for burial in burials]
        rows = [(*key, str(stamp), of) for (key, stamp, _, _), of in zip(burials, known, strict=True)]
        # The row before the tombstone, as a user's deletion does it: so the two never wait for each other.
        deleted = await self._stamps(connection, self._statements.delete, rows)
        new = await self._stamps(
            connection, self._statements.bury, [(*key, str(stamp), str(was)) for key, stamp, was, _ in burials]
        )
        left = _select(_select(burials, new, among=True), deleted, among=False)
        by_key = dict(zip((burial.key for burial in burials), known, strict=True))
        entombed = await _run(
            connection, self._statements.entomb, [(*burial.key, by_key[burial.key]) for burial in left], peer
        )
        return Counter([*entombed, *[DONE] * deleted.total()])

    async def _update(self, connection: Connection, images: list[Image]) -> list[Image]:
        """Replaces what the images say they replace; those that found something else here."""
        if self._statements.update is None:
            return images
        done = await self._stamps(connection, self._statements.update, _rows(images))
        return _select(images, done, among=False)

    async def _insert(self, connection: Connection, images: list[Image]) -> list[Image]:
        """Inserts what meets no row and no tombstone; those that did."""
        done = await self._stamps(connection, self._statements.insert, _rows(images))
        inserted = _select(images, done, among=True)
        done -= await self._stamps(connection, self._statements.sink, [self._key_of(image) for image in inserted])
        return _select(images, done, among=False)

    async def _copy(self, connection: Connection, swath: Swath) -> list[Image]:
        """Puts new rows in places that nobody must hold; those that met a row or a tombstone."""
        if self._wary:
            self._wary -= 1
            return await self._insert(connection, swath.images())
        places = _places(swath, self.table.key)
        rows = sorted(swath.rows, key=itemgetter(*places))
        statements, cursor = self._statements, connection.cursor()
        await cursor.execute(statements.before_copy.encode())
        try:
            async with cursor.copy(copying(self.table, swath.columns).encode()) as copy:
                await copy.write(copied(rows))
        except psycopg.errors.UniqueViolation:
            await cursor.execute(statements.copy_failed.encode())
            self._wary = _WARY_BATCHES
            return await self._insert(connection, swath.images())
        done = cursor.rowcount
        # A statement after the one that inserted, as `sink` is: what is not there now, `sink` would not find.
        await cursor.execute(statements.after_copy.encode())
        cursor.nextset()
        buried = await cursor.fetchone()
        if done < len(rows):
            # A trigger of the user's that fires for appliers, too, did not want all of them.
            return swath.images()
        if buried == (False,):
            return []
        columns = list(zip(*rows, strict=True))
        keys = [array_of_bytes(columns[place]) for place in places]
        cursor = await connection.execute(statements.sink.encode(), keys, prepare=True)
        sunk = Counter([stamp for (stamp,) in await cursor.fetchall()])
        return _select(swath.images(), sunk, among=True) if sunk else []

    async def _replace(self, connection: Connection, swath: Swath) -> list[Image]:
        """Replaces what the rows say they replace; those that found something else here."""
        statements, table = self._statements, self.table
        if statements.replace is None or swath.was is None:
            return swath.images()
        key = _places(swath, table.key)
        columns = list(zip(*sorted(swath.rows, key=itemgetter(*key)), strict=True))
        places = [*_places(swath, swath.sent), swath.was]
        arrays = [array_of_bytes(columns[place]) for place in places]
        cursor = await connection.execute(statements.replace.encode(), arrays, prepare=True)
        if cursor.rowcount == len(swath.rows):
            return []
        # Whether this statement has put a version here or an earlier one is the same.
        arrays = [array_of_bytes(columns[place]) for place in [*key, *_places(swath, [swath.stamp])]]
        cursor = await connection.execute(statements.here.encode(), arrays, prepare=True)
        here = Counter([stamp for (stamp,) in await cursor.fetchall()])
        return _select(swath.images(), here, among=False)

    async def _resolve(self, connection: Connection, images: list[Image], peer: str) -> Counter[int]:
        async def clear(waiting: list[Image]) -> None:
            await _run(connection, self._statements.clear, _rows(waiting))

        return await _resolve(connection, self._statements.resolve, images, _rows, peer, clear)

    async def _stamps(
        self, connection: Connection, statement: str, rows: Sequence[Sequence[str | None]]
    ) -> Counter[int]:
        return Counter(await _run(connection, statement, rows))


class MergingApplier:
    """Of a table with counters or groups of columns: nothing is put in place of anything, so there is no fast way."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._statements = MergingStatements.of(table)
        names = [column.name for column in table.sent_columns]
        self._key = [names.index(name) for name in table.key]

    async def apply(self, connection: Connection, changes: Changes, peer: str) -> Applied:
        statements = self._statements
        # Contributions first: a row is never without them.
        counted = sorted(changes.contributions)
        keys = sorted({each.key for each in counted})
        await _run(connection, statements.found, keys)
        new = await _run(
            connection,
            statements.count,
            [(*key, str(born), str(node), str(writes), *sums) for key, born, node, writes, sums in counted],
        )
        knew = {self._key_of(image): _knew(image) for image in changes.images}
        outcomes = Counter(
            await _run(
                connection,
                statements.entomb,
                [
                    (*key, str(stamp), str(was), image, f"{{{knew.get(key, '')}}}")
                    for key, stamp, was, image in sorted(changes.burials, key=lambda burial: burial.key)
                ],
                peer,
            )
        )
        images = sorted(changes.images, key=self._key_of)
        outcomes += await _resolve(connection, statements.resolve, images, _merging_rows, peer)
        await _run(connection, statements.recount, keys)
        return Applied(outcomes[DONE] + outcomes[CONFLICT] + len(new), outcomes[CONFLICT] + outcomes[LOST])

    def _key_of(self, image: Image) -> tuple[str, ...]:
        return cast("tuple[str, ...]", tuple([image.values[place] for place in self._key]))


async def _resolve(
    connection: Connection,
    statement: str,
    images: list[Image],
    rows: Callable[[list[Image]], list[tuple[str | None, ...]]],
    peer: str,
    clear: Callable[[list[Image]], Awaitable[None]] | None = None,
) -> Counter[int]:
    """Row by row. A row that holds another one's unique value may be about to give it up in this very batch: only
    when none of those that wait for that can go on is somebody removed, and `clear` is what then comes first."""
    outcomes = Counter[int]()
    remove = False
    while images:
        codes = await _run(connection, statement, rows(images), peer, remove)
        waiting = [image for image, code in zip(images, codes, strict=True) if code == COLLIDES]
        outcomes.update(code for code in codes if code != COLLIDES)
        if len(waiting) == len(images):
            remove = True
            if clear is not None:
                await clear(waiting)
        images = waiting
    return outcomes


async def _run(
    connection: Connection, statement: str, rows: Sequence[Sequence[str | None]], *more: object
) -> list[int]:
    """Runs a statement over rows; the numbers that it returns."""
    if not rows:
        return []
    arrays = [array(column) for column in zip(*rows, strict=True)]
    cursor = await connection.execute(statement.encode(), [*more, *arrays], prepare=True)
    return [number for (number,) in await cursor.fetchall()]


def _merging_rows(images: list[Image]) -> list[tuple[str | None, ...]]:
    return [(*image.values, f"{{{_knew(image)}}}") for image in images]


def _knew(image: Image) -> str:
    """What the writes knew, as `merging` wants it."""
    if image.last_knew:
        return f"{image.knew},{image.last_knew}"
    return f"{image.was},{image.last_was}" if image.was or image.last_was else ""


def _places(swath: Swath, names: Sequence[str]) -> list[int]:
    return [swath.columns.index(name) for name in names]


def _rows(images: list[Image]) -> list[tuple[str | None, ...]]:
    return [(*image.values, str(image.was), str(image.last_was)) for image in images]


def _select(changes: list[Change], stamps: Counter[int], *, among: bool) -> list[Change]:
    """The changes whose stamps came back, or the others. Where one stamp belongs to several, and not all came back,
    each of them is taken for the more laborious: that is right, too.
    """
    if not among and stamps.total() == len(changes):
        return []
    occurs = Counter([change.stamp for change in changes])
    return [
        change
        for change in changes
        if (stamps[change.stamp] > 0 if among else stamps[change.stamp] < occurs[change.stamp])
    ]
