"""A model of etcd: servers that agree by a majority, each with its own, slightly older idea of what stands.

What a client of the real one meets: a request is carried out when a majority has it, so a server that is cut off from
the others, or all of them while no leader is elected, answers nothing; a change that its client has given up may be
made later, or be dropped by the next leader; a server that lags tells its watchers late; one that has lost its leader
ends their streams; history may be compacted away. Reads are linearizable, since the client never asks for others.

Simplified against Raft (`majority.py`): of what was not yet committed a new leader holds each change by chance or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twinstar.ports.clock import Clock
from twinstar.simulation.stores.majority import TICK_MS, Majority, Proposal, Server
from twinstar.simulation.stores.memory import Change, MemoryServer
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Applied, Conflict, Versioned

_LOST_MS = 1_000.0
"""After so long without its leader a server ends its watchers' streams."""

Outcome = Applied | Conflict | None


class EtcdServer(Server):
    def __init__(self, etcd: Etcd, host: str) -> None:
        super().__init__(host, etcd.wires)
        self.etcd = etcd
        self.values: dict[str, Versioned] = {}
        self.led_at_ms = 0.0
        """When it was last in contact with a leader."""

    @property
    def is_led(self) -> bool:
        return self.etcd.clock.now_ms() - self.led_at_ms <= _LOST_MS

    def begin(self) -> None:
        self.led_at_ms = self.etcd.clock.now_ms()

    def take(self, revision: int) -> None:
        for change in self.etcd.committed.history[self.applied : revision]:
            if change.value is None:
                self.values.pop(change.key, None)
            else:
                self.values[change.key] = change.value

    async def change(self, make: Callable[[], Outcome]) -> Outcome:
        """Proposes a change; returns what came of it once this server has applied it."""
        await self._reaches_leader()
        proposal = self.etcd.propose(make)
        outcome = await proposal.done
        await self.caught_up(proposal.revision)
        return outcome

    async def linearizable(self) -> None:
        """Returns when what this server has is not older than the moment of the call."""
        await self._reaches_leader()
        wanted = self.etcd.revision
        await self._reaches_leader()
        await self.caught_up(wanted)

    def changes(self, after: int) -> Sequence[Change]:
        """What this server has applied after that revision."""
        return self.etcd.committed.history[after : self.applied]

    async def _reaches_leader(self) -> None:
        """There and back, to a leader that has a majority."""
        while not self.etcd.serves(self):
            await self.etcd.clock.sleep_ms(TICK_MS)
        await self.etcd.takes_a_round()


class Etcd(Majority[EtcdServer, Outcome]):
    """All servers of one etcd. `committed` is what a majority has."""

    ELECTION_MS = (1_000.0, 2_000.0)

    def __init__(self, hosts: Sequence[str], wires: Wires, clock: Clock, committed: MemoryServer) -> None:
        super().__init__([], wires, clock)
        self.committed = committed
        self.servers = [EtcdServer(self, host) for host in hosts]
        self.compacted = 0
        """Changes up to this revision are forgotten."""

    @property
    def revision(self) -> int:
        return self.committed.revision

    def look_after(self, server: EtcdServer) -> None:
        if self.hears(server):
            server.led_at_ms = self.clock.now_ms()
            server.apply(self.revision)
        elif not server.is_led:
            server.tell()

    def surviving(self, pending: list[Proposal[Outcome]]) -> list[Proposal[Outcome]]:
        return [each for each in pending if self.wires.happens(0.5)]

    def compact(self) -> None:
        """Forgets all changes so far: watches that begin before now cannot."""
        self.compacted = self.revision

    def serves(self, server: EtcdServer) -> bool:
        leader = self.leader
        able = leader is not None and leader.runs and self.reach(leader, server) and self.has_majority(leader)
        return server.runs and able
