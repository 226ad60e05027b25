"""One peer's stream, from its slot to this node's tables, for ever.

The peer hears that we have something when it will never have to send it again. Without a spool that is when it is
applied and durable here. With one, it is when it is durably *received*: what a peer's synchronous commits wait for must
not wait for this node's locks. Receiving then goes on whatever becomes of applying, and the other way round.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from twinstar.engine.postgresql.multiwriter.landing import Landing
from twinstar.engine.postgresql.multiwriter.link import Link
from twinstar.engine.postgresql.multiwriter.spool import Spool

_IDLE_BYTES = 1024 * 1024
"""So much of the peer's log may pass without anything for us before that is committed here, which lets the peer forget
it. If it were less, idle nodes would write log because of each other's log for ever."""
_SPOOL_BYTES = 8 * 1024**3
"""With more of them nothing is received until some are applied."""
_LOOK_AGAIN_MS = 100.0


async def run_applier(link: Link) -> None:
    """Never returns, unless nothing is to be received: then when all that was received is applied. Raises EngineError
    when only a person can help, in an ExceptionGroup or alone; OSError when the disk refuses.
    """
    settings = link.settings
    if settings.receives and settings.durability == "quorum":
        spooling = _Spooling(link, Spool(settings.spool))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.keep(spooling.receive))
            tasks.create_task(link.keep(spooling.apply))
    if settings.spool.is_dir():
        # What the peer has been told that we have is applied first.
        spool = Spool(settings.spool)
        await link.keep(_Spooling(link, spool).drain)
        spool.remove()
    if settings.receives:
        await link.keep(lambda: _pass_on(link))


async def _pass_on(link: Link) -> None:
    """One session: what is received is applied, and what is applied is confirmed."""
    async with AsyncExitStack() as stack:
        landing = await link.land(stack)
        stream = await link.receive(stack, landing.applied_lsn)

        def report(ask: bool = False) -> None:
            link.note(stream)
            stream.report(stream.received, landing.durable_lsn, landing.applied_lsn, ask=ask)

        async def read() -> None:
            while True:
                await landing.feed(await stream.read(gather=True), stream.received)
                link.note(stream)
                # Under load there is always something to read.
                await link.clock.sleep_ms(0)

        def idle() -> bool:
            return stream.asked or stream.received - landing.durable_lsn >= _IDLE_BYTES

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(landing.run(report, idle))
            tasks.create_task(landing.keep_durable(report))
            tasks.create_task(link.beat(stream, report))


class _Spooling:
    """Receiving into the spool, and applying from it."""

    def __init__(self, link: Link, spool: Spool) -> None:
        self._link, self._spool = link, spool
        self._received = asyncio.Event()
        self._landed = asyncio.Event()
        self._applied_lsn = 0

    async def receive(self) -> None:
        """One session with the peer."""
        spool = self._spool
        # An unfinished transaction comes again; what is whole was perhaps not synced before this process began.
        spool.cut()
        spool.sync()
        async with AsyncExitStack() as stack:
            # Once this node's database has said how far it is, receiving can do without it.
            await self._landed.wait()
            stream = await self._link.receive(stack, max(spool.end_lsn, self._applied_lsn))
            durable_lsn = stream.received
            appended = asyncio.Event()

            def report(ask: bool = False) -> None:
                self._link.note(stream, all_fed=not spool.unread)
                stream.report(stream.received, durable_lsn, self._applied_lsn, ask=ask)

            async def read() -> None:
                while True:
                    messages = await stream.read()
                    spool.append(messages, stream.received)
                    if spool.whole:
                        spool.note(stream.received)
                    if spool.end_lsn > durable_lsn:
                        appended.set()
                    self._received.set()
                    self._link.note(stream, all_fed=not spool.unread)
                    await self._link.clock.sleep_ms(0)
                    while spool.size_bytes > _SPOOL_BYTES:
                        await self._link.clock.sleep_ms(_LOOK_AGAIN_MS)

            async def confirm() -> None:
                nonlocal durable_lsn
                while True:
                    await appended.wait()
                    appended.clear()
                    end_lsn = spool.end_lsn
                    await asyncio.to_thread(spool.sync)
                    durable_lsn = max(durable_lsn, end_lsn)
                    report()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                tasks.create_task(confirm())
                tasks.create_task(self._link.beat(stream, report))

    async def apply(self) -> None:
        """One session with this node's database."""
        async with AsyncExitStack() as stack:
            landing = await self._land(stack)

            async def read() -> None:
                while True:
                    if not self._spool.unread:
                        await self._received.wait()
                        self._received.clear()
                        continue
                    await self._feed(landing)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                tasks.create_task(landing.run(lambda: self._applied(landing), lambda: False))
                tasks.create_task(landing.keep_durable(lambda: self._applied(landing)))

    async def drain(self) -> None:
        """One session with this node's database that ends when all is applied that the peer was told we have."""
        spool = self._spool
        async with AsyncExitStack() as stack:
            landing = await self._land(stack)

            async def read() -> None:
                while spool.unread:
                    await self._feed(landing)
                while landing.applied_lsn < spool.end_lsn:
                    await self._link.clock.sleep_ms(_LOOK_AGAIN_MS)
                await landing.rest()
                await landing.harden()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                tasks.create_task(landing.run(lambda: self._applied(landing), lambda: True))

    async def _land(self, stack: AsyncExitStack) -> Landing:
        landing = await self._link.land(stack)
        self._applied_lsn = landing.applied_lsn
        self._landed.set()
        self._spool.rewind()
        return landing

    async def _feed(self, landing: Landing) -> None:
        await landing.feed(*self._spool.read())
        await self._link.clock.sleep_ms(0)

    def _applied(self, landing: Landing) -> None:
        self._applied_lsn = landing.applied_lsn
        self._spool.applied(landing.durable_lsn)
