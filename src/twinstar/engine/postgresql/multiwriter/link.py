"""Both ends of a stream: the peer's slot and this node's database, opened, watched, and opened again.

The stream begins where this node knows that something is missing: behind what its origin says was applied, or what is
in the spool. A slot that has been confirmed beyond that has forgotten transactions that are missing here (this database
was restored from a backup, or its spool was thrown away), and nothing but a new copy brings them back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import NoReturn

import psycopg

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.catalog import Catalog
from twinstar.engine.postgresql.multiwriter.landing import Landing
from twinstar.engine.postgresql.multiwriter.pause import Pause
from twinstar.engine.postgresql.multiwriter.session import ApplySession, connect_locally, has_origin, make_origin
from twinstar.engine.postgresql.multiwriter.settings import ApplierSettings
from twinstar.engine.postgresql.multiwriter.stream import Stream
from twinstar.engine.postgresql.multiwriter.writer import Rules, Writer
from twinstar.model.errors import EngineError
from twinstar.model.position import format_lsn
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness

log = logging.getLogger(__name__)

BEAT_MS = 1_000.0
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

    async def prepare(self) -> None:
        """Makes the origin here and the slot on the peer, where they are missing. From then on the peer keeps what this
        node has to receive. Done once, when the two nodes are joined. Raises psycopg.Error, EngineError.
        """
        settings = self.settings
        async with AsyncExitStack() as stack:
            stream = await self._connect(stack)
            local = await connect_locally(settings.local, settings.origin)
            stack.push_async_callback(local.close)
            # In this order: a slot without an origin could not be told from one that was used and whose origin is lost.
            await make_origin(local, settings.origin)
            if await stream.slot(settings.slot) is None:
                await stream.make_slot(settings.slot)

    async def land(self, stack: AsyncExitStack) -> Landing:
        """A new session with this node's database. Raises psycopg.Error, EngineError."""
        settings = self.settings
        connection = await connect_locally(settings.local, settings.origin)
        stack.push_async_callback(connection.close)
        if not await has_origin(connection, settings.origin):
            raise EngineError(
                f"This database does not know the stream of {settings.peer_name} ({settings.origin}): "
                "it is not the one that was joined to it; join this node anew."
            )
        session = await ApplySession.open(settings.local, settings.origin)
        stack.push_async_callback(session.close)
        writer = Writer(session, self._rules, settings.peer_name, self.clock, self.randomness, self._doubts)
        catalog = Catalog(connection, self.clock)
        return Landing(session, catalog, writer, self.clock, await session.progress())

    async def receive(self, stack: AsyncExitStack, position: int) -> Stream:
        """The peer's stream from there on; from where its slot was made, when that is 0."""
        settings = self.settings
        stream = await self._connect(stack)
        slot = await stream.slot(settings.slot)
        if slot is None or slot.lost:
            _must_copy(f"{settings.peer_name} no longer keeps what this node has missed (slot {settings.slot})")
        if position and slot.confirmed > position:
            _must_copy(
                f"This node has lost what it had confirmed to {settings.peer_name}, "
                f"from {format_lsn(position)} to {format_lsn(slot.confirmed)}"
            )
        await stream.start(settings.slot, settings.publication, position or slot.confirmed)
        log.info("Receiving from %s at %s.", settings.peer_name, format_lsn(stream.received))
        return stream

    async def beat(self, stream: Stream, report: Callable[[bool], None]) -> None:
        """Says for ever how far we are, and asks to hear the same. Raises psycopg.OperationalError when the peer has
        been silent for too long.
        """
        while True:
            await self.clock.sleep_ms(BEAT_MS)
            if stream.waiting and self.clock.now_ms() - stream.heard_ms > SILENT_MS:
                raise psycopg.OperationalError(f"{self.settings.peer_name} has been silent for {SILENT_MS:.0f} ms")
            report(True)

    async def keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """One session after the other, with growing pauses between those that fail at once."""
        pause = Pause(self.clock, self.randomness, _FIRST_PAUSE_MS, _LONGEST_PAUSE_MS)
        while True:
            began_ms = self.clock.now_ms()
            try:
                await session()
            except* psycopg.Error as group:
                for error in _leaves(group):
                    log.warning("With %s once more: %s", self.settings.peer_name, sentence(error))
            if self.clock.now_ms() - began_ms > _STEADY_MS:
                pause.reset()
            await pause.wait()

    async def _connect(self, stack: AsyncExitStack) -> Stream:
        settings = self.settings
        stream = await Stream.open({**settings.peer, "application_name": settings.application_name}, self.clock)
        stack.push_async_callback(stream.close)
        if stream.system_identifier != settings.system_identifier:
            raise EngineError(
                f"At the address of {settings.peer_name} is another database ({stream.system_identifier} instead of "
                f"{settings.system_identifier}): it is a new node, and has to join as one."
            )
        return stream


def _must_copy(what: str) -> NoReturn:
    raise EngineError(f"{what}: copy this node anew from another one.")


def _leaves(group: BaseExceptionGroup[psycopg.Error]) -> Iterator[psycopg.Error]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
