"""Both ends of a stream: the peer's slot and this node's database, opened, watched, and opened again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import psycopg

from twinstar.engine.postgresql.connections import fetch, sentence
from twinstar.engine.postgresql.multiwriter.beginning import Cause, Gap, GapFound, beginning
from twinstar.engine.postgresql.multiwriter.catalog import Catalog
from twinstar.engine.postgresql.multiwriter.landing import Landing
from twinstar.engine.postgresql.multiwriter.names import PUBLICATION
from twinstar.engine.postgresql.multiwriter.pause import Pause
from twinstar.engine.postgresql.multiwriter.progress import Progress
from twinstar.engine.postgresql.multiwriter.session import (
    ApplySession,
    Connection,
    connect_locally,
    durable_progress,
)
from twinstar.engine.postgresql.multiwriter.settings import ApplierSettings
from twinstar.engine.postgresql.multiwriter.stream import Stream
from twinstar.engine.postgresql.multiwriter.writer import Rules, Writer
from twinstar.model.errors import EngineError
from twinstar.model.position import format_lsn
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness

log = logging.getLogger(__name__)

_BEAT_MS = 1_000.0
SILENT_MS = 10_000.0
"""A peer that has not answered a beat for so long is gone."""
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 10.0, 2_000.0
_STEADY_MS = 5_000.0


class Link:
    """What the two kinds of appliers share."""

    def __init__(self, settings: ApplierSettings, rules: Rules, clock: Clock, randomness: Randomness) -> None:
        self.settings, self._rules = settings, rules
        self.clock, self.randomness = clock, randomness
        self._doubts: set[int] = set()
        self.progress = Progress()
        self._landing: Landing | None = None

    async def land(self, stack: AsyncExitStack) -> Landing:
        """A new session with this node's database. Raises psycopg.Error, EngineError, GapFound."""
        settings = self.settings
        connection = await connect_locally(settings.local, settings.origin)
        stack.push_async_callback(connection.close)
        await self._know(connection, settings.number, "this node")
        try:
            session = await ApplySession.open(settings.local, settings.origin)
        except psycopg.errors.UndefinedObject:
            self.progress.gap = Gap(Cause.NO_ORIGIN, 0, 0)
            raise GapFound(self.progress.gap, settings.peer_name) from None
        stack.push_async_callback(session.close)

        async def harden() -> int:
            return await durable_progress(connection, settings.origin)

        self.progress.applied = durable_lsn = await harden()
        writer = Writer(session, self._rules, settings.peer_name, self.clock, self.randomness, self._doubts)
        catalog = Catalog(connection, self.clock)
        self._landing = Landing(session, catalog, writer, self.clock, self.progress, harden, durable_lsn)
        stack.callback(self._leave)
        return self._landing

    async def receive(self, stack: AsyncExitStack, position: int) -> Stream:
        """The peer's stream from there on. Raises psycopg.Error, EngineError, GapFound."""
        settings = self.settings
        try:
            async with self.clock.timeout_ms(SILENT_MS):
                stream = await Stream.open({**settings.peer, "application_name": settings.slot}, self.clock)
                stack.push_async_callback(stream.close)
                await self._know(stream.connection, settings.peer_number, settings.peer_name)
                found = beginning(position, await stream.slot(settings.slot), stream.log_end)
                if isinstance(found, Gap):
                    self.progress.gap = found
                    raise GapFound(found, settings.peer_name)
                await stream.start(settings.slot, PUBLICATION, found.position)
        except TimeoutError:
            raise psycopg.OperationalError(f"{settings.peer_name} does not answer") from None
        log.info("Receiving from %s at %s.", settings.peer_name, format_lsn(stream.received))
        return stream

    async def beat(self, stream: Stream, report: Callable[[bool], None]) -> None:
        """Says for ever how far we are, and asks to hear the same. Raises psycopg.OperationalError when the peer has
        been silent for too long.
        """
        while True:
            await self.clock.sleep_ms(_BEAT_MS)
            if stream.waiting and self.clock.now_ms() - stream.heard_ms > SILENT_MS:
                raise psycopg.OperationalError(f"{self.settings.peer_name} has been silent for {SILENT_MS:.0f} ms")
            report(True)

    def note(self, stream: Stream, *, all_fed: bool = True) -> None:
        """Something has come, or has been applied. `all_fed`: the landing was given everything that has come."""
        progress, landing = self.progress, self._landing
        progress.received = max(progress.received, stream.received)
        progress.lag.ahead_ms = stream.ahead_ms
        if landing is not None and landing.level and all_fed and stream.received >= stream.log_end:
            progress.lag.oldest_us = None
            progress.lag.level_ms = stream.heard_ms

    async def rest(self) -> None:
        """Returns when no transaction is under way here; no other one is begun."""
        if self._landing is not None:
            await self._landing.rest()

    async def keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """One session after the other, until one ends by itself; growing pauses are between those that fail at once."""
        pause = Pause(self.clock, self.randomness, _FIRST_PAUSE_MS, _LONGEST_PAUSE_MS)
        while True:
            began_ms = self.clock.now_ms()
            try:
                await session()
                break
            except* psycopg.Error as group:
                for error in _leaves(group):
                    self.progress.error = sentence(error)
                    log.warning("With %s once more: %s", self.settings.peer_name, self.progress.error)
            if self.clock.now_ms() - began_ms > _STEADY_MS:
                pause.reset()
            await pause.wait()

    def _leave(self) -> None:
        self._landing = None

    async def _know(self, connection: Connection, number: int, whose: str) -> None:
        rows = await fetch(connection, "SELECT number FROM twinstar.node")
        if rows != [(number,)]:
            found = f"node {rows[0][0]}" if rows else "no node"
            raise EngineError(
                f"The database at the address of {whose} is {found} and not node {number}: it is another life of this "
                "member, or another member. See the membership for who is in."
            )


def _leaves(group: BaseExceptionGroup[psycopg.Error]) -> Iterator[psycopg.Error]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
