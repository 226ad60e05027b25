"""Work that goes on beside the agent's loop: one of each kind at a time, and after a failure a pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from twinstar.model.errors import TwinstarError
from twinstar.ports.clock import Clock

_RETRY_MS = 500.0

log = logging.getLogger(__name__)


class Sidelines:
    def __init__(self, clock: Clock, done: Callable[[], None]) -> None:
        """`done` is called whenever something has ended."""
        self._clock, self._done = clock, done
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def idle(self, kind: str) -> bool:
        running = self._tasks.get(kind)
        return running is None or running.done()

    def begin(self, kind: str, work: Coroutine[Any, Any, None]) -> None:
        """Unless something of this kind is under way. Who still wants it asks again."""
        if not self.idle(kind):
            work.close()
            return
        task = self._tasks[kind] = asyncio.create_task(self._carefully(kind, work), name=kind)
        task.add_done_callback(_said_if_unexpected)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _carefully(self, kind: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (TwinstarError, TimeoutError, OSError) as error:
            log.warning("%s: %s", kind, error)
            await self._clock.sleep_ms(_RETRY_MS)
        self._done()


def _said_if_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("unexpected, in %s: %r", task.get_name(), error, exc_info=error)
