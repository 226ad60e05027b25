"""When a node that leaves has written its last. No I/O.

Its log goes on growing with what arrives from the others, so they never have all of it as long as anybody writes. What
they need is what was written here: no more of that comes once clients are out and nothing of the agent's own writes.
"""

from __future__ import annotations


class LastWrite:
    def __init__(self) -> None:
        self._since_ms: float | None = None
        self._end: int | None = None

    def end(self, quiet: bool, now_ms: float, looked_at_ms: float, log_end: int) -> int | None:
        """Where the log ended at the first look since nobody writes here; None before that, and while somebody does.

        `log_end` is from the look at `looked_at_ms`, on the same clock.
        """
        if not quiet:
            self._since_ms = self._end = None
        elif self._since_ms is None:
            self._since_ms = now_ms
        elif self._end is None and looked_at_ms > self._since_ms:
            self._end = log_end
        return self._end
