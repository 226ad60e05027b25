"""Clients of a simulated cluster: they write numbers, and remember what they were told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from twinstar.model.errors import EngineError
from twinstar.ports.clock import Clock
from twinstar.simulation.database.engine import VirtualEngine

_DEADLINE_MS = 500.0


class Client:
    """Writes numbers one after another to whatever database `choose` gives it. What is not acknowledged by the
    deadline is given up, never cancelled."""

    def __init__(
        self, clock: Clock, choose: Callable[[], VirtualEngine | None], pause_ms: float, numbers: Iterator[int]
    ) -> None:
        self._clock, self._choose, self._pause_ms, self._numbers = clock, choose, pause_ms, numbers
        self.acknowledged: list[tuple[float, int]] = []
        """(when, number)"""

    async def write_for_ever(self) -> None:
        while True:
            engine = self._choose()
            if engine is not None:
                await self._write(engine)
            await self._clock.sleep_ms(self._pause_ms)

    async def _write(self, engine: VirtualEngine) -> None:
        number = next(self._numbers)
        try:
            async with self._clock.timeout_ms(_DEADLINE_MS):
                if await engine.commit(number):
                    self.acknowledged.append((self._clock.now_ms(), number))
        except (EngineError, TimeoutError):
            pass

    def longest_gap_ms(self, since_ms: float = 0.0) -> float:
        """Between two acknowledged writes, the later one after `since_ms`."""
        times = [at for at, _ in self.acknowledged]
        gaps = (b - a for a, b in pairwise(times) if b >= since_ms)
        return max(gaps, default=float("inf"))

    def numbers(self) -> set[int]:
        return {number for _, number in self.acknowledged}
