"""What a node does so that old tombstones can be forgotten (`rules.active_active.collecting`), in the database.

Every member reports, in its own stream, up to where it has applied each stream, and its floor, below which it will
stamp no insertion. `twinstar.reports` is a table like those of users: the rules bring each member's newest report.

A floor is reported when nothing older is open: it is raised, and only when all transactions that ran then have ended,
nothing can be committed below it any more.

A *cut* says up to where this node had applied each stream, and, by the numbers of transactions, which tombstones it had
then. First the transactions, then the positions: so what those transactions brought is within the positions.

While a dead letter waits, this node reports nothing, notes no cut and forgets nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.multiwriter.fragments import (
    NODE_BITS,
    companion,
    counted,
    literal,
    relation,
    same_key,
)
from twinstar.engine.postgresql.multiwriter.objects import taken_in
from twinstar.engine.postgresql.multiwriter.places import applied_from
from twinstar.engine.postgresql.multiwriter.table import BASE, BORN, REPORTS, STAMP, Table, describe

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a member has last said of itself, as far as that has arrived here."""

    applied: dict[int, int]
    """Stream (the number of the node that writes it) -> up to where it was applied."""
    floor: int
    """A stamp."""


@dataclass(frozen=True, slots=True)
class Cut:
    streams: dict[int, int]
    """As `Said.applied`; this node's own log is among them."""
    before: int
    """Tombstones of transactions with lower numbers (xid8) were here."""


async def raise_floor(connection: Connection, retention_ms: float) -> int:
    """A step towards a higher floor: this node's clock less the retention. The floor that is firm by now, a stamp.

    To be called again and again, in an ordinary session.
    """
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO twinstar.floors (raised, open, firm) VALUES (0, '0', 0) ON CONFLICT DO NOTHING"
        )
        await connection.execute(
            "UPDATE twinstar.floors SET firm = raised "
            "WHERE firm < raised AND open <= pg_snapshot_xmin(pg_current_snapshot())"
        )
    firm, raised = await _one(connection, "SELECT firm, raised FROM twinstar.floors")
    if firm == raised:
        (raised,) = await _one(
            connection,
            f"SELECT setval('twinstar.floor', greatest(last_value, (twinstar.now_us() - %s) << {NODE_BITS})) "
            "FROM twinstar.floor",
            round(retention_ms * 1000),
        )
        # In a transaction that gets its number after that: who gets a later one sees the floor. What a snapshot calls
        # its end is no such number: it is behind the last one that has *ended*, and others may be open above it.
        await connection.execute(
            "UPDATE twinstar.floors SET raised = greatest(raised, %s), open = pg_current_xact_id()", (raised,)
        )
    return int(firm)


async def report(connection: Connection, retention_ms: float) -> bool:
    """Says in this node's stream how far it is; False: something waits for help, and nothing was said."""
    firm = await raise_floor(connection, retention_ms)
    # The positions before the letters: a letter that comes later waits above them.
    applied = await applied_from(connection)
    if await _letters(connection):
        return False
    await connection.execute(
        "INSERT INTO twinstar.reports AS r (member, applied, floor) VALUES (twinstar.this_node(), %s, %s) "
        "ON CONFLICT (member) DO UPDATE SET applied = EXCLUDED.applied, floor = EXCLUDED.floor",
        (Jsonb({str(stream): position for stream, position in applied.items()}), firm),
    )
    return True


async def reports(connection: Connection) -> dict[int, Said]:
    """By member."""
    cursor = await connection.execute("SELECT member, applied, floor FROM twinstar.reports")
    return {
        member: Said({int(stream): position for stream, position in applied.items()}, floor)
        for member, applied, floor in await cursor.fetchall()
    }


async def cut(connection: Connection) -> Cut | None:
    """The cut that was noted last; None: there is none."""
    cursor = await connection.execute("SELECT streams, before::text::int8 FROM twinstar.cut")
    row = await cursor.fetchone()
    return Cut({int(stream): position for stream, position in row[0].items()}, row[1]) if row else None


