"""What happened in a run, in order: lines for people, and a digest that every run of the same seed has in common."""

from __future__ import annotations

import hashlib
from collections import Counter

from twinstar.ports.clock import Clock


class Chronicle:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] = []
        self.faults = Counter[str]()
        """How often each fault of the menu was done."""

    def tell(self, what: str) -> None:
        """Something worth a line."""
        line = f"{self._clock.now_ms():9.1f}  {what}"
        self.lines.append(line)
        self._hash.update(line.encode())

    def mark(self, *facts: object) -> None:
        """Something too frequent for a line. What is equal must look equal (no sets)."""
        self._hash.update(repr((self._clock.now_ms(), facts)).encode())

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()
