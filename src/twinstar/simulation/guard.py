"""A guard's core (the real code) on virtual time, beside a model of the database."""

from __future__ import annotations

import asyncio
from collections import deque

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
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams
from twinstar.simulation.database import VirtualEngine
from twinstar.simulation.freezing import Gate
from twinstar.simulation.network import VirtualNetwork


class VirtualGuard:
    """Drives a guard's core. `record` is what it remembers from an earlier run."""

    def __init__(
        self, settings: GuardSettings, secret: bytes, engine: VirtualEngine, clock: Clock, gate: Gate, record: Record
    ) -> None:
        self._settings, self._engine, self._clock, self._gate = settings, engine, clock, gate
        self.record = record
        self._core = GuardCore(settings, clock.now_ms(), record)
        self._sender = Sender(settings.cluster, secret, settings.member, Part.GUARD, int(clock.wall_ms()) + 1)
        self._inbox = Inbox(settings.cluster, secret)
        self._datagrams: Datagrams | None = None
        self._woken = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()

    async def run(self, network: VirtualNetwork) -> None:
        self._datagrams = await network.open_datagrams(self._settings.bind, self._receive)
        try:
            while True:
                self._step(Tick())
                pause = max(0.5, self._core.next_wake_ms() - self._clock.now_ms())
                self._woken.clear()
                try:
                    async with self._clock.timeout_ms(pause):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            self._datagrams.close()
            for watch in self._watches:
                watch.cancel()

    def _receive(self, data: bytes, _: Address) -> None:
        envelope = self._inbox.open(data)
        if envelope is not None:
            self._step(Received(envelope))
            self._woken.set()

    def _step(self, first: Event) -> None:
        events = deque([first])
        while events:
            for effect in self._core.step(events.popleft(), self._clock.now_ms()):
                match effect:
                    case Send(heartbeat, guards):
                        self._send(self._sender.pack(heartbeat), guards)
                    case Look() if self._engine.run:
                        events.append(Seen(self._engine.run))
                    case Watch(run):
                        watch = asyncio.create_task(self._watch(run))
                        self._watches.add(watch)
                        watch.add_done_callback(self._watches.discard)
                    case Sweep(run, kill):
                        events.append(self._sweep(run, kill))
                    case Knock():
                        events.append(Knocked(not self._engine.stuck))
                    case Remember(record):
                        self.record = record
                    case _:
                        pass

    def _sweep(self, run: str, kill: bool) -> Event:
        if self._engine.run and self._engine.run != run:
            return Seen(self._engine.run)
        found = self._engine.has_processes
        if kill:
            self._engine.end_at_once()
        return Swept(int(found))

    async def _watch(self, run: str) -> None:
        if self._engine.run == run:
            await self._engine.ended()
        await self._gate.passed()
        self._step(Ended(run))
        self._woken.set()

    def _send(self, data: bytes, guards: bool) -> None:
        assert self._datagrams is not None
        self._datagrams.send(self._settings.agent, data)
        for peer in self._settings.peers:
            self._datagrams.send(peer.agent, data)
            if guards:
                self._datagrams.send(peer.guard, data)
