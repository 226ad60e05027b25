"""What happened in a run, in order: lines for people, and a digest that every run of the same seed has in common."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from twinstar.ports.clock import Clock

speaker: ContextVar[str] = ContextVar("speaker", default="")
"""Whose task it is that runs: set where a member's task is made."""


class Chronicle:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] = []
        self.faults = Counter[str]()
        """How often each fault of the menu was done."""

    def tell(self, what: str) -> None:
        """Something worth a line."""
        self.remark(what)
        self.mark(what)

    def remark(self, what: str) -> None:
        """A line that is no part of the history."""
        self.lines.append(f"{self._clock.now_ms():9.1f}  {what}")

    def mark(self, *facts: object) -> None:
        """Something too frequent for a line. What is equal must look equal (no sets)."""
        self._hash.update(repr((self._clock.now_ms(), facts)).encode())

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()


class _Listener(logging.Handler):
    def __init__(self, remark: Callable[[str], None], unexpected: Callable[[str], None]) -> None:
        super().__init__()
        self._remark, self._unexpected = remark, unexpected

    def emit(self, record: logging.LogRecord) -> None:
        said = f"{speaker.get()}: {record.getMessage()}"
        self._remark(f"    {said}")
        if record.exc_info:
            self._unexpected(f"{said}\n{self.format(record)}")


@contextlib.contextmanager
def listening(chronicle: Chronicle, unexpected: Callable[[str], None], closely: bool) -> Iterator[None]:
    """Meanwhile `unexpected` is called for every error that an agent did not foresee. `closely`: everything that agents
    log becomes a remark.
    """
    log, listener = logging.getLogger("twinstar"), _Listener(chronicle.remark, unexpected)
    before = log.level, log.propagate
    log.addHandler(listener)
    log.propagate = False
    log.setLevel(logging.INFO if closely else logging.ERROR)
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.propagate = before[1]
        log.setLevel(before[0])
