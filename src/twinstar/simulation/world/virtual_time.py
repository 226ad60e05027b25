"""An event loop whose time is virtual: it jumps to the next timer instead of waiting.

Everything that runs on it and uses only the ports is decided by its inputs; a simulated hour costs what its steps cost.

Half of what asyncio's own loop costs is of no use here: nothing is waited for, no other thread calls, nothing is
debugged. So the loop's step and its timers are made anew, with the same meaning: what is ready runs in its order, each
in its context, and timers ring in the order of their times (of their setting, where asyncio leaves it open).
"""

# ruff: noqa: SLF001 - a loop and its handles are one thing, in two classes of asyncio's

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from twinstar.ports.clock import SystemClock
from twinstar.simulation.world.freezing import bury, tasks_by_process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_MANY_CANCELLED = 200


class Deadlock(Exception):
    """Everything waits, and no timer will end it."""


class _NoSelector(selectors.SelectSelector):
    """Nothing comes from outside."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise AssertionError(f"waiting {timeout} s for the outside")


class _Timer(asyncio.TimerHandle):
    __slots__ = ()
    _scheduled: bool

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: VirtualLoop, context: Context
    ) -> None:
        self._when, self._callback, self._args, self._loop, self._context = when, callback, args, loop, context
        self._cancelled, self._repr, self._source_traceback = False, None, None
        self._scheduled = True


class VirtualLoop(asyncio.SelectorEventLoop):
    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._set = self._cancelled = 0
        """Timers: how many were ever set, and how many in the list are cancelled by now."""
        super().__init__(_NoSelector())
        self.set_task_factory(tasks_by_process)

    def time(self) -> float:
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, copy_context() if context is None else context)
        self._set += 1
        heappush(self._timers, (when, self._set, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """What a handle calls that is cancelled, perhaps after it has rung."""
        self._cancelled += timer._scheduled
        if self._cancelled > _MANY_CANCELLED and 2 * self._cancelled > len(self._timers):
            self._timers = [each for each in self._timers if not each[2].cancelled()]
            heapify(self._timers)
            self._cancelled = 0

    def _run_once(self) -> None:
        ready = self._ready
        if not ready and not self._stopping:
            self._jump()
        timers = self._timers
        while timers and timers[0][0] <= self._now:
            _, _, timer = heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._cancelled -= 1
            else:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)[2]._scheduled = False
            self._cancelled -= 1
        if not timers:
            raise Deadlock("every task waits and no timer is set")
        self._now = max(self._now, timers[0][0])


class VirtualClock(SystemClock):
    """The loop's time; timeouts are asyncio's own, on that loop."""

    def __init__(self, loop: VirtualLoop, wall_start_ms: int = 1_700_000_000_000) -> None:
        self._loop, self._wall_start_ms = loop, wall_start_ms

    def now_ms(self) -> float:
        return self._loop.time() * 1000

    def wall_ms(self) -> int:
        return self._wall_start_ms + int(self.now_ms())

    async def sleep_ms(self, duration_ms: float) -> None:
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = self._loop.create_future()
        alarm = self._loop.call_at(self._loop.time() + duration_ms / 1000, _ring, future)
        try:
            await future
        finally:
            alarm.cancel()


def _ring(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


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
