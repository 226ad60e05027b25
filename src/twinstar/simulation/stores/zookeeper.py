"""A model of a ZooKeeper ensemble: servers that agree by a majority, and each of which answers reads from what it has.

What a client of the real one meets: a read is as old as its server, which may lag behind the others by much, or be
cut off from them and not know it yet; `sync` asks the leader that the server believes in, and one that was replaced and
does not know it answers alone; a transaction needs the majority. A server without leader ends all of its connections
and lets nobody in, and when a leader dies, all of them do. Changes that were on their way may have been made, may be
made by the next leader, or never. Sessions end when nothing is heard of them for too long.

Times are those of an ensemble with short ticks; a production's (2 s) only stretch them.

Simplified against Zab (`majority.py`): what the next leader has of changes that no majority had is the first of them up
to any point, and it gives them numbers of its own epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twinstar.ports.clock import Clock
from twinstar.simulation.stores.majority import TICK_MS, Majority, Proposal, Server
from twinstar.simulation.stores.znode_tree import Event, Made, Part, carried_out, new_tree
from twinstar.simulation.world.wires import Wires

_PATIENCE = 40
"""For so many ticks a server goes on without a word from its leader, a leader without its majority (`syncLimit`)."""
_NOTICE = 10
"""After so many ticks at most a leader looks whether its followers have left it."""
_JOINING_MS = (100.0, 600.0)
"""How long it takes a server to find the new leader and to get what it lacks."""
_LAG_MS = (5.0, 600.0)
_LAGS = 0.3
"""How often a server's disk, or its collection of garbage, keeps it behind the others."""
_CHANGES_LAG = 1 / 400
"""In each tick."""


class Session(Protocol):
    """A connection, as its server sees it."""

    def tell(self, events: Sequence[tuple[Event, str]]) -> None:
        """Something was applied."""

    def expire(self) -> None:
        """Ends it if nothing has been heard of it for too long."""

    def end(self) -> None:
        """At once; requests that have not left for the leader never will."""


class ZooKeeperServer(Server):
    def __init__(self, ensemble: Ensemble, host: str) -> None:
        super().__init__(host, ensemble.wires)
        self.ensemble = ensemble
        self.tree = new_tree()
        self.zxid = 0
        """The last transaction that it has applied."""
        self.sessions: dict[Session, None] = {}
        self.follows: ZooKeeperServer | None = None
        """Which leader it believes in; itself, if it leads."""
        self.missed = 0
        """Ticks since it has heard of that one, or of its majority."""
        self.lag_ms = 0.0
        self._joining: tuple[ZooKeeperServer, float] | None = None
        """Which leader, and when."""

    def begin(self) -> None:
        self.sessions.clear()
        self.follows = self._joining = None

    def take(self, revision: int) -> None:
        for made in self.ensemble.log[self.applied : revision]:
            self.zxid = made.zxid
            for path, node in made.nodes.items():
                if node is None:
                    self.tree.pop(path, None)
                else:
                    self.tree[path] = node
            if made.events:
                for session in tuple(self.sessions):
                    session.tell(made.events)

    async def change(self, parts: Sequence[Part]) -> Made:
        """Returns what came of the transaction once this server has applied it."""
        while (leader := self._leader_it_reaches()) is None or leader is not self.ensemble.leader:
            await self.ensemble.clock.sleep_ms(TICK_MS)  # who leads no more proposes to nobody
        await self.ensemble.takes_a_round()
        proposal = self.ensemble.propose(lambda: self.ensemble.make(parts))
        made = await proposal.done
        await self.caught_up(proposal.revision)
        return made

    async def sync(self) -> None:
        """Returns when this server has what its leader had; whether that one still leads, nobody asks."""
        await self.ensemble.takes_a_round()
        while (leader := self._leader_it_reaches()) is None:
            await self.ensemble.clock.sleep_ms(TICK_MS)
        await self.caught_up(self.ensemble.revision if leader is self.ensemble.leader else leader.applied)

    def _leader_it_reaches(self) -> ZooKeeperServer | None:
        leader = self.follows
        there = leader is self or (
            leader and leader.runs and leader.follows is leader and self.ensemble.reach(self, leader)
        )
        return leader if there else None

    # -- finding and losing a leader ----------------------------------------------------------------------------------

    def seek(self, leader: ZooKeeperServer | None) -> None:
        """Nothing is followed. There is somebody who leads, or there is not."""
        now_ms, between = self.ensemble.clock.now_ms(), self._wires.randomness.between
        if leader is None:
            self._joining = None
        elif self._joining is None or self._joining[0] is not leader:
            self._joining = leader, now_ms + between(*_JOINING_MS)
        elif now_ms >= self._joining[1]:
            self.follows, self._joining, self.missed = leader, None, 0
            self.draw_lag()
            self.apply(self.ensemble.revision)

    def leave(self) -> None:
        """It has no leader, or no followers: all connections end."""
        self.follows = None
        for session in tuple(self.sessions):
            session.end()
        self.tell()

    def draw_lag(self) -> None:
        lags = self.follows is not self and self._wires.happens(_LAGS)
        self.lag_ms = self._wires.randomness.between(*_LAG_MS) if lags else 0.0


