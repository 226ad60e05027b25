"""What has to be done now and then beside applying: send removals, settle tombstones, call users' functions.

Nothing here is urgent, everything may be cut off and done again.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.fragments import (
    NODE_MASK,
    companion,
    function,
    ident,
    literal,
    relation,
    same_key,
)
from twinstar.engine.postgresql.multiwriter.objects import taken_in
from twinstar.engine.postgresql.multiwriter.session import exactly, quietly
from twinstar.engine.postgresql.multiwriter.table import REPORTS, STAMP, Table, describe

Connection = AsyncConnection[tuple[Any, ...]]


async def run_repairs(connection: Connection) -> int:
    """Sends the peers what the applier has removed because of unique keys; how many removals. An ordinary session.

    The tombstones are there already; to write them once more, unchanged, is what sends them.
    """
    sent = 0
    for table in await _tables(connection):
        async with connection.transaction():
            await exactly(connection)
            cursor = await connection.execute(
                "DELETE FROM twinstar.repairs WHERE slug = %s RETURNING key", (table.slug,)
            )
            for (key,) in await cursor.fetchall():
                await connection.execute(_again(table).encode(), (Jsonb(key),))
                sent += 1
    return sent


def _again(table: Table) -> str:
    return (
        f"UPDATE {companion(table)} AS d SET {STAMP} = d.{STAMP} FROM (SELECT %s::jsonb AS image) AS f "
        f"WHERE {_has_key(table, 'd')}"
    )


def _has_key(table: Table, row: str) -> str:
    return same_key(table, row, [_value(column.name, column.type_sql) for column in table.key_columns])


def _value(name: str, type_sql: str) -> str:
    return f"(f.image ->> {literal(name)})::{type_sql}"


async def settle(connection: Connection) -> int:
    """Looks again at tombstones beside which an insertion was open; how many still have to wait.

    For a session that may set `session_replication_role`.
    """
    left = 0
    for table in await _tables(connection):
        async with quietly(connection):
            cursor = await connection.execute(f"SELECT {function(table, 'settle')}()".encode())
            left += sum([row[0] for row in await cursor.fetchall()])
    return left


async def run_merges(connection: Connection) -> int:
    """Calls the users' functions for what this node wrote and lost, and writes the results; how many.

    In an ordinary session of the appliers' role: the functions are users', and not for a superuser to run. One that
    fails is not called again for the same conflict, which says why.
    """
    merged = 0
    for table in await _tables(connection):
        if table.policy is None:
            continue
        cursor = await connection.execute(_LOST.encode(), (table.schema, table.name))
        for (conflict,) in await cursor.fetchall():
            error = None
            try:
                async with connection.transaction():
                    await _merge(connection, table, conflict)
                    merged += 1
            except (psycopg.errors.OperationalError, psycopg.errors.TransactionRollback):
                # It may pass.
                continue
            except psycopg.Error as failure:
                error = sentence(failure)
            await connection.execute(
                "UPDATE twinstar.conflicts SET merged_at = now(), merge_error = %s WHERE id = %s", (error, conflict)
            )
    return merged


_LOST = f"""
SELECT id FROM twinstar.conflicts WHERE schema = %s AND name = %s AND merged_at IS NULL AND kind <> 'unique'
  AND loser_stamp & {NODE_MASK} = twinstar.this_node() AND loser_image IS NOT NULL AND winner_image IS NOT NULL
ORDER BY id
"""


async def _merge(connection: Connection, table: Table, conflict: int) -> None:
    cursor = await connection.execute(
        "SELECT loser_image FROM twinstar.conflicts WHERE id = %s FOR UPDATE", (conflict,)
    )
    row = await cursor.fetchone()
    if row is None:
        return
    await exactly(connection)
    # What has been written since is merged with, and what comes now waits.
    locked = f"SELECT FROM ONLY {relation(table)} AS t, (SELECT %s::jsonb AS image) AS f WHERE {_has_key(table, 't')}"
    await connection.execute(f"{locked} FOR UPDATE OF t".encode(), (Jsonb(row[0]),))
    await connection.execute(_result(table).encode(), (Jsonb(row[0]),))


def _result(table: Table) -> str:
    lost = ", ".join(
        f"NULL::{column.type_sql}" if column.generated else _value(column.name, column.type_sql)
        for column in table.columns
    )
    own = [
        column.name
        for column in table.sent_columns
        if not (column.ours or column.always_identity) and column.name not in table.key
    ]
    changes = ", ".join(f"{ident(name)} = (m.row).{ident(name)}" for name in own)
    new, old = (f"ROW({', '.join(prefix + ident(name) for name in own)})" for prefix in ("(m.row).", "t."))
    return (
        f"UPDATE ONLY {relation(table)} AS t SET {changes} FROM (SELECT %s::jsonb AS image) AS f, "
        # Called once, and not for each column.
        f"LATERAL (SELECT {table.policy}(ROW({lost})::{relation(table)}, u) AS row FROM ONLY {relation(table)} AS u "
        f"WHERE {_has_key(table, 'u')} OFFSET 0) AS m "
        f"WHERE {_has_key(table, 't')} AND pg_catalog.record_image_ne({new}, {old})"
    )


async def _tables(connection: Connection) -> list[Table]:
    return [await describe(connection, schema, name) for schema, name in [*await taken_in(connection), REPORTS]]
