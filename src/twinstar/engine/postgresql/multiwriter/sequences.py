"""Numbers that no two nodes give: each node's sequences count in steps, from the node's own number on.

Node 3 with steps of 1,024 gives 3, 1027, 2051, …: no other node does. What was given before, by whatever rule, is
below where all of them begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.fragments import ident, relation
from twinstar.engine.postgresql.multiwriter.objects import taken_in
from twinstar.engine.postgresql.multiwriter.table import Table, describe
from twinstar.model.errors import UsageError

STEP = 1024
"""No node's number is as great."""

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class NodeSequence:
    """A column's sequence after it was set up."""

    column: str
    sequence: str
    """Qualified and quoted."""
    next_value: int
    left: int
    """So many numbers can still be given here: few, where the column is an `integer`."""


@dataclass(frozen=True, slots=True)
class _Found:
    column: str
    sequence: str
    last: int
    increment: int
    maximum: int
    cycles: bool


_SEQUENCES = """
SELECT a.attname, quote_ident(n.nspname) || '.' || quote_ident(s.relname), q.seqincrement, q.seqmax, q.seqcycle,
  t.typname
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
JOIN pg_type t ON t.oid = a.atttypid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  AND d.refobjid = to_regclass(%s) ORDER BY a.attnum
"""
_LARGEST = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1}


async def spread_sequences(
    connection: Connection, share: int, shares: int = STEP - 1, above: int = 0
) -> tuple[NodeSequence, ...]:
    """Lets the sequences of all tables that are taken in give numbers of this node alone.

    `share` (1 to `shares`) is no other member's; the node's number will do. A node that comes in the place of one that
    is gone may have its share, once it has all that the other ever sent. Where nodes have not got each other's rows
    yet, `above` is the greatest number that is in use on any of them. What sessions have cached of a sequence (`CACHE`)
    they still give: change before clients write. Can be done again, and never goes back.
    Raises UsageError when the numbers do not suffice, or a sequence counts down.
    """
    if not 1 <= share <= shares:
        raise UsageError(f"The share {share} is none of {shares}: choose one from 1 to {shares}.")
    done: list[NodeSequence] = []
    async with connection.transaction():
        for schema, name in await taken_in(connection):
            table = await describe(connection, schema, name)
            done += await node_aware_sequences(connection, table, share, above=above, step=shares + 1)
    return tuple(done)


async def node_aware_sequences(
    connection: Connection, table: Table, share: int, *, above: int = 0, step: int = STEP
) -> tuple[NodeSequence, ...]:
    """The same for one table."""
    async with connection.transaction():
        return tuple(
            [await _spread(connection, table, found, share, step, above) for found in await _found(connection, table)]
        )


async def highest_in_use(connection: Connection, table: Table) -> int:
    """The greatest number that this node's sequences of the table have given, or its rows have; 0 for none."""
    return max([found.last for found in await _found(connection, table)], default=0)


async def _spread(
    connection: Connection, table: Table, found: _Found, share: int, step: int, above: int
) -> NodeSequence:
    name = f"{relation(table)}.{ident(found.column)}"
    if found.increment < 0:
        raise UsageError(f"The sequence of {name} counts down: let it count up (INCREMENT 1).")
    following = await _next(connection, found)
    if found.increment == step and not found.cycles and following % step == share % step and following > above:
        start = following
    else:
        start = max(above, found.last) + 1
        start += (share - start) % step
        if start + step > found.maximum:
            raise UsageError(
                f"The numbers of {name} do not suffice: the next one of this node would be {start}, and "
                f"{found.maximum} is the last. Make the column and its sequence bigint, or use UUIDs."
            )
        await connection.execute(
            f"ALTER SEQUENCE {found.sequence} INCREMENT BY {step} NO CYCLE RESTART WITH {start}".encode()
        )
    return NodeSequence(found.column, found.sequence, start, (found.maximum - start) // step + 1)


async def wrong_sequences(connection: Connection, share: int, shares: int = STEP - 1) -> tuple[str, ...]:
    """For each sequence that might give another node's numbers a sentence; empty: all is well."""
    step = shares + 1
    tables = [await describe(connection, schema, name) for schema, name in await taken_in(connection)]
    return tuple(
        [
            f"{relation(table)}.{ident(found.column)} may get numbers that another node gives, too: its sequence does "
            f"not count in steps of {step} from {share} on. Set it up again."
            for table in tables
            for found in await _found(connection, table)
            if found.increment != step or found.cycles or (await _next(connection, found) - share) % step
        ]
    )


async def _next(connection: Connection, found: _Found) -> int:
    row = await (
        await connection.execute(
            f"SELECT last_value + CASE WHEN is_called THEN {found.increment} ELSE 0 END FROM {found.sequence}".encode()
        )
    ).fetchone()
    assert row is not None, "a sequence is one row"
    return int(row[0])


async def _found(connection: Connection, table: Table) -> list[_Found]:
    cursor = await connection.execute(_SEQUENCES.encode(), (relation(table),))
    return [
        _Found(
            column,
            sequence,
            await _last(connection, table, column, sequence),
            increment,
            min(maximum, _LARGEST.get(type_name, maximum)),
            cycles,
        )
        for column, sequence, increment, maximum, cycles, type_name in await cursor.fetchall()
    ]


async def _last(connection: Connection, table: Table, column: str, sequence: str) -> int:
    row = await (
        await connection.execute(
            f"SELECT greatest(0, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}), "
            f"(SELECT max({ident(column)}) FROM {relation(table)}))".encode()
        )
    ).fetchone()
    assert row is not None, "greatest() has a row"
    return int(row[0])
