"""What is known of a table that every node writes to, read from the catalog of one node.

Names of types and operators are always qualified: the sessions that use them have an empty ``search_path``.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from psycopg import AsyncConnection

from twinstar.model.errors import UsageError

STAMP = "twinstar_stamp"
"""The version of a row: microseconds since 1970 by its own hybrid clock, times 1,024, plus the writer's number."""
BORN = "twinstar_born"
"""Tables with counters: the stamp of the insertion that made the row; null until a row that was there is written."""
BASE = "twinstar_base"
"""Tables with counters: what was born above it counts."""
GROUPS = "twinstar_groups"
"""Tables with column groups: one stamp for each group, in their order, and last that of all other columns."""
OWN_SCHEMA = "twinstar"
REPORTS = (OWN_SCHEMA, "reports")
"""Schema and name of the one table of ours whose rows travel as those of users' tables do."""
OWN_COLUMNS = (STAMP, BORN, BASE, GROUPS)
SLUG_NAME_CHARACTERS = 30


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_sql: str
    """Qualified, without modifier: a value that is too long for its column is an error and is never cut."""
    generated: bool
    nullable: bool
    always_identity: bool = False
    """GENERATED ALWAYS AS IDENTITY: no UPDATE can set it to a value."""
    equals: str = "OPERATOR(pg_catalog.=)"
    """The equality of the primary key's index; for columns of the key."""
    hashable: bool = False

    @property
    def ours(self) -> bool:
        return self.name in OWN_COLUMNS


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique index beside the primary key. Its SQL names columns without a table."""

    name: str
    expressions: tuple[str, ...]
    equals: tuple[str, ...]
    """For each expression, the equality of the index."""
    predicate: str | None
    nulls_distinct: bool


@dataclass(frozen=True)
class Policy:
    """How concurrent writes of a table are brought together; by default the last one wins as a whole."""

    counters: tuple[str, ...] = ()
    """Columns whose value is the sum of what every node has added."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Columns that win or lose together; those that are in none are a group of their own."""
    merge: str | None = None
    """A function ``schema.name(lost, here)`` of two rows of the table that returns one. The greater stamp wins first;
    then the node that wrote what lost calls it and writes the result as a new version. It may be any function."""


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    columns: tuple[Column, ...]
    """In the catalog's order, those that Twinstar added among them."""
    key: tuple[str, ...]
    uniques: tuple[Unique, ...] = ()
    counters: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    policy: str | None = None
    """The user's function (`Policy.merge`)."""
    slug: str = ""

    @cached_property
    def sent_columns(self) -> tuple[Column, ...]:
        """What a node sends of a row: all but generated columns."""
        return tuple(column for column in self.columns if not column.generated)

    @cached_property
    def key_columns(self) -> tuple[Column, ...]:
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)

    @property
    def plain(self) -> bool:
        """Whether a whole row wins or loses: such tables have the fast path."""
        return not (self.counters or self.groups)

    @cached_property
    def cells(self) -> tuple[tuple[Column, ...], ...]:
        """What wins or loses together: the declared groups, and last all other columns but key and counters."""
        by_name = {column.name: column for column in self.columns}
        grouped = {name for group in self.groups for name in group}
        rest = [
            column
            for column in self.sent_columns
            if not column.ours and column.name not in grouped.union(self.key, self.counters)
        ]
        return (*(tuple([by_name[name] for name in group]) for group in self.groups), tuple(rest))

    @cached_property
    def shape(self) -> str:
        """Equal for tables for which the same functions are made."""
        made_of = (self.columns, self.key, self.uniques, self.counters, self.groups, self.policy)
        return hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]

    @property
    def companion(self) -> str:
        """The table of tombstones, in the schema `twinstar`: the key's columns, `twinstar_stamp`, `twinstar_was`,
        `twinstar_image` (of tables that are not plain) and `twinstar_unsettled`, which concerns this node alone."""
        return f"deleted_{self.slug}"

    @property
    def counted(self) -> str:
        """The table of contributions, in the schema `twinstar`: the key's columns, `twinstar_born`, `twinstar_node`,
        `twinstar_writes` and the counter columns by their own names."""
        return f"counted_{self.slug}"

    @property
    def lock_class(self) -> int:
        """The first number of the table's advisory locks: a signed 32-bit integer."""
        return zlib.crc32(self.slug.encode()) - 2**31


