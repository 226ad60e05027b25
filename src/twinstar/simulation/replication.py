"""How a log gets from one simulated database to another, and what the receiver reports back.

Reports are on their way for a moment: what a standby flushed and reported before it left is counted after it has left.
A member has one place with a leader (its slot); while a connection that nobody ended holds it, another waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from twinstar.model.engine import Names
from twinstar.ports.clock import Clock

if TYPE_CHECKING:
    from twinstar.simulation.database import VirtualEngine

_REPORT_MS = (0.1, 0.8)
_RETRY_MS = (20, 50)
_UNHEARD_MS = (200, 1_000)
"""After this a leader ends the connection of a standby that it does not hear any more."""


@dataclass(slots=True, eq=False)
class Sender:
    """A leader's end of a connection."""

    member: str
    epoch: int
    streaming: bool
    """False: attached, but its log is no prefix of the leader's. It is counted all the same."""
    flushed: int = 0
    open: bool = True
    genuine: bool = True
    """False: somebody who merely calls itself so. It is counted all the same."""
    pid: int = 0
    """Given when it takes its place."""


class Senders:
    """A database's connected standbys."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_place: dict[tuple[str, bool], Sender] = {}
        self._pids = count(5_000)

    def __iter__(self) -> Iterator[Sender]:
        return iter(tuple(self._by_place.values()))

    def confirming(self, names: Names, lsn: int) -> int:
        """How many of those named are connected with the tag and have reported this position."""
        return sum(s.member in names.voters and s.epoch == names.epoch and s.flushed >= lsn for s in self)

    def take(self, sender: Sender) -> bool:
        """False while another connection holds the member's place."""
        sender.pid = next(self._pids)
        return self._by_place.setdefault((sender.member, sender.genuine), sender) is sender

    def drop(self, sender: Sender) -> None:
        sender.open = False
        if self._by_place.get((sender.member, sender.genuine)) is sender:
            del self._by_place[sender.member, sender.genuine]

    def end(self, which: Callable[[Sender], bool]) -> None:
        for sender in self:
            if which(sender):
                self.drop(sender)

    def clear(self) -> None:
        self.end(lambda _: True)


class Link:
    """A standby's end of its connection."""

    def __init__(self) -> None:
        self._leader: VirtualEngine | None = None
        self._sender: Sender | None = None
        self._delay_ms = 0.0

    @property
    def streaming(self) -> bool:
        return self._sender is not None and self._sender.open and self._sender.streaming

    def connect(self, standby: VirtualEngine, leader: VirtualEngine, epoch: int) -> bool:
        """Takes the standby's place with the leader. False while it is held."""
        sender = Sender(standby.member, epoch, standby.disk.is_prefix_of(leader.disk))
        if not leader.senders.take(sender):
            return False
        self._leader, self._sender = leader, sender
        self._delay_ms = standby.fleet.randomness.between(*_REPORT_MS)
        return True

    @property
    def leader(self) -> VirtualEngine | None:
        """Whom it is connected to; None as soon as the leader has ended the connection."""
        return self._leader if self._sender is not None and self._sender.open else None

    def report(self, lsn: int) -> None:
        """A flush position, on its way from now on."""
        leader, sender = self._leader, self._sender
        if leader is None or sender is None:
            return

        def arrive() -> None:
            if sender.open:
                sender.flushed = max(sender.flushed, lsn)
                leader.tell(confirmed=True)

        asyncio.get_running_loop().call_later(self._delay_ms / 1000, arrive)

    def drop(self, unheard: bool = False) -> None:
        """Leaves; the leader notices after everything that was reported before, or late if it hears nothing."""
        leader, sender = self._leader, self._sender
        self._leader = self._sender = None
        if leader is None or sender is None:
            return
        randomness = leader.fleet.randomness
        delay_ms = randomness.between(*_UNHEARD_MS) if unheard else self._delay_ms + 0.1
        asyncio.get_running_loop().call_later(delay_ms / 1000, leader.senders.drop, sender)


async def receive_for_ever(standby: VirtualEngine) -> None:
    """Streams from whatever runs at the upstream's address, again and again."""
    fleet = standby.fleet
    while True:
        upstream = standby.disk.upstream
        leader = standby.reachable(upstream)
        able = leader is not None and not leader.stuck and not standby.stuck
        if upstream is None or leader is None or not able or not standby.link.connect(standby, leader, upstream.epoch):
            await fleet.clock.sleep_ms(fleet.randomness.between(*_RETRY_MS))
            continue
        await _stream(standby, leader)
        standby.link.drop(unheard=standby.reachable(upstream) is not leader)


async def _stream(standby: VirtualEngine, leader: VirtualEngine) -> None:
    """Takes what is new, flushes, reports, while the connection lasts. A diverged log takes nothing, and reports."""
    run, takes = leader.run, standby.link.streaming
    standby.link.report(standby.disk.position.lsn)
    while leader.run == run and standby.link.leader is leader and standby.reachable(standby.disk.upstream) is leader:
        news = leader.grown
        new = leader.disk.log[len(standby.disk.log) : leader.disk.flushed] if takes else []
        if new and not standby.stuck and not leader.stuck:
            standby.disk.log.extend(new)
            await standby.fleet.takes(0.2, 1)
            standby.disk.flush()
            standby.link.report(standby.disk.position.lsn)
        else:
            await _within(standby, news, 30)


async def _within(standby: VirtualEngine, news: asyncio.Event, pause_ms: float) -> None:
    try:
        async with standby.fleet.clock.timeout_ms(pause_ms):
            await news.wait()
    except TimeoutError:
        pass
