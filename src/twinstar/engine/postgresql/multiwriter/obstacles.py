"""What stands in the way of writing to a table on every node, each as a sentence that says what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.fragments import ident
from twinstar.engine.postgresql.multiwriter.table import Policy, Table, Unique

RESERVED_PREFIXES = ("twinstar_", "tw__")
"""Of columns: the first is for those that Twinstar adds, the second for variables in its functions."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    table: str
    sentence: str


_KINDS = {
    "p": "is partitioned, which is not supported yet: take in an ordinary table.",
    "f": "is a foreign table: take it in where its rows are.",
    "v": "is a view: take in the tables below it.",
    "m": "is a materialized view: take in the tables below it.",
}
_SHAPE = """
SELECT c.relkind, c.relpersistence, c.relispartition,
  EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)) AS inherits,
  EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND NOT indimmediate) AS deferrable_key,
  EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid) AS rules,
  ARRAY(SELECT attname FROM pg_attribute
    WHERE attrelid = c.oid AND attgenerated = 'v' AND NOT attisdropped ORDER BY attnum) AS virtual,
  ARRAY(SELECT conname FROM pg_constraint WHERE conrelid = c.oid AND contype = 'x' ORDER BY 1) AS exclusions,
  ARRAY(SELECT i.indexrelid::regclass::text FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary AND NOT i.indimmediate ORDER BY 1) AS deferrable,
  ARRAY(SELECT tgname FROM pg_trigger
    WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 3 = 3 AND tgname > '~twinstar_stamp' COLLATE "C"
      AND tgname NOT LIKE '~twinstar\\_%%' ORDER BY 1) AS later
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""


async def obstacles(
    connection: AsyncConnection[tuple[Any, ...]], table: Table, policy: Policy | None = None
) -> tuple[Obstacle, ...]:
    """Everything that forbids taking in this table with this policy; empty when it can be taken in."""
    cursor = await connection.execute(_SHAPE.encode(), (table.schema, table.name))
    row = await cursor.fetchone()
    assert row is not None and cursor.description is not None, "the table was described a moment ago"
    shape = dict(zip((column.name for column in cursor.description), row, strict=True))
    name = f"{table.schema}.{table.name}"
    found = _kind(shape) or [
        *_shape(shape),
        *_columns(table),
        *_uniques(table),
        *await _policy(connection, table, policy or Policy()),
    ]
    return tuple(Obstacle(name, f"{name} {sentence}") for sentence in found)


def _kind(shape: dict[str, Any]) -> list[str]:
    if shape["relkind"] in _KINDS:
        return [_KINDS[shape["relkind"]]]
    if shape["relispartition"]:
        return ["is a partition, and partitioned tables are not supported yet: take in an ordinary table."]
    return []


def _shape(shape: dict[str, Any]) -> list[str]:
    found = []
    if shape["relpersistence"] == "u":
        found.append("is unlogged, so nobody can be sent what is written to it: ALTER TABLE … SET LOGGED.")
    if shape["relpersistence"] == "t":
        found.append("is temporary, and belongs to one session: nothing of it can be sent.")
    if shape["inherits"]:
        found.append("inherits or is inherited from: make it an ordinary table (ALTER TABLE … NO INHERIT …).")
    if shape["deferrable_key"]:
        found.append("has a deferrable primary key, on which no insertion can be decided: make it NOT DEFERRABLE.")
    if shape["rules"]:
        found.append("has rules, which would change what comes from other nodes: use triggers instead.")
    found += [
        f"has the generated column {column}, which is VIRTUAL: PostgreSQL then refuses updates of it. Make it STORED."
        for column in shape["virtual"]
    ]
    found += [
        f"has the exclusion constraint {constraint}, and no rule says which of two such rows stays: drop it."
        for constraint in shape["exclusions"]
    ]
    found += [
        f"has the deferrable unique constraint {index}, on which no insertion can be decided: make it NOT DEFERRABLE."
        for index in shape["deferrable"]
    ]
    found += [
        f"has the trigger {trigger}, which would fire after the one that stamps the row: give it a name before '~'."
        for trigger in shape["later"]
    ]
    return found


def _columns(table: Table) -> list[str]:
    found = []
    if not table.key:
        found.append("has no primary key, so nobody could say which row of another node is the same: give it one.")
    for column in table.columns:
        if column.name.startswith(RESERVED_PREFIXES) and not column.ours:
            found.append(f"has a column {column.name}, whose name is reserved: rename it.")
        if column.name in table.key and column.generated:
            found.append(f"has the generated column {column.name} in its key: use an ordinary column.")
        if column.always_identity and column.name not in table.key:
            found.append(
                f"has the column {column.name} GENERATED ALWAYS AS IDENTITY outside its key, which nobody can set: "
                f"ALTER TABLE … ALTER COLUMN {column.name} SET GENERATED BY DEFAULT."
            )
    return found


def _uniques(table: Table) -> list[str]:
    generated = [column.name for column in table.columns if column.generated]
    return [
        f"has the unique index {unique.name} over the generated column {name}, which is not known before the row is "
        "written: index what it is generated from."
        for unique in table.uniques
        for name in generated
        if _mentions(unique, name)
    ]


_NUMBERS = ("pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.numeric")


async def _policy(connection: AsyncConnection[tuple[Any, ...]], table: Table, policy: Policy) -> list[str]:
    by_name = {column.name: column for column in table.columns if not column.ours}
    grouped = [name for group in policy.groups for name in group]
    found = [
        f"has no column {name}, which its policy names: correct the policy."
        for name in (*policy.counters, *grouped)
        if name not in by_name
    ]
    for name in (*policy.counters, *grouped):
        if name in table.key or (name in by_name and by_name[name].generated):
            found.append(f"has {name} in its key or generated, which no policy can merge: correct the policy.")
        if [*policy.counters, *grouped].count(name) > 1:
            found.append(f"has a policy that names {name} twice: leave it in one place.")
    for name in policy.counters:
        column = by_name.get(name)
        if column and (column.nullable or column.type_sql.replace(chr(34), "") not in _NUMBERS):
            found.append(
                f"has the counter {name}, which must be a smallint, integer, bigint or numeric that is NOT NULL: "
                "sums of others depend on their order."
            )
    held = {name for unique in table.uniques for name in policy.counters if _mentions(unique, name)}
    found += [f"has a unique index over the counter {name}, whose value no node knows alone: drop it." for name in held]
    if policy.merge and (policy.counters or policy.groups):
        found.append("has a policy with a function beside counters or groups: choose one of them.")
    if policy.merge and not await _is_merge(connection, table, policy.merge):
        found.append(
            f"has a policy with {policy.merge}, which is no function of two rows of the table that returns one: make "
            f"{policy.merge}({table.name}, {table.name}) RETURNS {table.name} on every node."
        )
    return found


async def _is_merge(connection: AsyncConnection[tuple[Any, ...]], table: Table, name: str) -> bool:
    row = f"{ident(table.schema)}.{ident(table.name)}"
    cursor = await connection.execute(
        "SELECT FROM pg_proc WHERE oid = to_regprocedure(%s) AND prorettype = to_regtype(%s) AND NOT proretset",
        (f"{name}({row}, {row})", row),
    )
    return await cursor.fetchone() is not None


def _mentions(unique: Unique, name: str) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", sql) for sql in (*unique.expressions, unique.predicate or ""))
