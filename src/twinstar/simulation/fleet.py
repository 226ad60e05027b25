"""What all databases of a simulated cluster have in common: addresses, time, chance, and the witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.simulation.witness import Witness

if TYPE_CHECKING:
    from twinstar.simulation.database import VirtualEngine

_SLOW = 0.1
"""How often something takes ten times as long."""


class Fleet:
    """All databases of a simulated cluster, reached by address."""

    def __init__(
        self, clock: Clock, randomness: Randomness, reaches: Callable[[str, str], bool], witness: Witness
    ) -> None:
        self.clock, self.randomness, self.reaches, self.witness = clock, randomness, reaches, witness
        self.at: dict[Address, VirtualEngine] = {}
        self._runs = 0

    def next_run(self) -> str:
        self._runs += 1
        return f"{1000 + self._runs}:{self._runs}"

    def chance(self, of_one: float) -> bool:
        return self.randomness.between(0, 1) < of_one

    async def takes(self, low_ms: float, high_ms: float) -> None:
        await self.clock.sleep_ms(self.randomness.between(low_ms, high_ms) * (10 if self.chance(_SLOW) else 1))
