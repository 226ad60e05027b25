"""What there is, for people: the tables that every node writes to, and what waits in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.fragments import companion
from twinstar.engine.postgresql.multiwriter.objects import policy_of, taken_in
from twinstar.engine.postgresql.multiwriter.table import Policy, describe

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class TakenIn:
    schema: str
    name: str
    policy: Policy
    tombstones: int
    """About so many."""
    conflicts: int
    dead_letters: int


_COUNTS = """
SELECT (SELECT greatest(c.reltuples, 0)::int8 FROM pg_class c WHERE c.oid = to_regclass(%s)),
  (SELECT count(*) FROM twinstar.conflicts c WHERE c.schema = %s AND c.name = %s),
  (SELECT count(*) FROM twinstar.dead_letters l WHERE (l.schema, l.name) IN ((%s, %s), ('twinstar', %s)))
"""


async def tables(connection: Connection) -> tuple[TakenIn, ...]:
    """Every table that this node has taken in. Raises psycopg.Error."""
    found = []
    for schema, name in await taken_in(connection):
        table = await describe(connection, schema, name)
        cursor = await connection.execute(
            _COUNTS.encode(), (companion(table), schema, name, schema, name, table.companion)
        )
        ((tombstones, conflicts, letters),) = await cursor.fetchall()
        found.append(TakenIn(schema, name, policy_of(table), tombstones, conflicts, letters))
    return tuple(found)
