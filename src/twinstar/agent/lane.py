"""One effect on the database at a time.

The plan names the effect that is wanted. While it runs and is still wanted it is left alone; when another is wanted it
is cancelled, waited for, and the other begins. A plan without an effect leaves what runs to end by itself. An effect
that failed is tried again after a pause that grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twinstar.model.effects import Kill
from twinstar.model.errors import TwinstarError
from twinstar.ports.clock import Clock

log = logging.getLogger(__name__)

_FIRST_PAUSE_MS = 100.0
_LONGEST_PAUSE_MS = 5_000.0


E = TypeVar("E", bound=object)


class Lane(Generic[E]):
    def __init__(self, clock: Clock, perform: Callable[[E], Awaitable[None]], done: Callable[[], None]) -> None:
        self._clock, self._perform, self._done = clock, perform, done
        self._task: asyncio.Task[None] | None = None
        self._next: E | None = None
        self.effect: E | None = None
        self.trouble = ""
        self._failed: E | None = None
        self._pause_ms = _FIRST_PAUSE_MS
        self._not_before_ms = 0.0

    def want(self, effect: E | None) -> None:
        """Asks for an effect; None asks for nothing new. A kill is carried out whatever is wanted meanwhile."""
        if isinstance(self._next, Kill):
            return
        if effect is None or effect == self.effect:
            self._next = None
            return
        if effect == self._failed and self._clock.now_ms() < self._not_before_ms:
            return
        if self._task is None:
            self._begin(effect)
        else:
            self._next = effect
            if not isinstance(self.effect, Kill):
                self._break_off(self._task)

    async def close(self) -> None:
        """Cancels what runs and waits for it."""
        self._next = None
        if self._task is not None:
            self._break_off(self._task)
            await asyncio.gather(self._task, return_exceptions=True)

    @staticmethod
    def _break_off(task: asyncio.Task[None]) -> None:
        """Once: a second cancellation would break off the tidying up that the first one has begun."""
        if not task.cancelling():
            task.cancel()

    def _begin(self, effect: E) -> None:
        log.info("begins: %s", effect)
        self.effect = effect
        self._task = asyncio.create_task(self._run(effect), name=type(effect).__name__)
        self._task.add_done_callback(self._ended)

    async def _run(self, effect: E) -> None:
        began = self._clock.now_ms()
        try:
            await self._perform(effect)
            self.trouble, self._failed, self._pause_ms = "", None, _FIRST_PAUSE_MS
            log.info("ended after %.0f ms: %s", self._clock.now_ms() - began, type(effect).__name__)
        except (TwinstarError, TimeoutError, OSError) as error:
            self._fail(effect, error)
        except asyncio.CancelledError:
            log.info("broken off after %.0f ms: %s", self._clock.now_ms() - began, type(effect).__name__)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also for a task that was broken off before its first step, and so never ran."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unexpected: %r", error, exc_info=error)
        self._task = self.effect = None
        following, self._next = self._next, None
        if following is not None:
            self._begin(following)
        self._done()

    def _fail(self, effect: E, error: Exception) -> None:
        self.trouble = str(error) or type(error).__name__
        if effect != self._failed:
            self._pause_ms = _FIRST_PAUSE_MS
        self._failed, self._not_before_ms = effect, self._clock.now_ms() + self._pause_ms
        self._pause_ms = min(self._pause_ms * 2, _LONGEST_PAUSE_MS)
        log.warning("%s failed: %s", type(effect).__name__, self.trouble)
