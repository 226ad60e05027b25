"""Randomness, so that a simulation can decide it from a seed."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Randomness(Protocol):
    def between(self, low: float, high: float) -> float:
        """A number from the interval, evenly distributed."""
        ...

    def token(self) -> str:
        """A string that nobody else has: 16 hexadecimal digits."""
        ...


class SystemRandomness:
    def between(self, low: float, high: float) -> float:
        return random.uniform(low, high)

    def token(self) -> str:
        return secrets.token_hex(8)