class Ensemble(Majority[ZooKeeperServer, Made]):
    """All servers. `log`: the transactions that a majority has."""

    ELECTION_MS = (1_500.0, 4_000.0)

    def __init__(
        self,
        hosts: Sequence[str],
        wires: Wires,
        clock: Clock,
        made: Callable[[Sequence[Part], Made], None],
        reached: Callable[[str], None],
    ) -> None:
        """`made` is called with each transaction, `reached` with an interesting state (`coverage.py`)."""
        super().__init__([], wires, clock)
        self.servers = [ZooKeeperServer(self, host) for host in hosts]
        self.log: list[Made] = []
        self.tree = new_tree()
        """What a majority has."""
        self._epoch = self._counter = 0
        self._made, self.reached = made, reached

    @property
    def revision(self) -> int:
        return len(self.log)

    def make(self, parts: Sequence[Part]) -> Made:
        self._counter += 1
        made = carried_out(self.tree, parts, self._epoch << 32 | self._counter)
        self.log.append(made)
        for path, node in made.nodes.items():
            if node is None:
                del self.tree[path]
            else:
                self.tree[path] = node
        self._made(parts, made)
        return made

    def surviving(self, pending: list[Proposal[Made]]) -> list[Proposal[Made]]:
        self._epoch, self._counter = self._epoch + 1, 0
        return pending[: int(self.wires.randomness.between(0, len(pending) + 0.999))]

    def elect(self) -> None:
        deposed = self.leader
        super().elect()
        for server in self.servers:
            if server.runs and server.follows is not None and server.follows is deposed:
                server.leave()

    def serves(self, server: ZooKeeperServer) -> bool:
        return self.hears(server) and self.leader is not None and self.hears(self.leader)

    def hears(self, server: ZooKeeperServer) -> bool:
        """Whether it follows the leader, and reaches it."""
        leader = self.leader
        if not server.runs or leader is None or server.follows is not leader:
            return False
        return self.has_majority(server) if server is leader else leader.runs and self.reach(leader, server)

    def send_commits(self, server: ZooKeeperServer, late_ms: float = 0.0) -> None:
        super().send_commits(server, late_ms + server.lag_ms)

    def look_after(self, server: ZooKeeperServer) -> None:
        if not server.runs:
            server.missed += server.follows is not server  # a leader counts ticks of its own
            return
        if server.follows is None:
            server.seek(self._to_be_joined(server))
            return
        if self.hears(server) and server.missed <= _PATIENCE:
            server.missed = 0
            if self.wires.happens(_CHANGES_LAG):
                server.draw_lag()
            if server.applied < self.revision:
                self.send_commits(server)
        else:
            server.missed += 1
            if server.missed > _PATIENCE or self._is_told(server):
                server.leave()
        for session in tuple(server.sessions):
            session.expire()

    def _to_be_joined(self, server: ZooKeeperServer) -> ZooKeeperServer | None:
        leader = self.leader
        there = leader is not None and leader.runs and self.reach(leader, server) and self.has_majority(leader)
        return leader if there else None

    def _is_told(self, server: ZooKeeperServer) -> bool:
        """Whether the others' kernels have told it that what it follows, or its followers, have gone."""
        leader = server.follows
        if leader is server:
            return self.leader is not server and server.missed >= _NOTICE and self.has_majority(server)
        return (
            leader is not None and self.reach(leader, server) and (leader.gate is None or leader.follows is not leader)
        )
