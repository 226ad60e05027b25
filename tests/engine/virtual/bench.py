"""Simulated members, and what clients and faults do to them."""

from __future__ import annotations

from itertools import count

from twinstar.model.address import Address
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.witness import Witness
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop

MEMBERS = ("a", "b", "c")


class VirtualBench:
    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.clock = VirtualClock(loop)
        self.cut: set[tuple[str, str]] = set()
        """(from host, to host) pairs that nothing passes."""
        randomness = SeededRandomness(seed)
        self.fleet = Fleet(self.clock, randomness, lambda *pair: pair not in self.cut, Witness())
        self._engines = {m: VirtualEngine(m, Address(m, 5432), self.fleet) for m in MEMBERS}
        self._numbers = count(1)

    def engine(self, member: str) -> VirtualEngine:
        return self._engines[member]

    def upstream(self, member: str, epoch: int) -> Upstream:
        return Upstream(member, epoch, self._engines[member].address)

    async def commit(self, member: str, within_ms: float) -> bool:
        try:
            async with self.clock.timeout_ms(within_ms):
                return await self._engines[member].commit(next(self._numbers))
        except (TimeoutError, EngineError):
            return False

    async def rows(self, member: str) -> int:
        return len(self._engines[member].visible())

    async def crash(self, member: str) -> None:
        self._engines[member].crash()

    async def hang(self, member: str) -> None:
        self._engines[member].hung = True

    async def put_foreign_data(self, member: str) -> None:
        disk = self._engines[member].disk
        disk.exists = disk.foreign = True
