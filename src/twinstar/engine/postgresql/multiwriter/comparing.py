"""What one node tells of a table's rows so that nodes can be compared, and how it sends a row again.

Everything here is for a session of the applier's role: an ordinary one when it asks, so that nobody who owns a table,
a type or an operator gets more than that role has. Values are compared as text, under settings by which every text is
exact. Rows that other nodes wrote are read as they are, whatever the table's own row security says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.fragments import columns, companion, counted, ident, next_stamp, relation
from twinstar.engine.postgresql.multiwriter.session import exactly, quietly
from twinstar.engine.postgresql.multiwriter.table import BORN, GROUPS, STAMP, Table
from twinstar.model.comparing import Key, Known, Range, Sum, Version
from twinstar.model.errors import EngineError

Connection = AsyncConnection[tuple[Any, ...]]


async def key_at(connection: Connection, table: Table, within: Range, place: int) -> Key | None:
    """The key of the row at this place (from 1) of a range; None: it has fewer. Raises EngineError."""
    where, values = _within(table, within)
    order = columns(table.key_columns, "t.")
    query = f"SELECT {_key(table)} FROM ONLY {relation(table)} AS t {where} ORDER BY {order} OFFSET %s LIMIT 1"
    async with _reading(connection, table):
        row = await (await connection.execute(query.encode(), (*values, place - 1))).fetchone()
    return tuple(row) if row is not None else None


async def summarise(connection: Connection, table: Table, within: Range, *, users_alone: bool = False) -> Sum:
    """`users_alone`: of the users' columns, not of the rows' versions. Raises EngineError."""
    where, values = _within(table, within)
    digest = f"coalesce(bit_xor({_digest(table, users_alone=users_alone)}), 0)::int8"
    query = f"SELECT count(*), {digest} FROM ONLY {relation(table)} AS t {where}"
    async with _reading(connection, table):
        row = await (await connection.execute(query.encode(), values)).fetchone()
    assert row is not None, "an aggregate has a row"
    return Sum(*row)


async def listing(connection: Connection, table: Table, within: Range, at_most: int) -> dict[Key, Version]:
    """The rows of a range. Raises EngineError when there are more than `at_most`."""
    where, values = _within(table, within)
    query = f"SELECT {_version(table)}, {_key(table)} FROM ONLY {relation(table)} AS t {where} LIMIT %s"
    async with _reading(connection, table):
        rows = await (await connection.execute(query.encode(), (*values, at_most + 1))).fetchall()
    if len(rows) > at_most:
        raise EngineError(f"{_name(table)} has grown by too much while it was compared: compare it again.")
    return {tuple(key): Version(stamp, digest) for stamp, digest, *key in rows}


async def known(connection: Connection, table: Table, keys: Sequence[Key]) -> dict[Key, Known]:
    """All that this node knows of these keys. Raises EngineError."""
    row = f"SELECT {_version(table)} FROM ONLY {relation(table)} AS t WHERE {_is(table, 't')}"
    tombstone = f"SELECT d.{STAMP} FROM {companion(table)} AS d WHERE {_is(table, 'd')} AND d.{STAMP} >= 0"
    found = {}
    async with _reading(connection, table):
        for key in keys:
            here = await (await connection.execute(row.encode(), key)).fetchone()
            buried = await (await connection.execute(tombstone.encode(), key)).fetchone()
            found[key] = Known(Version(*here) if here else None, buried[0] if buried else None)
    return found


async def send_again(connection: Connection, table: Table, key: Key) -> None:
    """Sends the peers what is known of a key once more, unchanged. For a session that may set
    `session_replication_role`. Raises EngineError."""
    try:
        async with quietly(connection):
            for what, column in _all_of(table):
                again = f"UPDATE {what} AS t SET {column} = t.{column} WHERE {_is(table, 't')}"
                await connection.execute(again.encode(), key)
    except psycopg.Error as error:
        raise _trouble(table, error) from error


async def write_anew(connection: Connection, table: Table, key: Key) -> None:
    """Makes the row a new version, with the values that it has, past the users' triggers. Raises EngineError."""
    try:
        async with quietly(connection):
            stamp = next_stamp(f"greatest(t.{STAMP}, (SELECT f.last_value FROM twinstar.floor AS f))")
            locked = f"SELECT {stamp} FROM ONLY {relation(table)} AS t WHERE {_is(table, 't')} FOR NO KEY UPDATE"
            row = await (await connection.execute(locked.encode(), key)).fetchone()
            if row is None:
                return
            changes = [f"{STAMP} = {row[0]}"]
            if table.groups:
                changes.append(f"{GROUPS} = array_fill({row[0]}::int8, ARRAY[{len(table.cells)}])")
            newer = f"UPDATE ONLY {relation(table)} AS t SET {', '.join(changes)} WHERE {_is(table, 't')}"
            await connection.execute(newer.encode(), key)
    except psycopg.Error as error:
        raise _trouble(table, error) from error


def _all_of(table: Table) -> list[tuple[str, str]]:
    """Where something is known of a key, and a column of it that every row has."""
    known = [(f"ONLY {relation(table)}", STAMP), (companion(table), STAMP)]
    return [*known, (counted(table), BORN)] if table.counters else known


@asynccontextmanager
async def _reading(connection: Connection, table: Table) -> AsyncIterator[None]:
    """A transaction of its own. Raises EngineError."""
    try:
        async with connection.transaction():
            await exactly(connection)
            await connection.execute("SET LOCAL search_path = ''")
            yield
    except psycopg.Error as error:
        raise _trouble(table, error) from error


def _within(table: Table, within: Range) -> tuple[str, tuple[str, ...]]:
    """A condition and its values."""
    found = [(">", within.after), ("<=", within.upto)]
    conditions = [_compared(table, operator) for operator, key in found if key is not None]
    values = tuple([value for _, key in found if key is not None for value in key])
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _compared(table: Table, operator: str) -> str:
    """A row of the table against a key, in the order of the key's index."""
    schemas = {column.equals.removeprefix("OPERATOR(").rpartition(".")[0] for column in table.key_columns}
    if len(schemas) > 1:
        raise EngineError(
            f"{_name(table)} cannot be compared: the types of its key have their operators in several schemas."
        )
    values = ", ".join(f"%s::{column.type_sql}" for column in table.key_columns)
    return f"ROW({columns(table.key_columns, 't.')}) OPERATOR({schemas.pop()}.{operator}) ROW({values})"


def _is(table: Table, alias: str) -> str:
    return " AND ".join(
        f"{alias}.{ident(column.name)} {column.equals} %s::{column.type_sql}" for column in table.key_columns
    )


def _key(table: Table) -> str:
    return ", ".join(f"t.{ident(name)}::pg_catalog.text" for name in table.key)


def _version(table: Table) -> str:
    return f"coalesce(t.{STAMP}, 0), {_digest(table)}"


def _digest(table: Table, *, users_alone: bool = False) -> str:
    values = ", ".join(
        f't.{ident(column.name)}::pg_catalog.text COLLATE "C"'
        for column in table.sent_columns
        if not (users_alone and column.ours)
    )
    return f"pg_catalog.hash_record_extended(ROW({values}), 0)"


def _name(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def _trouble(table: Table, error: psycopg.Error) -> EngineError:
    return EngineError(f"{_name(table)} cannot be compared ({sentence(error)}): look at the database's log.")
