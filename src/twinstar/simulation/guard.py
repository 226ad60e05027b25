"""A guard's core (the real code) on virtual time, beside a model of the database.

As lazy as the real shell (`guard/shell.py`): datagrams wake nobody, they wait in the socket until the next heartbeat is
due or something ends, and are read before time is looked at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from twinstar.guard.core import (
    Ended,
    Event,
    GuardCore,
    Knock,
    Knocked,
    Look,
    Received,
    Record,
    Remember,
    Seen,
    Send,
    Sweep,
    Swept,
    Tick,
    Watch,
)
from twinstar.guard.settings import GuardSettings
from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.world.freezing import outside
from twinstar.simulation.world.network import VirtualNetwork


class VirtualGuard:
    """Drives a guard's core. `record` is what it remembers from an earlier run, `boot` the number of that run."""

    def __init__(
        self,
        settings: GuardSettings,
        secret: bytes,
        engine: VirtualEngine,
        clock: Clock,
        record: Record,
        boot: int,
    ) -> None:
        self._settings, self._engine, self._clock = settings, outside(engine), clock
        self.record, self.boot = record, max(clock.wall_ms(), boot + 1)
        self._core = GuardCore(settings, clock.now_ms(), record)
        self._sender = Sender(settings.cluster, secret, settings.member, Part.GUARD, self.boot)
        inbox = Inbox(settings.cluster, secret)
        self._starts = Starts(self._sender, inbox, settings.address_of, self._send_raw, self._start_as)
        self._datagrams: Datagrams | None = None
        self._woken = asyncio.Event()
        self._ended: list[Event] = []
        self._answered: list[Event] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._tests = False

    async def run(self, network: VirtualNetwork) -> None:
        self._datagrams = datagrams = await network.open_datagrams(self._settings.bind, self._receive)
        datagrams.attend(False)
        self._step(Tick())
        while True:
            await self._wait()
            datagrams.poll()
            ended, self._ended = self._ended, []
            answered, self._answered = self._answered, []
            for event in (*ended, *answered, Tick()):
                self._step(event)

    async def _wait(self) -> None:
        self._woken.clear()
        if self._ended or self._answered:
            return
        try:
            async with self._clock.timeout_ms(max(0.01, self._core.next_wake_ms() - self._clock.now_ms())):
                await self._woken.wait()
        except TimeoutError:
            return

    def _receive(self, data: bytes, _: Address) -> None:
        envelope = self._starts.open(data, self._clock.now_ms())
        if envelope is not None:
            self._step(Received(envelope))

    def _step(self, first: Event) -> None:
        events = deque([first])
        while events:
            for effect in self._core.step(events.popleft(), self._clock.now_ms()):
                match effect:
                    case Send():
                        self._send(effect)
                    case Look() if self._engine.run:
                        events.append(Seen(self._engine.run))
                    case Watch(run):
                        self._aside(self._watch(run))
                    case Sweep(run, kill):
                        events.append(self._sweep(run, kill))
                    case Knock() if not self._tests:
                        self._aside(self._test())
                    case Remember(record):
                        self.record = record
                    case _:
                        pass

    def _sweep(self, run: str, kill: bool) -> Event:
        if self._engine.run and self._engine.run != run:
            return Seen(self._engine.run)
        found = self._engine.has_processes
        if kill:
            self._engine.fleet.witness.sometimes["guard fired"] += found
            self._engine.end_at_once()
        return Swept(int(found))

    async def _watch(self, run: str) -> None:
        if self._engine.run == run:
            await self._engine.ended()
        self._ended.append(Ended(run))
        self._woken.set()

    async def _test(self) -> None:
        self._tests = True
        answered = await self._engine.answers(self._settings.hung_query_ms)
        self._tests = False
        self._answered.append(Knocked(answered))
        self._woken.set()

    def _send(self, effect: Send) -> None:
        assert self._datagrams is not None
        data = self._sender.pack(effect.heartbeat)
        for peer in self._settings.peers:
            self._datagrams.send(peer.agent, data)
        if not effect.widely:
            return
        self._datagrams.send(self._settings.agent, data)
        for peer in self._settings.peers:
            self._datagrams.send(peer.guard, data)

    def _send_raw(self, to: Address, data: bytes) -> None:
        assert self._datagrams is not None
        self._datagrams.send(to, data)

    def _start_as(self, boot: int) -> bool:
        self.boot = boot
        return True

    def _aside(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
