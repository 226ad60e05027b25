"""How many others a commit waits for. No I/O.

Policy `block` waits for as many as are required, or for all others, if there are fewer. `degrade` leaves out who has
not been reading for a while: not at once, or a receiver that is started again would leave commits on one disk.
"""

from __future__ import annotations


class Confirming:
    def __init__(self, required: int, patience_ms: float | None) -> None:
        self.ask_for(required, patience_ms)
        self._there_ms: dict[int, float] = {}
        """Of each other node, when it was last seen to read; at first, when it was first asked for."""

    def ask_for(self, required: int, patience_ms: float | None) -> None:
        """From now on. `required` is 0 with durability `async`. `patience_ms`: policy `degrade`, after so long; None:
        `block`.
        """
        self._required, self._patience_ms = required, patience_ms

    def required(self, others: frozenset[int], attached: frozenset[int], now_ms: float) -> int:
        """Of `others`, the numbers of those who are in, of whom `attached` read now."""
        self._there_ms = {n: now_ms if n in attached else self._there_ms.get(n, now_ms) for n in others}
        if self._patience_ms is None:
            return min(self._required, len(others))
        there = sum(now_ms - at_ms <= self._patience_ms for at_ms in self._there_ms.values())
        return min(self._required, there)
