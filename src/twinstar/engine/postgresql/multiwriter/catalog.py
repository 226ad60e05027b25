"""Which table of this node a peer's table is, and where its rows go.

Tables are known by their schemas and names, columns by theirs. What the peer has and this node does not (a table that
was not taken in, a column) may be a change that is on its way to all nodes, one after the other: it is waited for. When
it does not come, its rows become dead letters, and the stream goes on. A column that is here alone has its default in
what comes from that peer.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from twinstar.engine.postgresql.multiwriter.collapse import Burials, Contributions, Rows, Sink, Strays
from twinstar.engine.postgresql.multiwriter.pgoutput import Relation
from twinstar.engine.postgresql.multiwriter.session import Connection
from twinstar.engine.postgresql.multiwriter.table import REPORTS, Table, describe
from twinstar.ports.clock import Clock

PATIENCE_MS: Final = 30_000.0
_LOOK_AGAIN_MS = 200.0
_SCHEMA = "twinstar"


class Catalog:
    """Asks the database of this node, each time anew."""

    def __init__(self, connection: Connection, clock: Clock, patience_ms: float = PATIENCE_MS) -> None:
        self._connection = connection
        self._clock = clock
        self._patience_ms = patience_ms

    async def sink(self, relation: Relation) -> Sink:
        """Where the rows of this one of the peer's tables go. Raises psycopg.Error."""
        until_ms = self._clock.now_ms() + self._patience_ms
        while True:
            found = await self._look(relation)
            if not isinstance(found, Strays) or self._clock.now_ms() >= until_ms:
                return found
            await self._clock.sleep_ms(_LOOK_AGAIN_MS)

    async def _look(self, relation: Relation) -> Sink:
        if relation.schema == _SCHEMA:
            return await self._companion(relation)
        found = await self._table("schema = %s AND name = %s", relation.schema, relation.name)
        if found is None:
            return Strays(relation, f"{relation.schema}.{relation.name} was not taken in on this node")
        here = {column.name for column in found.sent_columns}
        # A generated column is sent in vain: everybody computes it.
        sent = {column.name for column in relation.columns} - {each.name for each in found.columns if each.generated}
        if not sent <= here:
            missing = ", ".join(sorted(sent - here))
            return Strays(relation, f"{relation.schema}.{relation.name} has no {missing} on this node")
        if here != sent:
            columns = tuple(column for column in found.columns if column.generated or column.name in sent)
            found = dataclasses.replace(found, columns=columns)
        return Rows(found, relation)

    async def _companion(self, relation: Relation) -> Sink:
        if relation.name == REPORTS[1]:
            reports = await self._table("schema = %s AND name = %s", *REPORTS)
            return Rows(reports, relation) if reports else Strays(relation, "this database was not installed")
        kind, _, slug = relation.name.partition("_")
        table = await self._table("slug = %s", slug)
        if table is not None and relation.name == table.companion:
            return Burials(table, relation)
        if table is not None and relation.name == table.counted:
            return Contributions(table, relation)
        return Strays(relation, f"the {kind} table of {slug} belongs to no table that was taken in on this node")

    async def _table(self, condition: str, *arguments: str) -> Table | None:
        cursor = await self._connection.execute(
            f"SELECT schema, name FROM {_SCHEMA}.tables WHERE {condition}".encode(), arguments
        )
        row = await cursor.fetchone()
        return await describe(self._connection, *row) if row else None
