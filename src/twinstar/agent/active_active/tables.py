"""What a node's agent answers about its tables (`api.tables.Tables`): SQL in its own database.

Only what makes and drops objects is done by the superuser. All else is done in sessions of the appliers' role, since
what is written there runs the users' triggers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import psycopg

from twinstar.api.tables import Details, Wish
from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter import comparing, conflicts, dead_letters, objects, sequences
from twinstar.engine.postgresql.multiwriter.fragments import ident
from twinstar.engine.postgresql.multiwriter.obstacles import obstacles
from twinstar.engine.postgresql.multiwriter.session import BY_HAND, Connection, connect_locally
from twinstar.engine.postgresql.multiwriter.table import Policy, Table, describe
from twinstar.model.comparing import Key, Range, Sum
from twinstar.model.errors import EngineError, UsageError

_APPLICATION = "twinstar tables"
_LISTED = """
SELECT n.nspname, c.relname, r.slug IS NOT NULL, greatest(c.reltuples, 0)::int8,
  coalesce(r.counters, '{}'), coalesce(r.groups, '[]'), r.merge
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN twinstar.tables r ON (r.schema, r.name) = (n.nspname, c.relname)
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('twinstar', 'information_schema') AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""

Parameters = Mapping[str, str | int]


class NodeTables:
    def __init__(self, superuser: Parameters, applier: Parameters, is_open: Callable[[], bool]) -> None:
        """Connection parameters of libpq: of the database's superuser, and of the appliers' role. `is_open`: this node
        takes writes.
        """
        self._superuser, self._applier, self._is_open = superuser, applier, is_open

    async def listed(self) -> Details:
        async with _session(self._applier) as connection:
            cursor = await connection.execute(_LISTED.encode())
            names = ("schema", "name", "taken_in", "rows", "counters", "groups", "function")
            tables = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
            return {"tables": tables, "node": await objects.node_number(connection)}

    async def check(self, wish: Wish) -> Details:
        async with _session(self._superuser) as connection:
            table = await describe(connection, wish.schema, wish.name)
            found = await obstacles(connection, table, _policy(wish))
            kind = [[column.name, column.type_sql] for column in table.columns if not column.ours]
            if found:
                return {"obstacles": [each.sentence for each in found], "columns": kind, "key": list(table.key)}
            highest = await sequences.highest_in_use(connection, table)
            taken_in = (wish.schema, wish.name) in await objects.taken_in(connection)
            # Reading a row may run functions of the users' own: not as the superuser.
            schema, name = ident(wish.schema), ident(wish.name)
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {objects.APPLIER_ROLE}".encode())
            await connection.execute(f"GRANT SELECT ON {schema}.{name} TO {objects.APPLIER_ROLE}".encode())
        whole = await self._users_rows(table)
        return {
            "obstacles": [],
            "columns": kind,
            "key": list(table.key),
            "highest": highest,
            "sum": asdict(whole),
            "taken_in": taken_in,
        }

    async def add(self, wish: Wish, above: int, equal: Sum | None) -> Details:
        async with self._writing(self._superuser) as connection:
            number = await objects.node_number(connection)
            if number is None:
                raise EngineError("This database is no node yet: wait until `twinstar status` shows it as one.")
            table = await describe(connection, wish.schema, wish.name)
            async with connection.transaction():
                # Nobody writes to it between the look and the taking in.
                lock = f"LOCK TABLE {ident(wish.schema)}.{ident(wish.name)} IN SHARE ROW EXCLUSIVE MODE"
                await connection.execute(lock.encode())
                send = equal is None or equal != await self._users_rows(table)
                table = await objects.take_in(connection, wish.schema, wish.name, _policy(wish), send_rows=send)
                made = await sequences.node_aware_sequences(connection, table, number, above=above)
        return {"sequences": [asdict(each) for each in made]}

    async def leave_out(self, schema: str, name: str) -> Details:
        async with _session(self._superuser) as connection:
            await _known_table(connection, schema, name)
            await objects.leave_out(connection, schema, name)
        return {}

    async def conflicts(self, table: tuple[str, str] | None, since: str | None, limit: int) -> Details:
        async with _session(self._applier) as connection:
            found = await conflicts.list_conflicts(connection, table, _time(since), limit)
        return {"conflicts": [_plain(asdict(each)) for each in found]}

    async def conflict(self, number: int) -> Details:
        async with _session(self._applier) as connection:
            found = await conflicts.list_conflicts(connection, number=number)
        if not found:
            raise UsageError(f"There is no conflict {number} on this node: list them to see the numbers.")
        return _plain(asdict(found[0]))

    async def restore(self, number: int) -> Details:
        async with self._writing(self._applier) as connection:
            return _plain(asdict(await conflicts.restore_conflict(connection, number)))

    async def dead_letters(self) -> Details:
        async with _session(self._applier) as connection:
            return {"dead_letters": [_plain(asdict(each)) for each in await dead_letters.dead_letters(connection)]}

    async def retry(self) -> Details:
        async with self._writing(self._applier) as connection:
            applied = await dead_letters.retry_dead_letters(connection)
            return {"applied": applied, "left": len(await dead_letters.dead_letters(connection))}

    async def key_at(self, schema: str, name: str, within: Range, place: int) -> Details:
        async with self._rows_of(schema, name) as (connection, table):
            key = await comparing.key_at(connection, table, within, place)
            return {"key": None if key is None else list(key)}

    async def sum(self, schema: str, name: str, within: Range) -> Details:
        async with self._rows_of(schema, name) as (connection, table):
            return asdict(await comparing.summarise(connection, table, within))

    async def listing(self, schema: str, name: str, within: Range, at_most: int) -> Details:
        async with self._rows_of(schema, name) as (connection, table):
            rows = await comparing.listing(connection, table, within, at_most)
        return {"rows": [[list(key), version.stamp, version.digest] for key, version in rows.items()]}

    async def known(self, schema: str, name: str, keys: list[Key]) -> Details:
        async with self._rows_of(schema, name) as (connection, table):
            found = await comparing.known(connection, table, keys)
        rows = {key: [each.row.stamp, each.row.digest] if each.row else None for key, each in found.items()}
        return {"known": [[list(key), rows[key], found[key].tombstone] for key in keys]}

    async def send(self, schema: str, name: str, keys: list[Key], anew: bool) -> Details:
        async with self._writing(self._applier) as connection:
            table = await _known_table(connection, schema, name)
            for key in keys:
                await (comparing.write_anew if anew else comparing.send_again)(connection, table, key)
        return {}

    async def _users_rows(self, table: Table) -> Sum:
        async with _session(self._applier) as connection:
            return await comparing.summarise(connection, table, Range(), users_alone=True)

    @asynccontextmanager
    async def _writing(self, parameters: Parameters) -> AsyncIterator[Connection]:
        """What a node writes after it has let its clients go reaches nobody when it leaves. The session is there before
        it is asked whether the node is open: so who looks for sessions after closing sees it.
        """
        async with _session(parameters, BY_HAND) as connection:
            if not self._is_open():
                raise EngineError("This node takes no writes now: wait until `twinstar status` shows it as open.")
            yield connection

    @asynccontextmanager
    async def _rows_of(self, schema: str, name: str) -> AsyncIterator[tuple[Connection, Table]]:
        async with _session(self._applier) as connection:
            yield connection, await _known_table(connection, schema, name)


@asynccontextmanager
async def _session(parameters: Parameters, application: str = _APPLICATION) -> AsyncIterator[Connection]:
    """Raises EngineError for what the database refuses."""
    try:
        connection = await connect_locally(parameters, application)
        try:
            yield connection
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise EngineError(f"The database refuses ({sentence(error)}): see its log.") from error


async def _known_table(connection: Connection, schema: str, name: str) -> Table:
    if (schema, name) not in await objects.taken_in(connection):
        raise UsageError(f"{schema}.{name} is not taken in: `twinstar tables list` shows those that are.")
    return await describe(connection, schema, name)


def _policy(wish: Wish) -> Policy:
    return Policy(wish.counters, wish.groups, wish.function)


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{text!r} is no time: write it as 2026-05-01T12:00:00+00:00.") from None


def _plain(record: dict[str, Any]) -> Details:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in record.items()}
