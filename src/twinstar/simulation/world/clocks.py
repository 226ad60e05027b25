"""The clocks of one machine: not quite the time of day, not quite as fast as others', and at times standing still.

Three clocks of one crystal, as on Linux: the *boot* clock (`now_ms`) counts while the machine sleeps, the clock of the
*timers* does not (asyncio and epoll sleep by CLOCK_MONOTONIC), and the *wall* clock is the boot clock plus whatever
somebody has set. Where the boot clock begins is another moment on each machine, so that readings of two machines, and
of one machine before and after its restart, cannot be compared without being noticed.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from twinstar.ports.randomness import Randomness

_EPOCH_MS = 1_700_000_000_000
_WALL_ERROR_MS = 2_000.0
_RATE_ERROR = 200e-6
_UPTIME_MS = (10_000.0, 1e9)


def switched_on(true_ms: float, randomness: Randomness) -> MachineClock:
    """The clocks of a machine that begins now: up to two seconds and 200 ppm off."""
    wall_ms = int(_EPOCH_MS + true_ms + randomness.between(-_WALL_ERROR_MS, _WALL_ERROR_MS))
    rate = 1 + randomness.between(-_RATE_ERROR, _RATE_ERROR)
    return MachineClock(asyncio.get_running_loop(), randomness.between(*_UPTIME_MS), wall_ms, rate)


class MachineClock:
    """Implements `ports.clock.Clock` on the loop's time, which nobody in the simulation can see."""

    def __init__(self, loop: asyncio.AbstractEventLoop, boot_ms: float, wall_ms: int, rate: float = 1.0) -> None:
        """`rate`: this machine's seconds in a true one."""
        self._loop = loop
        self._since_s = loop.time()
        self._boot_ms = self._timers_ms = boot_ms
        self._wall_offset_ms = wall_ms - boot_ms
        self._rate = self._boot_rate = self._timer_rate = rate
        self._alarms: dict[_Sleep | _Timeout, None] = {}

    def now_ms(self) -> float:
        return self._boot_ms + (self._loop.time() - self._since_s) * 1000 * self._boot_rate

    def wall_ms(self) -> int:
        return int(self.now_ms() + self._wall_offset_ms)

    async def sleep_ms(self, duration_ms: float) -> None:
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        alarm = _Sleep(self._timer_ms() + duration_ms, self._loop)
        self._alarms[alarm] = None
        alarm.move(self._when_s(alarm.due_ms))
        try:
            await alarm.future
        finally:
            alarm.move(None)
            del self._alarms[alarm]

    def timeout_ms(self, duration_ms: float) -> AbstractAsyncContextManager[object]:
        return _Timeout(self, duration_ms)

    # -- faults -------------------------------------------------------------------------------------------------------

    def set_rate(self, rate: float) -> None:
        self._rate = rate
        self._go_on_at(rate if self._boot_rate else 0.0, rate if self._timer_rate else 0.0)

    def step_wall(self, by_ms: float) -> None:
        """Somebody sets the time of day."""
        self._wall_offset_ms += by_ms

    def fall_asleep(self) -> None:
        """The machine is suspended: timers stand still, the boot clock counts."""
        self._go_on_at(self._rate, 0.0)

    def stand_still(self) -> None:
        """A virtual machine is paused: to its clocks, no time passes."""
        self._go_on_at(0.0, 0.0)

    def wake_up(self) -> None:
        self._go_on_at(self._rate, self._rate)

    # -- timers -------------------------------------------------------------------------------------------------------

    def _timer_ms(self) -> float:
        return self._timers_ms + (self._loop.time() - self._since_s) * 1000 * self._timer_rate

    def _when_s(self, due_ms: float) -> float | None:
        """When, in the loop's time, the timers' clock will show `due_ms`; None while it stands still."""
        if not self._timer_rate:
            return None
        return self._since_s + (due_ms - self._timers_ms) / 1000 / self._timer_rate

    def _go_on_at(self, boot_rate: float, timer_rate: float) -> None:
        self._boot_ms, self._timers_ms, self._since_s = self.now_ms(), self._timer_ms(), self._loop.time()
        self._boot_rate, self._timer_rate = boot_rate, timer_rate
        for alarm in self._alarms:
            alarm.move(self._when_s(alarm.due_ms))

    def begin(self, timeout: _Timeout, duration_ms: float) -> float | None:
        """When it ends, and moved from now on when the clock changes its pace."""
        timeout.due_ms = self._timer_ms() + duration_ms
        self._alarms[timeout] = None
        return self._when_s(timeout.due_ms)

    def end(self, timeout: _Timeout) -> None:
        self._alarms.pop(timeout, None)


class _Sleep:
    __slots__ = ("_handle", "_loop", "due_ms", "future")

    def __init__(self, due_ms: float, loop: asyncio.AbstractEventLoop) -> None:
        self.due_ms, self._loop = due_ms, loop
        self.future: asyncio.Future[None] = loop.create_future()
        self._handle: asyncio.TimerHandle | None = None

    def move(self, when_s: float | None) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if when_s is None else self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Timeout(AbstractAsyncContextManager[object]):
    __slots__ = ("_clock", "_duration_ms", "_inner", "due_ms")

    def __init__(self, clock: MachineClock, duration_ms: float) -> None:
        self._clock, self._duration_ms, self.due_ms = clock, duration_ms, 0.0

    async def __aenter__(self) -> object:
        self._inner = asyncio.timeout_at(self._clock.begin(self, self._duration_ms))
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.end(self)
        await self._inner.__aexit__(kind, error, trace)

    def move(self, when_s: float | None) -> None:
        if not self._inner.expired():
            self._inner.reschedule(when_s)
