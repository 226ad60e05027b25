"""What has lost, and how to bring it back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.fragments import NODE_BITS, NODE_MASK, columns, ident, literal, relation
from twinstar.engine.postgresql.multiwriter.session import exactly
from twinstar.engine.postgresql.multiwriter.table import Table, describe
from twinstar.model.errors import EngineError, UsageError

Connection = AsyncConnection[tuple[Any, ...]]
Fields = dict[str, str | None]
"""A row: each column's value as text."""


@dataclass(frozen=True, slots=True)
class Conflict:
    id: int
    at: datetime
    schema: str
    name: str
    kind: str
    """What was done here and what came in: `update/update`, `insert/insert`, `update/delete`, `delete/update`; or
    `unique`: two rows held one value."""
    peer: str
    """Whose stream brought it; empty when it was found later."""
    key: Fields
    winner: str
    """`local` or `incoming`."""
    winner_stamp: int
    winner_image: Fields | None
    """None: a deletion."""
    loser_stamp: int
    loser_image: Fields | None
    columns: tuple[str, ...] | None
    """Those that lost, in a table with groups of columns; None: all."""
    merged_at: datetime | None
    """When the user's function was called for it."""
    merge_error: str | None
    """Why it gave no result."""
    restored_at: datetime | None

    @property
    def loser_node(self) -> int:
        """Who wrote what lost; 0: it was there before the table was taken in."""
        return self.loser_stamp & NODE_MASK

    @property
    def winner_node(self) -> int:
        return self.winner_stamp & NODE_MASK

    @property
    def lost_at_us(self) -> int:
        """When what lost was written, by its writer's clock: microseconds since 1970."""
        return self.loser_stamp >> NODE_BITS

    @property
    def won_at_us(self) -> int:
        return self.winner_stamp >> NODE_BITS


_FIELDS = (
    "id, at, schema, name, kind, peer, key, winner, winner_stamp, winner_image, loser_stamp, loser_image, "
    "columns, merged_at, merge_error, restored_at"
)


async def list_conflicts(
    connection: Connection,
    table: tuple[str, str] | None = None,
    since: datetime | None = None,
    limit: int | None = None,
    number: int | None = None,
) -> tuple[Conflict, ...]:
    """The conflicts that this node has seen, oldest first: of one table (schema, name), from a time on, the newest so
    many; or the one with this number.
    """
    schema, name = table or (None, None)
    cursor = await connection.execute(
        f"SELECT {_FIELDS} FROM (SELECT * FROM twinstar.conflicts "
        "WHERE (%(schema)s::text IS NULL OR (schema = %(schema)s AND name = %(name)s)) "
        "AND (%(since)s::timestamptz IS NULL OR at >= %(since)s) "
        "AND (%(number)s::int8 IS NULL OR id = %(number)s) "
        "ORDER BY id DESC LIMIT %(limit)s) AS c ORDER BY id".encode(),
        {"schema": schema, "name": name, "since": since, "limit": limit, "number": number},
    )
    return tuple([_conflict(row) for row in await cursor.fetchall()])


def _conflict(row: tuple[Any, ...]) -> Conflict:
    conflict = Conflict(*row)
    return conflict if conflict.columns is None else replace(conflict, columns=tuple(conflict.columns))


async def restore_conflict(connection: Connection, conflict_id: int) -> Conflict:
    """Writes what lost as a new version, as if a user wrote it; a deletion that lost deletes. In an ordinary session.

    Of a table with groups of columns only those that lost are written. Counters are left as they are.

    Raises UsageError when there is no such conflict, EngineError when the row cannot be written.
    """
    try:
        async with connection.transaction():
            cursor = await connection.execute(
                f"SELECT {_FIELDS} FROM twinstar.conflicts WHERE id = %s FOR UPDATE".encode(), (conflict_id,)
            )
            row = await cursor.fetchone()
            if row is None:
                raise UsageError(f"There is no conflict {conflict_id} on this node: list them to see the numbers.")
            conflict = _conflict(row)
            table = await describe(connection, conflict.schema, conflict.name)
            await exactly(connection)
            if conflict.loser_image is None:
                await connection.execute(_deletion(table).encode(), (Jsonb(conflict.key),))
            else:
                await connection.execute(_write(table, conflict.columns).encode(), (Jsonb(conflict.loser_image),))
            await connection.execute("UPDATE twinstar.conflicts SET restored_at = now() WHERE id = %s", (conflict_id,))
    except psycopg.Error as error:
        raise EngineError(
            f"What lost in conflict {conflict_id} cannot be written ({sentence(error)}): "
            "make room for it, or write by hand what should be there."
        ) from error
    return conflict


def _deletion(table: Table) -> str:
    same = " AND ".join(
        f"t.{ident(column.name)} {column.equals} (f.image ->> {literal(column.name)})::{column.type_sql}"
        for column in table.key_columns
    )
    return f"DELETE FROM ONLY {relation(table)} AS t USING (SELECT %s::jsonb AS image) AS f WHERE {same}"


def _write(table: Table, lost: tuple[str, ...] | None) -> str:
    own = [column for column in table.sent_columns if not column.ours]
    kept = {*table.key, *table.counters}
    values = ", ".join(f"(f.image ->> {literal(column.name)})::{column.type_sql}" for column in own)
    changes = ", ".join(
        f"{ident(column.name)} = EXCLUDED.{ident(column.name)}"
        for column in own
        if column.name not in kept and (lost is None or column.name in lost)
    )
    return (
        f"INSERT INTO {relation(table)} AS t ({columns(own)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {values} FROM (SELECT %s::jsonb AS image) AS f "
        f"ON CONFLICT ({columns(table.key_columns)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )
