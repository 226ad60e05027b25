"""Time. Deadlines are counted on a clock that goes on while the machine sleeps."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> float:
        """Milliseconds on a clock that never goes back and counts suspend (CLOCK_BOOTTIME)."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, for people and for records; never for deciding who may lead."""
        ...

    async def sleep_ms(self, duration_ms: float) -> None: ...

    def timeout_ms(self, duration_ms: float) -> AbstractAsyncContextManager[object]:
        """An async context manager whose body raises TimeoutError when it takes longer."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> float:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: float) -> None:
        await asyncio.sleep(duration_ms / 1000)

    def timeout_ms(self, duration_ms: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(duration_ms / 1000)