def slug_of(schema: str, name: str) -> str:
    """The same on every node without anybody having to agree; at most 39 characters."""
    readable = re.sub(r"[^a-z0-9_]", "_", name.lower())[:SLUG_NAME_CHARACTERS]
    exact = hashlib.sha256(b"\0".join((schema.encode(), name.encode()))).hexdigest()[:8]
    return f"{readable}_{exact}"


# The equality of a btree index in position `at`, which begins with 0.
_OPERATOR = """
(SELECT 'OPERATOR(' || quote_ident(n.nspname) || '.' || o.oprname || ')'
 FROM pg_opclass c JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
   AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
 JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE c.oid = i.indclass[at])
"""
_COLUMNS = f"""
SELECT a.attname, quote_ident(tn.nspname) || '.' || quote_ident(t.typname), a.attgenerated <> '', NOT a.attnotnull,
  a.attidentity = 'a',
  coalesce((SELECT {_OPERATOR} FROM pg_index i JOIN generate_series(0, i.indnkeyatts - 1) AS at
    ON i.indkey[at] = a.attnum WHERE i.indrelid = a.attrelid AND i.indisprimary), 'OPERATOR(pg_catalog.=)'),
  EXISTS (SELECT FROM pg_opclass oc JOIN pg_am am ON am.oid = oc.opcmethod
    WHERE am.amname = 'hash' AND oc.opcdefault AND oc.opcintype = CASE
      WHEN t.typtype = 'e' THEN 'anyenum'::regtype WHEN t.typtype = 'd' THEN t.typbasetype
      WHEN t.oid = 'varchar'::regtype THEN 'text'::regtype ELSE t.oid END)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place), pg_attribute a
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts
  AND a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place
"""
_UNIQUES = f"""
SELECT c.relname, ARRAY(SELECT pg_get_indexdef(i.indexrelid, at, true) FROM generate_series(1, i.indnkeyatts) AS at),
  ARRAY(SELECT {_OPERATOR} FROM generate_series(0, i.indnkeyatts - 1) AS at),
  pg_get_expr(i.indpred, i.indrelid, true), NOT i.indnullsnotdistinct
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisunique AND NOT i.indisprimary ORDER BY c.relname
"""
_REGISTERED = "SELECT counters, groups, merge FROM twinstar.tables WHERE schema = %s AND name = %s"


async def describe(connection: AsyncConnection[tuple[Any, ...]], schema: str, name: str) -> Table:
    """The table as this node knows it; a table that was not taken in has no policy.

    Raises UsageError when there is no such table.
    """
    async with connection.transaction():
        # Expressions of indexes come with the names that they need under this path.
        ((path,),) = await _rows(connection, "SELECT current_setting('search_path')")
        await connection.execute("SET LOCAL search_path = ''")
        relation = await _relation(connection, schema, name)
        table = Table(
            schema,
            name,
            columns=tuple(Column(*row) for row in await _rows(connection, _COLUMNS, relation)),
            key=tuple(column for (column,) in await _rows(connection, _KEY, relation)),
            uniques=tuple(
                Unique(index, tuple(expressions), tuple(equals), predicate, nulls_distinct)
                for index, expressions, equals, predicate, nulls_distinct in await _rows(connection, _UNIQUES, relation)
            ),
            slug=slug_of(schema, name),
            **await _policy(connection, schema, name),
        )
        await _rows(connection, "SELECT set_config('search_path', %s, true)", path)
    return table


async def _relation(connection: AsyncConnection[tuple[Any, ...]], schema: str, name: str) -> int:
    found = await _rows(
        connection,
        "SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')",
        schema,
        name,
    )
    if not found:
        raise UsageError(f"There is no table {schema}.{name} in this database: check the name and its schema.")
    ((relation,),) = found
    return int(relation)


async def _policy(connection: AsyncConnection[tuple[Any, ...]], schema: str, name: str) -> dict[str, Any]:
    ((installed,),) = await _rows(connection, "SELECT to_regclass('twinstar.tables') IS NOT NULL")
    found = await _rows(connection, _REGISTERED, schema, name) if installed else []
    if not found:
        return {}
    ((counters, groups, merge),) = found
    return {"counters": tuple(counters), "groups": tuple(map(tuple, groups)), "policy": merge}


async def _rows(connection: AsyncConnection[tuple[Any, ...]], query: str, *arguments: object) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(query.encode(), arguments or None)
    return await cursor.fetchall()
