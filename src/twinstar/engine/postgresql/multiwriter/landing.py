"""The local side of a stream: messages come in, batches are written. Collecting and decoding the next batch goes on
while the database works on this one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from twinstar.engine.postgresql.multiwriter.catalog import Catalog
from twinstar.engine.postgresql.multiwriter.collapse import Collector
from twinstar.engine.postgresql.multiwriter.pgoutput import Begin, Relation, decode
from twinstar.engine.postgresql.multiwriter.progress import Progress
from twinstar.engine.postgresql.multiwriter.session import ApplySession
from twinstar.engine.postgresql.multiwriter.writer import Writer
from twinstar.ports.clock import Clock

_HARDEN_MS = 1_000.0
_BEGIN, _COMMIT = b"BC"
_STRETCHES = re.compile(rb"(?P<rows>[BCIUD]+)|.", re.DOTALL)
"""Of the messages' kinds: those that a collector takes, as many as follow each other; any other one alone."""


def whole(messages: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Up to the last commit, and what comes after it; everything, and nothing, when there is none: a transaction that
    is so large is written in parts.

    If batches ended where reading happens to end, in the middle of a transaction, then under load each would go on in
    the transaction here of the one before, and that would end only when the load does.
    """
    for at in range(len(messages), 0, -1):
        if messages[at - 1][0] == _COMMIT:
            return messages[:at], messages[at:]
    return messages, []


class Landing:
    """One session's. `applied_lsn` is how far the stream is applied, `durable_lsn` how far no crash takes it back."""

    def __init__(
        self,
        session: ApplySession,
        catalog: Catalog,
        writer: Writer,
        clock: Clock,
        progress: Progress,
        harden: Callable[[], Awaitable[int]],
        durable_lsn: int,
    ) -> None:
        self._session, self._catalog, self._writer, self._clock = session, catalog, writer, clock
        self._progress, self._harden = progress, harden
        self._collector = Collector()
        self._begun: list[bytes] = []
        """What came last, of a transaction whose end has not come."""
        self._passing_over = True
        self._begun_at = durable_lsn
        self._fed_lsn = durable_lsn
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._writing = False
        self._stopping = False
        self._rests = asyncio.Event()
        self.applied_lsn = self.durable_lsn = durable_lsn

    async def feed(self, messages: list[bytes], complete_lsn: int) -> None:
        """Takes messages in, and waits while there are too many. `complete_lsn`: every transaction that ends up to
        there has been fed with these.
        """
        collector = self._collector
        messages, self._begun = whole([*self._begun, *messages])
        kinds = bytes([message[0] for message in messages])
        for stretch in _STRETCHES.finditer(kinds):
            begin, end = stretch.span()
            if stretch.lastgroup == "rows":
                begin = self._first_new(messages, kinds, begin, end)
                if begin < end:
                    collector.add(messages[begin:end], kinds[begin:end])
                if collector.full:
                    await self._make_room()
            elif isinstance(relation := decode(messages[begin]), Relation) and not collector.knows(relation):
                collector.relate(relation, await self._catalog.sink(relation))
        self._fed_lsn = max(self._fed_lsn, complete_lsn)
        self._news.set()

    async def run(self, applied: Callable[[], None], idle: Callable[[], bool]) -> None:
        """Writes batches for ever. `applied` is called when `applied_lsn` has moved; when there is nothing to write,
        `idle` says whether it is worthwhile to commit that there was nothing up to what has been fed, durably.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            while self._collector.ready and (self._writer.middle or not self._stopping):
                await self._write(applied)
            if self._stopping and not self._writer.middle:
                self._rests.set()
                return
            if self._collector.empty and idle():
                fed_lsn = self._fed_lsn
                if fed_lsn > self.applied_lsn:
                    await self._session.advance(fed_lsn, self._clock.wall_ms() * 1000)
                    self.applied_lsn = self._progress.applied = fed_lsn
                await self.harden()
                applied()

    async def harden(self) -> None:
        """Lets `durable_lsn` reach what is applied now."""
        self.durable_lsn = max(self.durable_lsn, await self._harden())

    async def keep_durable(self, applied: Callable[[], None]) -> None:
        """For ever, now and then."""
        while True:
            await self._clock.sleep_ms(_HARDEN_MS)
            if self.applied_lsn > self.durable_lsn:
                await self.harden()
                applied()

    async def rest(self) -> None:
        """Returns when no transaction is under way; no other one is begun."""
        self._stopping = True
        self._news.set()
        await self._rests.wait()

    @property
    def level(self) -> bool:
        """Whether everything that was fed is applied."""
        return self._collector.empty and not self._begun and not self._writing

    async def _write(self, applied: Callable[[], None]) -> None:
        progress = self._progress
        progress.lag.oldest_us = self._collector.oldest_us
        batch = self._collector.take()
        self._room.set()
        self._writing = True
        written = await self._writer.write(batch)
        self._writing = False
        progress.rows += batch.rows
        progress.transactions += batch.transactions
        progress.conflicts += written.conflicts
        progress.dead_letters += written.dead_letters
        progress.lag.oldest_us = self._collector.oldest_us
        if batch.complete:
            self.applied_lsn = progress.applied = batch.end_lsn
            applied()

    async def _make_room(self) -> None:
        self._room.clear()
        self._news.set()
        await self._room.wait()

    def _first_new(self, messages: list[bytes], kinds: bytes, begin: int, end: int) -> int:
        """Where what had not been applied before this session began does begin. Transactions come in the order of their
        commits, so once one is new, all that follow are.
        """
        while self._passing_over and begin < end:
            if kinds[begin] == _BEGIN:
                message = decode(messages[begin])
                self._passing_over = isinstance(message, Begin) and message.commit_lsn < self._begun_at
                if not self._passing_over:
                    break
            begin += 1
        return begin
