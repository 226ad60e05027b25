"""Numbers that no two nodes give: each node's sequences count in steps, from the node's own number on.

Node 3 with steps of 1,024 gives 3, 1027, 2051, …: no other node does. What was given before, by whatever rule, is
below where all of them begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.fragments import ident, relation
from twinstar.engine.postgresql.multiwriter.table import Table
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


async def highest_in_use(connection: Connection, table: Table) -> int:
    """The greatest number that this node's sequences of the table have given, or its rows have; 0 for none."""
    return max([found.last for found in await _found(connection, table)], default=0)


async def node_aware_sequences(
    connection: Connection, table: Table, node: int, *, above: int, step: int = STEP
) -> tuple[NodeSequence, ...]:
    """Lets the sequences of the table's columns give numbers of this node alone.

    `above` is the greatest `highest_in_use` of all nodes; the sequences go on above it. What sessions have cached of a
    sequence (`CACHE`) they still give: change before clients write. Can be done again, and never goes back.
    Raises UsageError when the numbers do not suffice, or the sequence counts down.
    """
    if not 0 < node < step:
        raise UsageError(f"Node {node} does not fit into steps of {step}: choose a greater step.")
    done = []
    async with connection.transaction():
        for found in await _found(connection, table):
            start = max(above, found.last) + 1
            start += (node - start) % step
            name = f"{relation(table)}.{ident(found.column)}"
            if found.increment < 0:
                raise UsageError(f"The sequence of {name} counts down: let it count up (INCREMENT 1).")
            if start + step > found.maximum:
                raise UsageError(
                    f"The numbers of {name} do not suffice: the next one of node {node} would be {start}, and "
                    f"{found.maximum} is the last. Make the column and its sequence bigint."
                )
            await connection.execute(
                f"ALTER SEQUENCE {found.sequence} INCREMENT BY {step} NO CYCLE RESTART WITH {start}".encode()
            )
            done.append(NodeSequence(found.column, found.sequence, start, (found.maximum - start) // step + 1))
    return tuple(done)


async def wrong_sequences(connection: Connection, table: Table, node: int, step: int = STEP) -> tuple[str, ...]:
    """For each sequence that might give another node's numbers a sentence; empty: all is well."""
    return tuple(
        [
            f"{relation(table)}.{ident(found.column)} may get numbers that another node gives, too: its sequence does "
            f"not count in steps of {step} from {node} on. Set it up again."
            for found in await _found(connection, table)
            if found.increment != step or found.cycles or (await _next(connection, found) - node) % step
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
