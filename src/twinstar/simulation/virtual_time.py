"""An event loop whose time is virtual: it jumps to the next timer instead of waiting.

Everything that runs on it and uses only the ports is decided by its inputs; a simulated hour costs what its steps cost.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from twinstar.ports.clock import SystemClock
from twinstar.simulation.freezing import bury, tasks_by_process

T = TypeVar("T")


class Deadlock(Exception):
    """Everything waits, and no timer will end it."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: what it is told to wait is how far time jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.set_task_factory(tasks_by_process)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock(SystemClock):
    """The loop's time; sleeping and timeouts are asyncio's own, on that loop."""

    def __init__(self, loop: VirtualLoop, wall_start_ms: int = 1_700_000_000_000) -> None:
        self._loop, self._wall_start_ms = loop, wall_start_ms

    def now_ms(self) -> float:
        return self._loop.time() * 1000

    def wall_ms(self) -> int:
        return self._wall_start_ms + int(self.now_ms())


class SeededRandomness:
    """Chance that a seed decides."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def between(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


def run_virtually(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Runs `main` to its end on `loop`, ends what it left running, closes the loop."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_tidy_up())
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


async def _tidy_up() -> None:
    """The dead are asked for nothing: what they still say is not listened to."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await bury()
    own = asyncio.current_task()
    while left := asyncio.all_tasks() - {own}:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
