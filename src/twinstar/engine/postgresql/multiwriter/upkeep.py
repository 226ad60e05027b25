"""What has to be done now and then beside applying: send removals, settle tombstones, forget old ones.

Nothing here is urgent, everything may be cut off and done again.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.multiwriter.fragments import companion, function, ident, literal
from twinstar.engine.postgresql.multiwriter.objects import taken_in
from twinstar.engine.postgresql.multiwriter.session import exactly, quietly
from twinstar.engine.postgresql.multiwriter.table import STAMP, Table, describe
from twinstar.model.errors import EngineError

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
    same = " AND ".join(
        f"d.{ident(column.name)} {column.equals} (f.key ->> {literal(column.name)})::{column.type_sql}"
        for column in table.key_columns
    )
    return f"UPDATE {companion(table)} AS d SET {STAMP} = d.{STAMP} FROM (SELECT %s::jsonb AS key) AS f WHERE {same}"


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


async def raise_floor(connection: Connection, stamp: int) -> int:
    """From now on this node stamps no insertion that begins below `stamp`; the floor never goes back.

    Returns what `is_firm` wants to know, after which no insertion below it will be committed either.
    """
    async with connection.transaction():
        # A sequence has no row to lock.
        await connection.execute("SELECT pg_advisory_xact_lock('twinstar.floor'::regclass::oid::int8)")
        await connection.execute(
            "SELECT setval('twinstar.floor', %(stamp)s) FROM twinstar.floor WHERE last_value < %(stamp)s",
            {"stamp": stamp},
        )
    # After the change is there for everyone.
    cursor = await connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8")
    row = await cursor.fetchone()
    assert row is not None, "an aggregate-free SELECT has a row"
    return int(row[0])


async def is_firm(connection: Connection, raised: int) -> bool:
    """Whether every transaction that was open when the floor was raised has ended."""
    cursor = await connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 >= %s", (raised,))
    return await cursor.fetchone() == (True,)


_BOUNDS = """
SELECT least(%s, (SELECT last_value FROM twinstar.floor), (SELECT min(stamp) - 1 FROM twinstar.dead_letters),
  (SELECT min(stamp) - 1 FROM twinstar.repairs))
"""


async def collect(connection: Connection, horizon: int, at_most: int = 10_000) -> int:
    """Forgets tombstones up to a stamp that the caller has proved (`rules.active_active.collecting`); how many.

    Never above this node's floor, nor what an open dead letter or repair needs, nor what is unsettled. At most so many
    of each table at once, so that no transaction is long; call again until it answers 0.
    Raises EngineError for a horizon above the floor.
    """
    cursor = await connection.execute(_BOUNDS.encode(), (horizon,))
    floor = await (await connection.execute("SELECT last_value FROM twinstar.floor")).fetchone()
    if floor is None or horizon > floor[0]:
        raise EngineError("Tombstones above this node's floor cannot be forgotten: raise the floor first.")
    row = await cursor.fetchone()
    assert row is not None, "least() has a row"
    forgotten = 0
    for table in await _tables(connection):
        done = await connection.execute(_forget(table).encode(), (row[0], at_most, row[0]))
        forgotten += done.rowcount
    return forgotten


def _forget(table: Table) -> str:
    deleted = companion(table)
    return (
        f"DELETE FROM {deleted} AS d WHERE d.ctid = ANY (ARRAY(SELECT o.ctid FROM {deleted} AS o "
        f"WHERE o.{STAMP} BETWEEN 0 AND %s AND o.twinstar_unsettled IS NULL LIMIT %s)) "
        f"AND d.{STAMP} BETWEEN 0 AND %s AND d.twinstar_unsettled IS NULL"
    )


async def _tables(connection: Connection) -> list[Table]:
    return [await describe(connection, schema, name) for schema, name in await taken_in(connection)]
