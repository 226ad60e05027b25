"""What stores of several servers have in common: a leader, and changes that a majority has before anybody is answered.

Servers stop and go on with the gates of their processes, and reach each other over the wires as everybody does. A
change that was proposed and has no majority waits: for the leader's majority, or for the next leader, which makes it or
drops it.

Simplified against Raft and Zab: a new leader holds all that was committed.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from twinstar.ports.clock import Clock
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.wires import Wires

TICK_MS = 50.0
_DISK_MS = (0.3, 2.0)
_SLOW_DISK_MS = (5.0, 120.0)
_SLOW = 0.01

S = TypeVar("S", bound="Server")
T = TypeVar("T")


class Server(ABC):
    """One of them: what it has applied, which its disk keeps, and its process, if it runs."""

    def __init__(self, host: str, wires: Wires) -> None:
        self.host, self._wires = host, wires
        self.applied = 0
        """How many changes."""
        self.gate: Gate | None = None
        self.news = asyncio.Event()
        """Set, and replaced, when something was applied or the leader was lost."""

    @property
    def runs(self) -> bool:
        return self.gate is not None and self.gate.is_open and self.host not in self._wires.down

    @abstractmethod
    def begin(self) -> None:
        """Its process has just been started."""

    @abstractmethod
    def take(self, revision: int) -> None:
        """Carries out what was committed after `applied` and up to there."""

    def apply(self, revision: int) -> None:
        if revision > self.applied:
            self.take(revision)
            self.applied = revision
            self.tell()

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def caught_up(self, revision: int) -> None:
        while self.applied < revision:
            await self.news.wait()


@dataclass(eq=False, slots=True)
class Proposal(Generic[T]):
    make: Callable[[], T]
    done: asyncio.Future[T]
    revision: int = 0


class Majority(ABC, Generic[S, T]):
    """All servers of one store. `T`: what comes of a change."""

    ELECTION_MS: ClassVar[tuple[float, float]]
    """How long a leader must be away before another is elected."""

    def __init__(self, servers: Sequence[S], wires: Wires, clock: Clock) -> None:
        self.servers, self.wires, self.clock = servers, wires, clock
        self.leader: S | None = None
        self._pending: list[Proposal[T]] = []
        self._elects_at_ms = 0.0

    @property
    @abstractmethod
    def revision(self) -> int:
        """How many changes a majority has."""

    @abstractmethod
    def look_after(self, server: S) -> None:
        """What of a server's life is due, once in a tick."""

    @abstractmethod
    def surviving(self, pending: list[Proposal[T]]) -> list[Proposal[T]]:
        """A new leader is there: what it has of the changes that no majority had yet."""

    @abstractmethod
    def serves(self, server: S) -> bool:
        """Whether a request to this server can be carried out now."""

    async def run(self) -> None:
        """Elections, and what was not possible at once, for ever."""
        while True:
            self._look_after_leader()
            for server in self.servers:
                self.look_after(server)
            if self.leader is not None and self._pending and self.has_majority(self.leader):
                self._commit(self._pending)
            await self.clock.sleep_ms(TICK_MS)

    def elect(self) -> None:
        """The leader is lost: another one, or the same, is elected after a while."""
        self.leader = None
        self._elects_at_ms = self.clock.now_ms() + self.wires.randomness.between(*self.ELECTION_MS)

    def has_majority(self, server: S) -> bool:
        return 2 * sum(each.runs and self.reach(server, each) for each in self.servers) > len(self.servers)

    def reach(self, one: S, other: S) -> bool:
        return self.wires.passes(one.host, other.host) and self.wires.passes(other.host, one.host)

    def hears(self, server: S) -> bool:
        """Whether the leader reaches it, and it runs."""
        return self.leader is not None and server.runs and self.reach(self.leader, server)

    def propose(self, make: Callable[[], T]) -> Proposal[T]:
        proposal = Proposal(make, asyncio.get_running_loop().create_future())
        self._pending.append(proposal)
        asyncio.get_running_loop().call_later(self._disk_ms() / 1000, self._try, proposal)
        return proposal

    async def takes_a_round(self) -> None:
        weather = self.wires.weather
        await asyncio.sleep(self.wires.delay_s(weather) + self.wires.delay_s(weather))

    def send_commits(self, server: S, late_ms: float = 0.0) -> None:
        """The server learns what a majority has by now, `late_ms` later than it could."""
        delay_s = self.wires.delay_s(self.wires.weather) + late_ms / 1000
        asyncio.get_running_loop().call_later(delay_s, self._arrived, server, self.revision)

    def _try(self, proposal: Proposal[T]) -> None:
        leader = self.leader
        if leader is not None and leader.runs and proposal in self._pending and self.has_majority(leader):
            self._commit([proposal])

    def _commit(self, proposals: Sequence[Proposal[T]]) -> None:
        for proposal in tuple(proposals):
            self._pending.remove(proposal)
            outcome = proposal.make()
            proposal.revision = self.revision
            if not proposal.done.done():
                proposal.done.set_result(outcome)
        for server in self.servers:
            self.send_commits(server)

    def _arrived(self, server: S, revision: int) -> None:
        if self.hears(server):
            server.apply(revision)

    def _look_after_leader(self) -> None:
        now = self.clock.now_ms()
        if self.leader is not None:
            if self.leader.runs and self.has_majority(self.leader):
                self._elects_at_ms = now + self.wires.randomness.between(*self.ELECTION_MS)
            elif now >= self._elects_at_ms:
                self.leader = None
        if self.leader is None and now >= self._elects_at_ms:
            able = [server for server in self.servers if server.runs and self.has_majority(server)]
            if able:
                self.leader = able[int(self.wires.randomness.between(0, len(able) - 0.001))]
                pending, self._pending = self._pending, []
                self._pending = self.surviving(pending)

    def _disk_ms(self) -> float:
        return self.wires.randomness.between(*(_SLOW_DISK_MS if self.wires.happens(_SLOW) else _DISK_MS))
