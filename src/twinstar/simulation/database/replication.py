"""How log gets from one simulated database to another, and what the receiver reports back.

As in PostgreSQL a standby connects to whoever answers at its upstream's address, and only when all of its local log is
replayed. Whether what it is sent fits its own log is decided by timelines and positions alone. Silence ends a
connection late, at either end. Reports are on their way for a moment: what a standby flushed and reported before it
left is counted after it has left.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from twinstar.model.engine import Upstream
from twinstar.simulation.database.disk import RECORD_BYTES, Record
from twinstar.simulation.database.fleet import Database, Fleet
from twinstar.simulation.database.replay import Replay
from twinstar.simulation.database.senders import Sender

SILENCE_MS = 3_000.0
"""wal_sender_timeout and wal_receiver_timeout of the preset `fast`."""
_REPORT_MS = (0.1, 0.8)
_RETRY_MS = (20, 50)
_LOOK_MS = 100.0
"""A connection on which nothing moves is looked at so often."""
_TORN = 0.5
"""How often a receiver that ends has the beginning of a further record."""


class Standby(Database, Protocol):
    """The database that a receiver works for."""

    @property
    def member(self) -> str: ...
    @property
    def fleet(self) -> Fleet: ...
    @property
    def replay(self) -> Replay: ...

    async def receive(self, records: list[Record]) -> None:
        """Writes and flushes. May be cancelled in between."""
        ...


class _Connection:
    """What both ends have in common."""

    def __init__(self, leader: Database, sender: Sender, now_ms: float, delay_ms: float) -> None:
        self.leader, self.sender, self.life = leader, sender, leader.life
        self.heard_ms = sender.heard_ms = now_ms
        self.delay_ms = delay_ms
        self.reported = (-1, -1)

    @property
    def is_over(self) -> bool:
        """Whether the leader's end is gone. Whether anybody has told the standby is another question."""
        return not self.sender.open or self.leader.life is not self.life or self.life.over


class Receiver:
    """A standby's part: connects, takes, flushes and reports, again and again while there is somebody to follow."""

    def __init__(self, standby: Standby) -> None:
        self._own = standby
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def streaming(self) -> bool:
        """As the standby itself has noticed."""
        return self._connection is not None and self._connection.sender.streaming

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def begin(self) -> None:
        """Sees to it that somebody is followed, if anybody is to be."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._receive_for_ever())

    def end(self, killed: bool = False) -> None:
        """The process ends. In order it flushes what it has written, and reports no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if not killed:
            self._own.disk.flush()
        self._leave(self._own.life.power_lost)

    async def _receive_for_ever(self) -> None:
        own = self._own
        while (upstream := own.replay.upstream) is not None:
            self._connection = self._connect(upstream)
            if self._connection is not None:
                await self._stream(self._connection)
                self._leave(unheard=False)
            await own.fleet.clock.sleep_ms(own.fleet.randomness.between(*_RETRY_MS))

    def _connect(self, upstream: Upstream) -> _Connection | None:
        own = self._own
        leader = own.fleet.at.get(upstream.address)
        if leader is None or own.stuck or not own.replay.is_done:
            return None
        if not leader.accepts or not own.fleet.connects(own, leader):
            return None
        disk = leader.disk
        fits = own.disk.flushed <= disk.flushed and disk.branch().contains(own.disk.position)
        if not disk.knows_the_way(own.disk.timeline) or (fits and own.disk.flushed < disk.oldest):
            return None
        sender = leader.attach(own.member, upstream.epoch, fits)
        if sender is None:
            return None
        newer = range(own.disk.timeline + 1, disk.timeline + 1)
        own.disk.histories |= disk.histories & set(newer)
        own.disk.placeholders |= disk.placeholders & set(newer)
        return _Connection(leader, sender, own.fleet.clock.now_ms(), own.fleet.randomness.between(*_REPORT_MS))

    async def _stream(self, connection: _Connection) -> None:
        """Until an end of the connection is noticed."""
        own, leader, fleet = self._own, connection.leader, self._own.fleet
        here, there = own.address.host, leader.address.host
        while True:
            now = fleet.clock.now_ms()
            hears = fleet.reaches(there, here)
            if not own.stuck:
                if connection.is_over and hears and not connection.life.power_lost:
                    return
                if now - connection.heard_ms > SILENCE_MS:
                    return
                self._report(connection, now, fleet.reaches(here, there))
            if connection.sender.open and now - connection.sender.heard_ms > SILENCE_MS:
                leader.let_go(connection.sender)
            if not own.stuck and hears and not connection.is_over and not leader.stuck:
                connection.heard_ms = now
                new = leader.disk.log.records[len(own.disk.log) : leader.disk.flushed]
                if new and connection.sender.streaming:
                    await own.receive(new)
                    continue
            await leader.bell.heard(_LOOK_MS)

    def _report(self, connection: _Connection, now_ms: float, passes: bool) -> None:
        if not passes:
            return
        connection.sender.heard_ms = now_ms
        report = (self._own.disk.flushed * RECORD_BYTES, self._own.replay.reached * RECORD_BYTES)
        if report != connection.reported:
            connection.reported = report
            leader, sender = connection.leader, connection.sender
            self._own.fleet.later(connection.delay_ms, lambda: leader.hear(sender, *report))

    def _leave(self, unheard: bool) -> None:
        """The leader notices after everything that was reported before, or late if nobody tells it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        own, leader, sender = self._own, connection.leader, connection.sender
        if sender.streaming and own.fleet.chance(_TORN):
            own.disk.torn = 1 + int(own.fleet.randomness.between(0, RECORD_BYTES - 2))
        told = not unheard and own.fleet.reaches(own.address.host, leader.address.host)
        silent_ms = own.fleet.clock.now_ms() - sender.heard_ms
        late_ms = max(0.0, SILENCE_MS - silent_ms)
        own.fleet.later(connection.delay_ms + 0.1 if told else late_ms, lambda: leader.let_go(sender))
