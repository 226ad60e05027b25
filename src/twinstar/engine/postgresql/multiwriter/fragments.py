"""Pieces of SQL that the generated objects of a table share.

Variables of the generated functions begin with ``tw__``, which no column of a user's table may begin with, so that no
variable is ever taken for a column.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinstar.engine.postgresql.multiwriter.table import Column, Table

NODE_BITS = 10
NODE_MASK = (1 << NODE_BITS) - 1
BUCKETS = 256


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant, whatever `standard_conforming_strings` says."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted


def relation(table: Table) -> str:
    return f"{ident(table.schema)}.{ident(table.name)}"


def companion(table: Table) -> str:
    return f"twinstar.{ident(table.companion)}"


def function(table: Table, name: str) -> str:
    """A function of the table's own."""
    return f"twinstar.{ident(f'{name}_{table.slug}')}"


def columns(of: Iterable[Column], prefix: str = "") -> str:
    return ", ".join(prefix + ident(column.name) for column in of)


def key_of(table: Table, row: str) -> list[str]:
    return [f"{row}.{ident(name)}" for name in table.key]


def same_key(table: Table, left: str, right: str | list[str]) -> str:
    """Whether a row has the key of another one, or given values, by the equality of the key's index."""
    values = key_of(table, right) if isinstance(right, str) else right
    return " AND ".join(
        f"{left}.{ident(column.name)} {column.equals} {value}"
        for column, value in zip(table.key_columns, values, strict=True)
    )


def bucket(table: Table, values: list[str]) -> str:
    """The second number of a key's advisory lock: equal keys have equal ones."""
    hashed = [value for column, value in zip(table.key_columns, values, strict=True) if column.hashable]
    return f"pg_catalog.hash_record(ROW({', '.join(hashed)})) & {BUCKETS - 1}" if hashed else "0"


TEXTS = (
    " SET \"DateStyle\" = 'ISO' SET \"IntervalStyle\" = 'postgres' SET extra_float_digits = 1"
    " SET bytea_output = 'hex' SET \"TimeZone\" = 'UTC' SET lc_monetary = 'C'"
)
"""Of a function: settings under which every value's text is exact."""


def image(row: str, of: Iterable[Column]) -> str:
    """A row as an object of names and texts: SQL's null and JSON's remain apart, and no number is rounded."""
    of = tuple(of)
    names = ", ".join(literal(column.name) for column in of)
    values = ", ".join(f"{row}.{ident(column.name)}::pg_catalog.text" for column in of)
    return f"pg_catalog.jsonb_object(ARRAY[{names}]::pg_catalog.text[], ARRAY[{values}]::pg_catalog.text[])"


def next_stamp(below: str) -> str:
    """A version above `below` (null counts as 0), by this node's clock where that is ahead."""
    ahead = f"greatest(twinstar.now_us(), (coalesce({below}, 0) >> {NODE_BITS}) + 1)"
    return f"({ahead} << {NODE_BITS}) | twinstar.this_node()"


def same_writer(one: str, other: str) -> str:
    """Whether one node wrote both versions: then the lower is an ancestor of the higher."""
    return f"({one} & {NODE_MASK}) = ({other} & {NODE_MASK})"


def counted(table: Table) -> str:
    """The table of contributions to counters."""
    return f"twinstar.{ident(table.counted)}"


def zeros(table: Table) -> str:
    return f"'{{{','.join('0' for _ in table.cells)}}}'::pg_catalog.int8[]"


def stamps(table: Table, row: str) -> str:
    """The version of each group of columns."""
    if table.groups:
        return f"coalesce({row}.twinstar_groups, {zeros(table)})"
    return f"ARRAY[coalesce({row}.twinstar_stamp, 0)]"


def body(code: str) -> str:
    return f"$twinstar${code}$twinstar$"
