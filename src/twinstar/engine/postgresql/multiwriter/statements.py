"""The statements that apply a peer's changes to one table: to a plain one by sets.

Each takes one array of texts for every column, in the order of `Table.sent_columns` or of the key, and returns the
stamps of those changes that it took, or, row by row, what the table's functions answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinstar.engine.postgresql.multiwriter.fragments import (
    BUCKETS,
    bucket,
    columns,
    companion,
    counted,
    function,
    ident,
    relation,
    same_key,
)
from twinstar.engine.postgresql.multiwriter.table import STAMP, Column, Table

_SEPARATOR, _NULL = "\0s", "\0n"
"""No text of PostgreSQL has the character 0."""
_ESCAPED = (
    *((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")),
    *((b"\0c", b"\t"), (b"\0r", b"\n"), (b"\0n", b"\\N")),
)
_TEXT, _INT8 = "pg_catalog.text", "pg_catalog.int8"
_AT_ONCE = frozenset(
    f"pg_catalog.{name}"
    for name in ("int2", "int4", "int8", "float4", "float8", "numeric", "bool", "uuid", "date", "text", "varchar")
)
"""Types whose values an array's input reads as a cast from text does, and in one step instead of two."""


@dataclass(frozen=True, slots=True)
class Statements:
    update: str | None
    """Successors; None where a changed row might meet a unique index that only its table's function understands."""
    replace: str | None
    """The same of a swath. It does not say which ones it took: mostly all of them."""
    here: str
    """The stamps of those versions that are here."""
    insert: str
    before_copy: str
    """Begins a savepoint, and takes the locks of all keys that may be inserted."""
    after_copy: str
    """Ends the savepoint, and says whether there is any tombstone."""
    copy_failed: str
    sink: str
    """Takes away again what was inserted below a tombstone."""
    resolve: str
    clear: str
    """Takes away what the images replace, for those that are in each other's way."""
    bury: str
    delete: str
    entomb: str

    @classmethod
    def of(cls, table: Table) -> Statements:
        return cls(
            update=_update(table),
            replace=_replace(table),
            here=_here(table),
            insert=_insert(table),
            before_copy=f"SAVEPOINT copying; {_lock(table)}",
            after_copy=f"RELEASE copying; SELECT EXISTS (SELECT FROM {companion(table)})",
            copy_failed="ROLLBACK TO copying; RELEASE copying",
            sink=_sink(table),
            resolve=_resolve(table),
            clear=_clear(table),
            bury=_bury(table),
            delete=_delete(table),
            entomb=_entomb(table),
        )


@dataclass(frozen=True, slots=True)
class MergingStatements:
    """Of a table with counters or groups: row by row, but contributions."""

    resolve: str
    entomb: str
    found: str
    """Makes the contributions of rows that were there when the table was taken in."""
    count: str
    recount: str

    @classmethod
    def of(cls, table: Table) -> MergingStatements:
        counters = bool(table.counters)
        return cls(
            resolve=_merge(table),
            entomb=_merging_entomb(table),
            found=_found(table) if counters else "",
            count=_count(table) if counters else "",
            recount=_recount(table) if counters else "",
        )


def copying(table: Table, names: Sequence[str]) -> str:
    """Reads rows that are `copied`; fails where there is a row already."""
    return f"COPY {relation(table)} ({', '.join(map(ident, names))}) FROM STDIN"


def array(values: Sequence[str | None]) -> str:
    """An array literal, made by a few passes over the whole of it instead of one over each value."""
    nulls = None in values
    texts = [_NULL if value is None else value for value in values] if nulls else values
    return _literal(_SEPARATOR.join(texts), nulls)  # type: ignore[arg-type]


def array_of_bytes(values: Sequence[bytes | None]) -> str:
    """The same of what is UTF-8."""
    nulls = None in values
    separator, null = _SEPARATOR.encode(), _NULL.encode()
    texts = [null if value is None else value for value in values] if nulls else values
    return _literal(separator.join(texts).decode(), nulls)  # type: ignore[arg-type]


