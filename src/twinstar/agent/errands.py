"""Work that nobody waits for, and what is done at a pace of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from twinstar.model.errors import EngineError, ProtocolBreach, StoreUnavailable

log = logging.getLogger(__name__)

_EARLY_MS = 5.0
"""A loop that wakes this much too early does it now rather than a whole round later."""


class Paces:
    """When what was done last."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, what: str, now_ms: float, every_ms: float) -> bool:
        """Whether `what` has not been done for `every_ms`; if so, it counts as done now."""
        if now_ms < self._due.get(what, 0.0):
            return False
        self._due[what] = now_ms + every_ms - _EARLY_MS
        return True

    def at_once(self, what: str) -> None:
        self._due.pop(what, None)


_under_way: set[asyncio.Task[None]] = set()
"""The loop itself holds tasks only weakly."""


def aside(work: Coroutine[Any, Any, None]) -> None:
    """Work nobody waits for; its failure is logged."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[None]) -> None:
    _under_way.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, ProtocolBreach):
        log.critical("%s", error)
    elif isinstance(error, EngineError | StoreUnavailable | TimeoutError | OSError):
        log.info("left for later: %s", error)
    elif error is not None:
        log.error("unexpected: %r", error, exc_info=error)
