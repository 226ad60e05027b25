"""What a simulated engine asks of another member's database, and how it makes a copy of it."""

from __future__ import annotations

from twinstar.engine.base import Progress, RewindResult
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Branch, Position
from twinstar.simulation.database.disk import RECORD_BYTES
from twinstar.simulation.database.fleet import Database
from twinstar.simulation.database.server import VirtualServer

_CONNECT_MS = 2_000.0


class Copying(VirtualServer):
    """The steps of an engine for which it needs the leader."""

    async def branch(self, upstream: Upstream) -> Branch:
        return (await self._ask_leader(upstream)).disk.branch()

    async def has_log_from(self, upstream: Upstream, position: Position) -> bool:
        leader = await self._ask_leader(upstream)
        return leader.disk.oldest * RECORD_BYTES <= position.lsn

    async def rewind(self, upstream: Upstream, progress: Progress) -> RewindResult:
        if self.has_processes:
            raise EngineError(f"{self.member} runs: it is stopped before it is rewound.")
        if self.disk.incomplete:
            return RewindResult.IMPOSSIBLE
        leader = await self._ask_leader(upstream)
        life = leader.life
        await self.fleet.takes(30, 100)
        if leader.disk.branch().contains(self.disk.position):
            return RewindResult.DONE
        if self.fleet.chance(0.2):
            return RewindResult.IMPOSSIBLE
        progress("rewinding")
        if (await self._ask_leader(upstream)).life is not life:
            raise EngineError(f"{upstream.member} was started again while the fork of {self.member} was kept.")
        await self.fleet.takes(1, 5)  # between the leader's answer and the first change
        self.disk.incomplete = True
        await self._copying(50, 300)
        if self.troubles.breaks("rewind") or self.troubles.full:
            raise EngineError(f"The rewind of {self.member} has failed; what it has left is copied anew.")
        if (await self._ask_leader(upstream)).life is not life:
            raise EngineError(f"{upstream.member} was lost while {self.member} was rewound.")
        # Its files are of different moments until it has the leader's log up to the last of them.
        needed, made = leader.disk.flushed, leader.disk.copy(with_old_log=True)
        await self._copying(30, 150)
        if (await self._ask_leader(upstream)).life is not life or leader.disk.flushed < needed:
            raise EngineError(f"{upstream.member} was lost before the copy of {self.member} was consistent.")
        self.disk = made
        self.fleet.witness.sometimes["rewound"] += 1
        return RewindResult.DONE

    async def clone(self, upstream: Upstream, progress: Progress) -> None:
        progress(f"copying {upstream.member}")
        leader = await self._ask_leader(upstream)
        life = leader.life
        leader.disk.slots.add(self.member)
        await self._copying(100, 500)
        if self.troubles.full or self.troubles.breaks("clone"):
            raise EngineError(f"The copy of {upstream.member} was broken off.")
        if (await self._ask_leader(upstream)).life is not life:
            raise EngineError(f"{upstream.member} was lost while it was copied.")
        made = leader.disk.copy(with_old_log=False)
        self.disk.incomplete = True
        await self.kill()
        self.disk = made
        self.fleet.witness.sometimes["cloned"] += 1

    async def _copying(self, low_ms: float, high_ms: float) -> None:
        factor = self.troubles.copying_factor
        await self.fleet.takes(low_ms * factor, high_ms * factor)

    async def _ask_leader(self, upstream: Upstream) -> Database:
        """The database that answers at the upstream's address. Raises EngineError unless it is a primary of ours."""
        await self.fleet.takes(1, 5)
        leader = self.fleet.at.get(upstream.address)
        if leader is None or not self.fleet.connects(self, leader) or leader.stuck:
            await self.fleet.clock.sleep_ms(_CONNECT_MS)
        if leader is None or not self.fleet.connects(self, leader) or not leader.accepts:
            raise EngineError(f"{upstream.member} does not answer.")
        if not leader.primary_run:
            raise EngineError(f"{upstream.member} does not lead yet.")
        if self.disk.system_identifier not in ("", leader.disk.system_identifier):
            raise EngineError(f"{upstream.member} is another database than {self.member}.")
        return leader
