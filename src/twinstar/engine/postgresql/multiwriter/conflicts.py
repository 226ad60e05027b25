"""What has lost, and how to bring it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.fragments import columns, ident, literal, relation
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
    restored_at: datetime | None


_SELECT = (
    "SELECT id, at, schema, name, kind, peer, key, winner, winner_stamp, winner_image, loser_stamp, loser_image, "
    "restored_at FROM twinstar.conflicts"
)


async def listed(
    connection: Connection, table: tuple[str, str] | None = None, since: datetime | None = None
) -> tuple[Conflict, ...]:
    """The conflicts that this node has seen, oldest first: of one table (schema, name), and from a time on."""
    schema, name = table or (None, None)
    cursor = await connection.execute(
        f"{_SELECT} WHERE (%(schema)s::text IS NULL OR (schema = %(schema)s AND name = %(name)s)) "
        "AND (%(since)s::timestamptz IS NULL OR at >= %(since)s) ORDER BY id".encode(),
        {"schema": schema, "name": name, "since": since},
    )
    return tuple([Conflict(*row) for row in await cursor.fetchall()])


async def restore(connection: Connection, conflict_id: int) -> Conflict:
    """Writes what lost as a new version, as if a user wrote it; a deletion that lost deletes. In an ordinary session.

    Raises UsageError when there is no such conflict, EngineError when the row cannot be written.
    """
    try:
        async with connection.transaction():
            cursor = await connection.execute(f"{_SELECT} WHERE id = %s FOR UPDATE".encode(), (conflict_id,))
            row = await cursor.fetchone()
            if row is None:
                raise UsageError(f"There is no conflict {conflict_id} on this node: list them to see the numbers.")
            conflict = Conflict(*row)
            table = await describe(connection, conflict.schema, conflict.name)
            await exactly(connection)
            if conflict.loser_image is None:
                await connection.execute(_deletion(table).encode(), (Jsonb(conflict.key),))
            else:
                await connection.execute(_write(table).encode(), (Jsonb(conflict.loser_image),))
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


def _write(table: Table) -> str:
    own = [column for column in table.sent_columns if not column.ours]
    values = ", ".join(f"(f.image ->> {literal(column.name)})::{column.type_sql}" for column in own)
    changes = ", ".join(
        f"{ident(column.name)} = EXCLUDED.{ident(column.name)}" for column in own if column.name not in table.key
    )
    return (
        f"INSERT INTO {relation(table)} AS t ({columns(own)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {values} FROM (SELECT %s::jsonb AS image) AS f "
        f"ON CONFLICT ({columns(table.key_columns)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )
