"""What a node does now and then beside serving: it takes in tables that were made, sends removals, calls users' merging
functions, tries again what could not be applied, and forgets tombstones that nobody needs any more.

Nothing here is urgent, everything may be cut off and done again. One round at a time, on two connections of its own:
only what makes objects is done by the superuser, all else by the appliers' role, since it runs what users have written.
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
from twinstar.rules.active_active.stamps import NONE

ROUND_MS = 1_000.0
_SETTLE_MS = 5_000.0
_COLLECT_MS = 10_000.0
_RETRY_MS = 30_000.0
_RETENTION_MS = 60_000.0
"""A node whose clock is behind by more stamps its insertions ahead of its own clock."""
_ABOVE = 1 << 20
"""Where node-aware sequences of a table begin that is taken in by itself: what was given in the second before, by
whatever node, is below."""

_SETTINGS = "SET synchronous_commit = local; SET lock_timeout = '1s'"
"""It waits for no other node, and lets nobody wait long behind it."""

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(self, database: NodeDatabase, rules: tuple[TableRule, ...], clock: Clock) -> None:
        self._database, self._rounds = database, Rounds(rules, clock)
        self._connections: list[Connection] = []

    def take_over(self, rules: tuple[TableRule, ...]) -> None:
        """From the next round on."""
        self._rounds.rules = rules

    async def round(self, number: int, others: Collection[int], dead: Collection[int]) -> None:
        """What is due. `others`: the nodes that are in, are to be, or leave; `dead`: whose logs are not settled. Raises
        EngineError.
        """
        try:
            if not self._connections or any(each.closed for each in self._connections):
                await self.close()
                self._connections.append(await self._database.open_superuser())
                self._connections.append(await self._database.open_applier())
                for each in self._connections:
                    await each.execute(_SETTINGS)
            superuser, applier = self._connections
            await self._rounds.due(superuser, applier, number, others, dead)
        except psycopg.Error as error:
            await self.close()
            raise refused(self._database.server.settings, error) from error

    async def close(self) -> None:
        while self._connections:
            await self._connections.pop().close()


class Rounds:
    """What is done in the sessions: of a superuser, and of the appliers' role. Everything raises psycopg.Error."""

    def __init__(self, rules: tuple[TableRule, ...], clock: Clock, retention_ms: float = _RETENTION_MS) -> None:
        """`retention_ms`: how old a tombstone must be to be forgotten."""
        self.rules, self._clock, self._retention_ms = rules, clock, retention_ms
        self._paces = Paces()
        self._refused: frozenset[str] = frozenset()

    async def due(
        self,
        superuser: Connection,
        connection: Connection,
        number: int,
        others: Collection[int],
        dead: Collection[int],
    ) -> None:
        now = self._clock.now_ms()
        await self._match(superuser, number, alone=not others)
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

    async def _match(self, connection: Connection, number: int, *, alone: bool) -> None:
        # Who comes later is a copy, and has the rows.
        matched = await take_in_matching(connection, self.rules, send_rows=not alone)
        for schema, name in matched.taken_in:
            table = await describe(connection, schema, name)
            above = max(_ABOVE, await sequences.highest_in_use(connection, table))
            await sequences.node_aware_sequences(connection, table, number, above=above)
            log.info("%s.%s is taken in: every node writes to it", schema, name)
        said = frozenset(obstacle.sentence for obstacle in matched.refused)
        for sentence in sorted(said - self._refused):
            log.warning("%s", sentence)
        self._refused = said

    async def _collect(
        self, connection: Connection, number: int, others: Collection[int], dead: Collection[int]
    ) -> None:
        if not await collecting.report(connection, self._retention_ms):
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
        if horizon == NONE:
            # It is not covered yet; another cut would not be sooner.
            return
        if not await collecting.collect(connection, horizon, noted):
            await collecting.note_cut(connection, streams)


async def _any(connection: Connection, rows: str) -> bool:
    found = await (await connection.execute(f"SELECT EXISTS (SELECT FROM {rows})".encode())).fetchone()
    return found == (True,)
