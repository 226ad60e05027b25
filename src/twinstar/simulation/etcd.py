"""A model of etcd: servers that agree by a majority, each with its own, slightly older idea of what stands.

What a client of the real one meets: a request is carried out when a majority has it, so a server that is cut off from
the others, or all of them while no leader is elected, answers nothing; a change that its client has given up may be
made later, or be dropped by the next leader; a server that lags tells its watchers late; one that has lost its leader
ends their streams; history may be compacted away. Reads are linearizable, since the client never asks for others.

Simplified against Raft: a new leader holds all that was committed, and of what was not yet committed each change by
chance is or is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinstar.ports.clock import Clock
from twinstar.simulation.freezing import Gate
from twinstar.simulation.memory_store import Change, MemoryServer
from twinstar.simulation.wires import Wires
from twinstar.store.base import Applied, Conflict, Versioned

_TICK_MS = 50.0
_ELECTION_MS = (1_000.0, 2_000.0)
"""How long a leader must be away before another is elected."""
_LOST_MS = 1_000.0
"""After so long without its leader a server ends its watchers' streams."""
_DISK_MS = (0.3, 2.0)
_SLOW_DISK_MS = (5.0, 120.0)
_SLOW = 0.01


@dataclass(eq=False, slots=True)
class _Proposal:
    make: Callable[[], Applied | Conflict | None]
    done: asyncio.Future[Applied | Conflict | None]
    revision: int = 0


class EtcdServer:
    """One server: what it has applied, which its disk keeps, and its process, if it runs."""

    def __init__(self, etcd: Etcd, host: str) -> None:
        self.etcd, self.host = etcd, host
        self.values: dict[str, Versioned] = {}
        self.applied = 0
        self.gate: Gate | None = None
        self.led_at_ms = 0.0
        """When it was last in contact with a leader."""
        self.news = asyncio.Event()
        """Set, and replaced, when something was applied or the leader was lost."""

    @property
    def runs(self) -> bool:
        return self.gate is not None and self.gate.is_open and self.host not in self.etcd.wires.down

    @property
    def is_led(self) -> bool:
        return self.etcd.clock.now_ms() - self.led_at_ms <= _LOST_MS

    def apply(self, revision: int) -> None:
        for change in self.etcd.committed.history[self.applied : revision]:
            if change.value is None:
                self.values.pop(change.key, None)
            else:
                self.values[change.key] = change.value
        if revision > self.applied:
            self.applied = revision
            self.tell()

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def change(self, make: Callable[[], Applied | Conflict | None]) -> Applied | Conflict | None:
        """Proposes a change; returns what came of it once this server has applied it."""
        await self._reaches_leader()
        proposal = self.etcd.propose(make)
        outcome = await proposal.done
        await self._caught_up(proposal.revision)
        return outcome

    async def linearizable(self) -> None:
        """Returns when what this server has is not older than the moment of the call."""
        await self._reaches_leader()
        wanted = self.etcd.committed.revision
        await self._reaches_leader()
        await self._caught_up(wanted)

    def changes(self, after: int) -> Sequence[Change]:
        """What this server has applied after that revision."""
        return self.etcd.committed.history[after : self.applied]

    async def _reaches_leader(self) -> None:
        """There and back, to a leader that has a majority."""
        while not self.etcd.serves(self):
            await self.etcd.clock.sleep_ms(_TICK_MS)
        await self.etcd.takes_a_round()

    async def _caught_up(self, revision: int) -> None:
        while self.applied < revision:
            await self.news.wait()


class Etcd:
    """All servers of one etcd. `committed` is what a majority has."""

    def __init__(self, hosts: Sequence[str], wires: Wires, clock: Clock, committed: MemoryServer) -> None:
        self.wires, self.clock, self.committed = wires, clock, committed
        self.servers = [EtcdServer(self, host) for host in hosts]
        self.leader: EtcdServer | None = None
        self.compacted = 0
        """Changes up to this revision are forgotten."""
        self._pending: list[_Proposal] = []
        self._elects_at_ms = 0.0

    async def run(self) -> None:
        """Elections, and what was not possible at once, for ever."""
        while True:
            self._look_after_leader()
            for server in self.servers:
                if self.leader is not None and server.runs and self._reach(self.leader, server):
                    server.led_at_ms = self.clock.now_ms()
                    server.apply(self.committed.revision)
                elif not server.is_led:
                    server.tell()
            if self.leader is not None and self._pending and self.has_majority(self.leader):
                self._commit(self._pending)
            await self.clock.sleep_ms(_TICK_MS)

    def elect(self) -> None:
        """The leader is lost: another one, or the same, is elected after a second or two."""
        self.leader = None
        self._elects_at_ms = self.clock.now_ms() + self.wires.randomness.between(*_ELECTION_MS)

    def compact(self) -> None:
        """Forgets all changes so far: watches that begin before now cannot."""
        self.compacted = self.committed.revision

    def serves(self, server: EtcdServer) -> bool:
        """Whether a request to this server can be carried out now."""
        leader = self.leader
        return leader is not None and leader.runs and self._reach(leader, server) and self.has_majority(leader)

    def has_majority(self, server: EtcdServer) -> bool:
        return 2 * sum(each.runs and self._reach(server, each) for each in self.servers) > len(self.servers)

    def propose(self, make: Callable[[], Applied | Conflict | None]) -> _Proposal:
        proposal = _Proposal(make, asyncio.get_running_loop().create_future())
        self._pending.append(proposal)
        asyncio.get_running_loop().call_later(self._disk_ms() / 1000, self._try, proposal)
        return proposal

    async def takes_a_round(self) -> None:
        weather = self.wires.weather
        await asyncio.sleep(self.wires.delay_s(weather) + self.wires.delay_s(weather))

    def _try(self, proposal: _Proposal) -> None:
        leader = self.leader
        if leader is not None and leader.runs and proposal in self._pending and self.has_majority(leader):
            self._commit([proposal])

    def _commit(self, proposals: Sequence[_Proposal]) -> None:
        for proposal in tuple(proposals):
            self._pending.remove(proposal)
            outcome = proposal.make()
            proposal.revision = self.committed.revision
            if not proposal.done.done():
                proposal.done.set_result(outcome)
        for server in self.servers:
            delay_s = self.wires.delay_s(self.wires.weather)
            asyncio.get_running_loop().call_later(delay_s, self._replicate, server, self.committed.revision)

    def _replicate(self, server: EtcdServer, revision: int) -> None:
        if self.leader is not None and server.runs and self._reach(self.leader, server):
            server.apply(revision)

    def _look_after_leader(self) -> None:
        now = self.clock.now_ms()
        if self.leader is not None:
            if self.leader.runs and self.has_majority(self.leader):
                self._elects_at_ms = now + self.wires.randomness.between(*_ELECTION_MS)
            elif now >= self._elects_at_ms:
                self.leader = None
        if self.leader is None and now >= self._elects_at_ms:
            able = [server for server in self.servers if server.runs and self.has_majority(server)]
            if able:
                self._begin_term(able[int(self.wires.randomness.between(0, len(able) - 0.001))])

    def _begin_term(self, leader: EtcdServer) -> None:
        self.leader = leader
        pending, self._pending = self._pending, []
        self._pending = [each for each in pending if self.wires.happens(0.5)]

    def _reach(self, one: EtcdServer, other: EtcdServer) -> bool:
        return self.wires.passes(one.host, other.host) and self.wires.passes(other.host, one.host)

    def _disk_ms(self) -> float:
        return self.wires.randomness.between(*(_SLOW_DISK_MS if self.wires.happens(_SLOW) else _DISK_MS))
