"""The rules as the applier calls them (`writer.Rules`): SQL in the database of this node."""

from __future__ import annotations

import psycopg

from twinstar.engine.postgresql.multiwriter import dead_letters
from twinstar.engine.postgresql.multiwriter.applying import Applier, applier_of
from twinstar.engine.postgresql.multiwriter.batch import Changes
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.session import Connection
from twinstar.engine.postgresql.multiwriter.table import Table


class SqlRules:
    """Keeps of each table what was made for it, until the table is another one."""

    def __init__(self) -> None:
        self._appliers: dict[str, Applier] = {}

    async def apply(self, connection: Connection, table: Table, changes: Changes, peer: str) -> int:
        applier = self._appliers.get(table.slug)
        if applier is None or applier.table != table:
            applier = self._appliers[table.slug] = applier_of(table)
        return (await applier.apply(connection, changes, peer)).conflicts

    async def keep_failed(
        self, connection: Connection, table: Table, changes: Changes, peer: str, error: psycopg.Error
    ) -> None:
        await dead_letters.keep_failed(connection, table, changes, peer, error)

    async def keep_stray(self, connection: Connection, stray: Stray, peer: str) -> None:
        await dead_letters.keep_stray(connection, stray, peer)
