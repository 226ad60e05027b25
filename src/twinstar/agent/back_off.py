"""How long a member holds back before it begins another election.

Where two members reach the store but not each other, each has good reason to replace the other, and neither can serve:
two copies take epochs from one another for ever, several a second, and the one that could go on alone (policy
`degrade`) never leads for long enough. So after some changes that brought no service, a member lets a new leader be for
a random time that doubles with every further one. Chance then gives one of them the time it needs.
"""

from __future__ import annotations

from twinstar.ports.randomness import Randomness

_FREE_CHANGES = 6
"""So many changes of leader or epoch without service are met at full speed: three failovers in a row."""


class BackOff:
    """Durations in milliseconds; both are drawn anew for each epoch."""

    def __init__(self, randomness: Randomness, election_timeout_ms: float, most_ms: float) -> None:
        self._randomness, self._election_timeout_ms, self._most_ms = randomness, election_timeout_ms, most_ms
        self._changes = 0
        self.again_ms = 0.0
        """On top of the election timeout, before an unfinished election is superseded."""
        self.forbearance_ms = 0.0
        """After a change, before its leader is accused."""

    def changed(self) -> None:
        """Another epoch or leader."""
        self._changes += 1
        self.again_ms = self._randomness.between(0, self._election_timeout_ms / 2)
        excess = self._changes - _FREE_CHANGES
        longest_ms = min(self._most_ms, self._election_timeout_ms * 2.0 ** min(excess, 30)) if excess > 0 else 0.0
        self.forbearance_ms = self._randomness.between(0, longest_ms)

    def served(self) -> None:
        """This member leads an open epoch, or receives its leader's log."""
        self._changes = 0
