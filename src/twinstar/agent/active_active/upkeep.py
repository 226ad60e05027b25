"""What a node does now and then beside serving: it takes in tables that were made, sends removals, calls users' merging
functions, tries again what could not be applied, and forgets tombstones that nobody needs any more.

Nothing here is urgent, everything may be cut off and done again. One round at a time, on a connection of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import psycopg

from twinstar.agent.errands import Paces
from twinstar.config.schema import TableRule
from twinstar.engine.postgresql.connections import refused
from twinstar.engine.postgresql.multiwriter import collecting, dead_letters, sequences, upkeep
from twinstar.engine.postgresql.multiwriter.matching import take_in_matching
from twinstar.engine.postgresql.multiwriter.node import NodeDatabase
from twinstar.engine.postgresql.multiwriter.session import Connection
from twinstar.engine.postgresql.multiwriter.table import describe
from twinstar.ports.clock import Clock
from twinstar.rules.active_active.collecting import Report, collectable

ROUND_MS = 1_000.0
_SETTLE_MS = 5_000.0
_COLLECT_MS = 10_000.0
_RETRY_MS = 30_000.0
_RETENTION_MS = 60_000.0
"""A node whose clock is behind by more stamps its insertions ahead of its own clock."""
_ABOVE = 1 << 20
"""Where node-aware sequences of a table begin that is taken in by itself: what was given in the second before, by
whatever node, is below."""

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(self, database: NodeDatabase, rules: tuple[TableRule, ...], clock: Clock) -> None:
        self._database, self._rules, self._clock = database, rules, clock
        self._connection: Connection | None = None
        self._paces = Paces()
        self._refused: frozenset[str] = frozenset()

    async def round(self, number: int, others: Collection[int], dead: Collection[int]) -> None:
        """What is due. `others`: the nodes that are in; `dead`: whose logs are not settled. Raises EngineError."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await self._database.open_superuser()
            await self._round(self._connection, number, others, dead)
        except psycopg.Error as error:
            await self.close()
            raise refused(self._database.server.settings, error) from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _round(self, connection: Connection, number: int, others: Collection[int], dead: Collection[int]) -> None:
        now = self._clock.now_ms()
        if self._rules:
            await self._match(connection, number)
        if await _any(connection, "twinstar.repairs"):
            await upkeep.run_repairs(connection)
        if await _any(connection, "twinstar.tables WHERE merge IS NOT NULL"):
            await upkeep.run_merges(connection)
        if self._paces.is_due("settle", now, _SETTLE_MS):
            await upkeep.settle(connection)
        if self._paces.is_due("retry", now, _RETRY_MS) and await _any(connection, "twinstar.dead_letters"):
            applied = await dead_letters.retry_dead_letters(connection)
            log.info("%d changes that could not be applied were applied now", applied)
        if self._paces.is_due("collect", now, _COLLECT_MS):
            await self._collect(connection, number, others, dead)

    async def _match(self, connection: Connection, number: int) -> None:
        matched = await take_in_matching(connection, self._rules, send_rows=True)
        for schema, name in matched.taken_in:
            table = await describe(connection, schema, name)
            above = max(_ABOVE, await sequences.highest_in_use(connection, table))
            await sequences.node_aware_sequences(connection, table, number, above=above)
            log.info("%s.%s is taken in: every node writes to it", schema, name)
        said = frozenset(obstacle.sentence for obstacle in matched.refused)
        for sentence in sorted(said - self._refused):
            log.warning("%s", sentence)
        self._refused = said

    @staticmethod
    async def _collect(connection: Connection, number: int, others: Collection[int], dead: Collection[int]) -> None:
        if not await collecting.report(connection, _RETENTION_MS):
            return
        noted = await collecting.cut(connection)
        streams = {number, *others, *dead}
        if noted is None or noted.streams.keys() != streams:
            await collecting.note_cut(connection, streams)
            return
        said = {
            member: Report(each.applied, each.floor) for member, each in (await collecting.reports(connection)).items()
        }
        horizon = collectable(noted.streams, said, {*others, *dead}, said[number].floor)
        if horizon and not await collecting.collect(connection, horizon, noted):
            await collecting.note_cut(connection, streams)


async def _any(connection: Connection, rows: str) -> bool:
    found = await (await connection.execute(f"SELECT EXISTS (SELECT FROM {rows})".encode())).fetchone()
    return found == (True,)