def _literal(joined: str, nulls: bool) -> str:
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace(_SEPARATOR, '","')
    whole = '{"' + quoted + '"}'
    return whole.replace(f'"{_NULL}"', "NULL") if nulls else whole


def copied(rows: Sequence[Sequence[bytes | None]]) -> bytes:
    """Rows as the server's ``COPY`` reads them, made in the same way."""
    try:
        joined = b"\0r".join(map(b"\0c".join, rows))  # type: ignore[arg-type]
    except TypeError:
        joined = b"\0r".join([b"\0c".join([b"\0n" if value is None else value for value in row]) for row in rows])
    for plain, escaped in _ESCAPED:
        joined = joined.replace(plain, escaped)
    return joined + b"\n"


def _source(names: Sequence[str], types: Sequence[str] = ()) -> str:
    arrays = ", ".join(f"%s::{each}[]" for each in types or [_TEXT] * len(names))
    # Unqualified: only so can it take several arrays.
    return f"unnest({arrays}) AS u({', '.join(names)})"


def _names(of: Sequence[object], prefix: str = "c") -> list[str]:
    return [f"{prefix}{place}" for place, _ in enumerate(of)]


def _typed(of: Sequence[Column], names: Sequence[str]) -> list[str]:
    return [f"u.{name}::{column.type_sql}" for column, name in zip(of, names, strict=True)]


def _at_once(column: Column) -> str:
    """The type in which an array of the column's values is read."""
    return column.type_sql if column.type_sql in _AT_ONCE else _TEXT


def _typed_at_once(of: Sequence[Column], names: Sequence[str]) -> list[str]:
    return [
        f"u.{name}" if column.type_sql in _AT_ONCE else f"u.{name}::{column.type_sql}"
        for column, name in zip(of, names, strict=True)
    ]


class _Rows:
    """The images of a batch as a row source: where each column of the table is in it, with its type."""

    def __init__(self, table: Table) -> None:
        self.names = _names(table.sent_columns)
        self.typed = _typed(table.sent_columns, self.names)
        by_name = dict(zip((column.name for column in table.sent_columns), self.typed, strict=True))
        self.key = [by_name[name] for name in table.key]
        self.stamp = by_name[STAMP]
        self.source = _source([*self.names, "was", "last_was"])


def _update(table: Table) -> str | None:
    unchanged = _unchanged(table)
    if unchanged is None:
        return None
    rows = _Rows(table)
    return (
        f"UPDATE ONLY {relation(table)} AS t SET {_changes(table, rows.typed)} FROM {rows.source} "
        f"WHERE {same_key(table, 't', rows.key)} "
        f"AND coalesce(t.{STAMP}, 0) IN (u.was::pg_catalog.int8, u.last_was::pg_catalog.int8){unchanged} "
        f"RETURNING t.{STAMP}"
    )


def _replace(table: Table) -> str | None:
    unchanged = _unchanged(table)
    if unchanged is None:
        return None
    names = _names(table.sent_columns)
    typed = _typed_at_once(table.sent_columns, names)
    by_name = dict(zip((column.name for column in table.sent_columns), typed, strict=True))
    source = _source([*names, "was"], [*map(_at_once, table.sent_columns), _INT8])
    key = [by_name[name] for name in table.key]
    return (
        f"UPDATE ONLY {relation(table)} AS t SET {_changes(table, typed)} FROM {source} "
        f"WHERE {same_key(table, 't', key)} AND coalesce(t.{STAMP}, 0) = u.was{unchanged}"
    )


def _here(table: Table) -> str:
    names = _names(table.key, "k")
    source = _source([*names, "stamp"], [*map(_at_once, table.key_columns), _INT8])
    key = _typed_at_once(table.key_columns, names)
    return (
        f"SELECT t.{STAMP} FROM {source} JOIN ONLY {relation(table)} AS t "
        f"ON {same_key(table, 't', key)} AND t.{STAMP} = u.stamp"
    )


def _changes(table: Table, values: Sequence[str]) -> str:
    return ", ".join(
        f"{ident(column.name)} = {value}"
        for column, value in zip(table.sent_columns, values, strict=True)
        if not column.always_identity
    )


