"""The table: each safeguard, switched off, and within how many seeds the simulator notices.

The seeds are those of any campaign (`simulation.campaign`), of clusters in which the safeguard has something to do,
one after another until one is noticed; so a line is decided by its first seed alone, and each run can be seen again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from twinstar.model.errors import UsageError
from twinstar.simulation.ablations.catalogue import CATALOGUE
from twinstar.simulation.ablations.swap import Ablation, applied
from twinstar.simulation.run import run_one
from twinstar.simulation.workers import on_all_processors

_PORTION = 8
"""Seeds that a process plays before it reports."""
_COVERED = 24
"""So many seeds are enough to see that what is covered for is not noticed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How far the search for one ablation has come."""

    name: str
    seeds: int = 0
    """Played so far, the one that noticed included."""
    reached: int = 0
    """In so many of them the code did otherwise than with the safeguard."""
    seed: int | None = None
    """The one that noticed."""
    breach: str = ""

    @property
    def noticed(self) -> bool:
        return self.seed is not None

    @property
    def invariant(self) -> str:
        """What was broken, in short: the number of an invariant, or a word."""
        if not self.noticed:
            return "" if self.reached else "never reached"
        number = re.match(r"(I\d|N|F):", self.breach)
        if number:
            return number[1]
        words = {"not ": "I5", "gone": "lost", "missing or moved": "reads"}
        return next((name for word, name in words.items() if word in self.sentence), "ended")

    @property
    def sentence(self) -> str:
        """What was broken, in one line."""
        return self.breach.split("\n", 1)[0].split("; ", 1)[0].split(": register Register(", 1)[0]


def chosen(words: Sequence[str]) -> list[Ablation]:
    """Those whose name has one of the words in it; all without any. Raises UsageError when there is none."""
    found = [each for each in CATALOGUE if not words or any(word in each.name for word in words)]
    if not found:
        raise UsageError(f"No ablation has {' or '.join(words)} in its name; see docs/ablations.md for their names.")
    return found


def search(ablations: Sequence[Ablation], first: int, most: int, jobs: int) -> Generator[Finding, None, None]:
    """What is found, again and again for each ablation until it is noticed or `most` seeds were played. When the
    caller stops early, what has begun is ended. Raises EnvironmentTrouble. Not to be called where there are threads.
    """
    waiting = deque(Finding(each.name) for each in ablations)

    def further(finding: Finding) -> Finding:
        return _portion(finding, first, min(_PORTION, _most(finding, most) - finding.seeds))

    def following() -> Finding | None:
        return waiting.popleft() if waiting else None

    with closing(on_all_processors(further, following, jobs)) as played:
        for before, finding in played:
            if isinstance(finding, str):
                raise RuntimeError(f"The simulator failed without the safeguard {before.name!r}: {finding}")
            if not finding.noticed and finding.seeds < _most(finding, most):
                waiting.append(finding)
            yield finding


def named(name: str) -> Ablation:
    """The ablation of this name."""
    (ablation,) = (each for each in CATALOGUE if each.name == name)
    return ablation


def _most(finding: Finding, most: int) -> int:
    return min(most, _COVERED) if named(finding.name).covered else most


def _portion(finding: Finding, first: int, seeds: int) -> Finding:
    """Plays some more seeds."""
    ablation = named(finding.name)
    reached = finding.reached
    begin = first + finding.seeds
    with applied(ablation) as differences:
        for seed in range(begin, begin + seeds):
            before = differences.count
            outcome = run_one(seed, ablation.plan(seed))
            reached += differences.count > before
            if outcome.breach is not None:
                return Finding(ablation.name, seed - first + 1, reached, seed, outcome.breach)
    return Finding(ablation.name, finding.seeds + seeds, reached)