async def note_cut(connection: Connection, streams: Collection[int]) -> Cut | None:
    """Notes where this node is in these nodes' streams, its own always among them; None: something waits for help.

    `streams` are all members, and the dead whose logs were not applied to their ends everywhere.
    """
    node, before = await _one(
        connection, "SELECT twinstar.this_node(), pg_snapshot_xmin(pg_current_snapshot())::text::int8"
    )
    if await _letters(connection):
        return None
    applied = await applied_from(connection)
    # Inserted is what others will have when they say that they have applied as much.
    (end,) = await _one(connection, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")
    noted = Cut({node: end} | {stream: applied.get(stream, 0) for stream in streams if stream != node}, before)
    await connection.execute(
        "INSERT INTO twinstar.cut (streams, before) VALUES (%s, %s::text::xid8) "
        "ON CONFLICT (only_row) DO UPDATE SET streams = EXCLUDED.streams, before = EXCLUDED.before",
        (Jsonb({str(stream): position for stream, position in noted.streams.items()}), str(before)),
    )
    return noted


async def collect(connection: Connection, horizon: int, noted: Cut, at_most: int = 10_000) -> int:
    """Forgets tombstones that were here at the cut and whose stamps are not above the horizon
    (`rules.active_active.collecting.collectable`); how many. The session may delete from the tables in `twinstar`.

    At most so many of each table at once, so that no transaction is long: call again until it answers 0, and then
    note another cut. Never above this node's floor, nor what is unsettled or still to be sent, and nothing at all
    while a dead letter waits.
    """
    if await _letters(connection):
        return 0
    (floor,) = await _one(connection, "SELECT least(%s, last_value) FROM twinstar.floor", horizon)
    forgotten = 0
    for schema, name in [*await taken_in(connection), REPORTS]:
        table = await describe(connection, schema, name)
        async with connection.transaction():
            cursor = await connection.execute(_forget(table).encode(), (floor, str(noted.before), at_most))
            rows = await cursor.fetchall()
            if rows:
                await connection.execute(
                    "UPDATE twinstar.tables SET collected = greatest(collected, %s) WHERE slug = %s",
                    (max(stamp for (stamp,) in rows), table.slug),
                )
        forgotten += len(rows)
    return forgotten


def _forget(table: Table) -> str:
    deleted = companion(table)
    # A row that came after the cut may lose to one that was made before the deletion, and then what was added before
    # counts again: such a tombstone waits for another cut.
    settled = (
        f"NOT EXISTS (SELECT FROM ONLY {relation(table)} AS t "
        f"WHERE {same_key(table, 't', 'o')} AND age(t.xmin) <= age(n.before))"
        if table.counters
        else "true"
    )
    chosen = (
        f"SELECT o.ctid FROM {deleted} AS o, (SELECT %s::int8 AS horizon, %s::text::xid8::xid AS before) AS n "
        f"WHERE o.{STAMP} BETWEEN 0 AND n.horizon AND o.twinstar_unsettled IS NULL AND age(o.xmin) > age(n.before) "
        f"AND {settled} AND NOT EXISTS (SELECT FROM twinstar.repairs AS r "
        f"WHERE r.slug = {literal(table.slug)} AND r.stamp = o.{STAMP}) LIMIT %s FOR UPDATE OF o"
    )
    gone = f"DELETE FROM {deleted} AS d WHERE d.ctid = ANY (ARRAY({chosen})) RETURNING d.*"
    if not table.counters:
        return f"WITH gone AS ({gone}) SELECT {STAMP} FROM gone"
    # Contributions to a row that is not there, or is made on something later.
    return (
        f"WITH gone AS ({gone}), over AS (DELETE FROM {counted(table)} AS c USING gone AS d "
        f"WHERE {same_key(table, 'c', 'd')} AND c.{BORN} <= d.{STAMP} AND NOT EXISTS (SELECT FROM ONLY "
        f"{relation(table)} AS t WHERE {same_key(table, 't', 'c')} AND coalesce(t.{BASE}, -1) < c.{BORN})) "
        f"SELECT {STAMP} FROM gone"
    )


async def _letters(connection: Connection) -> bool:
    return bool((await _one(connection, "SELECT EXISTS (SELECT FROM twinstar.dead_letters)"))[0])


async def _one(connection: Connection, query: str, *arguments: object) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode(), arguments or None)).fetchone()
    assert row is not None, "the query has one row"
    return row
