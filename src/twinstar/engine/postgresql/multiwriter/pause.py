"""Random pauses that grow from one attempt to the next."""

from __future__ import annotations

from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness


class Pause:
    def __init__(self, clock: Clock, randomness: Randomness, first_ms: float, longest_ms: float) -> None:
        self._clock, self._randomness = clock, randomness
        self._first_ms, self._longest_ms = first_ms, longest_ms
        self._next_ms = first_ms

    async def wait(self) -> None:
        """Between half of a duration and all of it, which doubles with each call."""
        duration_ms = self._randomness.between(self._next_ms / 2, self._next_ms)
        self._next_ms = min(self._next_ms * 2, self._longest_ms)
        await self._clock.sleep_ms(duration_ms)

    def reset(self) -> None:
        self._next_ms = self._first_ms
