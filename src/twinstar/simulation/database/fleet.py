"""What all databases of a simulated cluster have in common: addresses, time, chance, and the witness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.simulation.database.disk import Disk
from twinstar.simulation.database.senders import Sender
from twinstar.simulation.witness import Witness

_SLOW = 0.1
"""How often something takes ten times as long."""


class Bell:
    """Rings for everybody who waits for something to happen; who comes later waits for the next time."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            _ring(each)

    async def heard(self, within_ms: float | None = None) -> None:
        """Returns when it rings, at the latest after `within_ms`."""
        loop = asyncio.get_running_loop()
        ringing: asyncio.Future[None] = loop.create_future()
        self._waiting.append(ringing)
        if within_ms is None:
            return await ringing
        timer = loop.call_later(within_ms / 1000, _ring, ringing)
        try:
            await ringing
        finally:
            timer.cancel()


def _ring(listener: asyncio.Future[None]) -> None:
    if not listener.done():
        listener.set_result(None)


class Life:
    """One run of a database: its main process and those that it has started."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.main_ended = asyncio.Event()
        self.over = False
        """No process of it is left."""
        self.power_lost = False
        """Its machine went dark: nobody was told that connections are no more."""

    @classmethod
    def none(cls) -> Life:
        """Before the first."""
        life = cls("")
        life.main_ended.set()
        life.over = True
        return life


class Database(Protocol):
    """One simulated database as another one sees it."""

    @property
    def address(self) -> Address: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def life(self) -> Life: ...
    @property
    def bell(self) -> Bell:
        """Rings when there is log to take, and when a connection has ended."""
        ...

    @property
    def stuck(self) -> bool:
        """Its processes are there and do not run."""
        ...

    @property
    def accepts(self) -> bool:
        """Whether a new connection is answered."""
        ...

    @property
    def primary_run(self) -> bool: ...

    def attach(self, member: str, epoch: int, streaming: bool) -> Sender | None:
        """Begins to send log to a member that calls itself so. None while it has no slot, or its slot is in use."""
        ...

    def hear(self, sender: Sender, flushed: int, replayed: int) -> None:
        """A report has arrived: LSNs."""
        ...

    def let_go(self, sender: Sender) -> None:
        """The other end is no longer there."""
        ...


class Fleet:
    """All databases of a simulated cluster, reached by address."""

    def __init__(
        self, clock: Clock, randomness: Randomness, reaches: Callable[[str, str], bool], witness: Witness
    ) -> None:
        self.clock, self.randomness, self.reaches, self.witness = clock, randomness, reaches, witness
        self.at: dict[Address, Database] = {}
        self._pids = 1_000

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    def chance(self, of_one: float) -> bool:
        return self.randomness.between(0, 1) < of_one

    def duration_ms(self, low_ms: float, high_ms: float) -> float:
        """Somewhere in between, and now and then much longer."""
        return self.randomness.between(low_ms, high_ms) * (10 if self.chance(_SLOW) else 1)

    async def takes(self, low_ms: float, high_ms: float) -> None:
        await self.clock.sleep_ms(self.duration_ms(low_ms, high_ms))

    def later(self, after_ms: float, act: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(after_ms / 1000, act)

    def connects(self, one: Database, other: Database) -> bool:
        """Whether datagrams pass in both directions: nothing less makes a connection."""
        there, back = one.address.host, other.address.host
        return self.reaches(there, back) and self.reaches(back, there)