def _unchanged(table: Table) -> str | None:
    """That no value of a unique index changes: then no statement over many rows can fail on one of them."""
    names = {form: column.name for column in table.columns for form in (column.name, ident(column.name))}
    if any(unique.predicate or not names.keys() >= set(unique.expressions) for unique in table.uniques):
        return None
    held = {names[expression] for unique in table.uniques for expression in unique.expressions}
    if any(column.generated and column.name in held for column in table.columns):
        return None
    return "".join(
        f" AND t.{ident(column.name)}::pg_catalog.text IS NOT DISTINCT FROM u.c{place}::pg_catalog.text"
        for place, column in enumerate(table.sent_columns)
        if column.name in held
    )


def _insert(table: Table) -> str:
    rows = _Rows(table)
    lock = f"pg_catalog.pg_advisory_xact_lock_shared({table.lock_class}, {bucket(table, rows.key)})"
    return (
        f"INSERT INTO {relation(table)} ({columns(table.sent_columns)}) OVERRIDING SYSTEM VALUE "
        # The lock is no condition: it is always had.
        f"SELECT {', '.join(rows.typed)} FROM {rows.source} WHERE {lock} IS NOT NULL "
        f"ON CONFLICT DO NOTHING RETURNING {STAMP}"
    )


def _lock(table: Table) -> str:
    lock = f"pg_catalog.pg_advisory_xact_lock_shared({table.lock_class}, b)"
    return f"SELECT count(*) FROM pg_catalog.generate_series(0, {BUCKETS - 1}) AS b WHERE {lock} IS NOT NULL"


def _sink(table: Table) -> str:
    names = _names(table.key, "k")
    return (
        f"DELETE FROM ONLY {relation(table)} AS t USING {_source(names)} "
        f"JOIN {companion(table)} AS d ON {same_key(table, 'd', _typed(table.key_columns, names))} "
        f"WHERE {same_key(table, 't', 'd')} AND coalesce(t.{STAMP}, 0) <= d.{STAMP} RETURNING t.{STAMP}"
    )


def _clear(table: Table) -> str:
    rows = _Rows(table)
    return (
        f"DELETE FROM ONLY {relation(table)} AS t USING {rows.source} WHERE {same_key(table, 't', rows.key)} "
        f"AND coalesce(t.{STAMP}, 0) IN (u.was::pg_catalog.int8, u.last_was::pg_catalog.int8) RETURNING t.{STAMP}"
    )


def _resolve(table: Table) -> str:
    rows = _Rows(table)
    values = ", ".join(f"u.{name}" for name in rows.names)
    return (
        f"SELECT {function(table, 'apply')}('{table.shape}', ARRAY[{values}], u.was::pg_catalog.int8, "
        f"u.last_was::pg_catalog.int8, %s::pg_catalog.text, %s::pg_catalog.bool) FROM {rows.source}"
    )


def _bury(table: Table) -> str:
    names = _names(table.key, "k")
    keys = _typed(table.key_columns, names)
    return (
        f"INSERT INTO {companion(table)} AS d ({columns(table.key_columns)}, twinstar_stamp, twinstar_was) "
        f"SELECT {', '.join(keys)}, u.stamp::pg_catalog.int8, u.was::pg_catalog.int8 "
        f"FROM {_source([*names, 'stamp', 'was'])} "
        f"ON CONFLICT ({columns(table.key_columns)}) DO UPDATE SET "
        "twinstar_stamp = EXCLUDED.twinstar_stamp, twinstar_was = EXCLUDED.twinstar_was "
        "WHERE EXCLUDED.twinstar_stamp > d.twinstar_stamp RETURNING d.twinstar_stamp"
    )


def _delete(table: Table) -> str:
    names = _names(table.key, "k")
    return (
        f"DELETE FROM ONLY {relation(table)} AS t USING {_source([*names, 'stamp', 'ancestors'])} "
        f"WHERE {same_key(table, 't', _typed(table.key_columns, names))} "
        f"AND coalesce(t.{STAMP}, 0) = ANY (u.ancestors::pg_catalog.int8[]) RETURNING u.stamp::pg_catalog.int8"
    )


