"""The table: each safeguard, switched off, and within how many seeds the simulator notices.

The seeds are those of any campaign (`simulation.campaign`), of clusters in which the safeguard has something to do,
one after another until one is noticed; so a line is decided by its first seed alone, and each run can be seen again.
"""

from __future__ import annotations

import multiprocessing
import re
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from twinstar.model.errors import UsageError
from twinstar.simulation.ablations.catalogue import CATALOGUE
from twinstar.simulation.ablations.swap import Ablation, applied
from twinstar.simulation.campaign import prepare_process
from twinstar.simulation.run import run_one

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
    caller stops early, what has begun is played to its end and dropped.
    """
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), prepare_process)
    waiting = deque(Finding(each.name) for each in ablations)
    running: set[Future[Finding]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                each = waiting.popleft()
                left = _most(each, most) - each.seeds
                running.add(pool.submit(_portion, each, first, min(_PORTION, left)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                finding = future.result()
                if not finding.noticed and finding.seeds < _most(finding, most):
                    waiting.append(finding)
                yield finding
    finally:
        pool.shutdown(cancel_futures=True)


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
