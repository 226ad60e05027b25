"""Interesting states that runs should go through: a green campaign that was nowhere near them proves nothing."""

from __future__ import annotations

from collections import Counter

SOMETIMES = {
    "promoted": "a standby was promoted",
    "retaken": "a running leader took its leadership back after a false alarm",
    "rewound": "a former leader was rewound",
    "cloned": "a copy was made anew",
    "acknowledged late": "a write was acknowledged after a later leader had begun with it",
}
"""What is counted, and what it means."""


def never(been: Counter[str]) -> list[str]:
    """What no run has reached."""
    return [what for what in SOMETIMES if not been[what]]