def _entomb(table: Table) -> str:
    names = _names(table.key, "k")
    return (
        f"SELECT {function(table, 'entomb')}(d, u.ancestors::pg_catalog.int8[], %s::pg_catalog.text) "
        f"FROM {_source([*names, 'ancestors'])} "
        f"JOIN {companion(table)} AS d ON {same_key(table, 'd', _typed(table.key_columns, names))}"
    )


def _merge(table: Table) -> str:
    rows = _Rows(table)
    sent = dict(zip((column.name for column in table.sent_columns), rows.typed, strict=True))
    row = ", ".join(sent.get(column.name, f"NULL::{column.type_sql}") for column in table.columns)
    return (
        f"SELECT {function(table, 'apply')}('{table.shape}', ROW({row})::{relation(table)}, "
        "u.known::pg_catalog.int8[], %s::pg_catalog.text, %s::pg_catalog.bool) "
        f"FROM {_source([*rows.names, 'known'])}"
    )


def _merging_entomb(table: Table) -> str:
    names = _names(table.key, "k")
    values = "u.stamp::pg_catalog.int8, u.was::pg_catalog.int8, u.image::pg_catalog.jsonb, NULL::pg_catalog.bool"
    row = f"ROW({', '.join(_typed(table.key_columns, names))}, {values})::{companion(table)}"
    return (
        f"SELECT {function(table, 'entomb')}({row}, u.known::pg_catalog.int8[], %s::pg_catalog.text) "
        f"FROM {_source([*names, 'stamp', 'was', 'image', 'known'])}"
    )


def _found(table: Table) -> str:
    names = _names(table.key, "k")
    counters = ", ".join(map(ident, table.counters))
    return (
        f"INSERT INTO {counted(table)} ({columns(table.key_columns)}, twinstar_born, twinstar_node, twinstar_writes, "
        f"{counters}) SELECT {columns(table.key_columns, 't.')}, 0, 0, 0, "
        f"{', '.join(f't.{ident(name)}' for name in table.counters)} FROM ONLY {relation(table)} AS t "
        f"JOIN {_source(names)} ON {same_key(table, 't', _typed(table.key_columns, names))} "
        "WHERE t.twinstar_born IS NULL FOR NO KEY UPDATE OF t ON CONFLICT DO NOTHING RETURNING 1"
    )


def _count(table: Table) -> str:
    names, sums = _names(table.key, "k"), _names(table.counters, "s")
    numbers = "u.born::pg_catalog.int8, u.node::pg_catalog.int4, u.writes::pg_catalog.int8"
    counters = ", ".join(map(ident, table.counters))
    changes = ", ".join(f"{ident(name)} = EXCLUDED.{ident(name)}" for name in table.counters)
    return (
        f"INSERT INTO {counted(table)} AS c ({columns(table.key_columns)}, twinstar_born, twinstar_node, "
        f"twinstar_writes, {counters}) SELECT {', '.join(_typed(table.key_columns, names))}, {numbers}, "
        f"{', '.join(f'u.{name}::numeric' for name in sums)} "
        f"FROM {_source([*names, 'born', 'node', 'writes', *sums])} "
        f"ON CONFLICT ({columns(table.key_columns)}, twinstar_born, twinstar_node) "
        f"DO UPDATE SET twinstar_writes = EXCLUDED.twinstar_writes, {changes} "
        "WHERE EXCLUDED.twinstar_writes > c.twinstar_writes RETURNING 1"
    )


def _recount(table: Table) -> str:
    names = _names(table.key, "k")
    rest = ", ".join(["NULL::pg_catalog.int8", "NULL::pg_catalog.int4", "NULL::pg_catalog.int8"])
    row = f"ROW({', '.join(_typed(table.key_columns, names))}, {rest}{', NULL::numeric' * len(table.counters)})"
    return f"SELECT {function(table, 'recount')}({row}::{counted(table)}) FROM {_source(names)}"
