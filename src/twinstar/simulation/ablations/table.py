"""The table: each safeguard, switched off, and within how many seeds the simulator notices.

The seeds are those of any campaign (`simulation.campaign`), of clusters in which the safeguard has something to do,
one after another until one is noticed; so a line is decided by its first seed alone, and each run can be seen again.

A run that ends badly says something about the safeguard only if the same seed ends well with it: that is played, too.
A safeguard for which others cover is looked for without those, and they are missing both times.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from twinstar.model.errors import UsageError
from twinstar.simulation.ablations.catalogue import CATALOGUE
from twinstar.simulation.ablations.swap import Ablation, Differences, Swap, applied
from twinstar.simulation.run import run_one
from twinstar.simulation.workers import on_all_processors

_PORTION = 8
"""Seeds that a process plays before it reports."""


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
        number = re.match(r"(I\d|N|F|S):", self.breach)
        if number:
            return number[1]
        words = {"not ": "I5", "gone": "lost", "read of": "reads", "missing or moved": "reads"}
        return next((name for word, name in words.items() if word in self.sentence), "ended")

    @property
    def sentence(self) -> str:
        """What was broken, in one line."""
        return self.breach.split("\n", 1)[0].split("; ", 1)[0].split(": register Register(", 1)[0]


def chosen(words: Sequence[str]) -> list[Ablation]:
    """Those that are named, or whose name has one of the words in it; all without any. Raises UsageError when there is
    none.
    """
    whole = {each.name for each in CATALOGUE}.intersection(words)
    parts = [word for word in words if word not in whole]
    found = [e for e in CATALOGUE if not words or e.name in whole or any(part in e.name for part in parts)]
    if not found:
        raise UsageError(f"No ablation has {' or '.join(words)} in its name; see docs/ablations.md for their names.")
    return found


def search(ablations: Sequence[Ablation], first: int, most: int, jobs: int) -> Generator[Finding, None, None]:
    """What is found, again and again for each ablation until it is noticed or `most` seeds were played. When the
    caller stops early, what has begun is ended. Raises EnvironmentTrouble. Not to be called where there are threads.
    """
    waiting = deque(Finding(each.name) for each in ablations)

    def further(finding: Finding) -> Finding:
        return _portion(finding, first, min(_PORTION, most - finding.seeds))

    def following() -> Finding | None:
        return waiting.popleft() if waiting else None

    with closing(on_all_processors(further, following, jobs)) as played:
        for before, finding in played:
            if isinstance(finding, str):
                raise RuntimeError(f"The simulator failed without the safeguard {before.name!r}: {finding}")
            if not finding.noticed and finding.seeds < most:
                waiting.append(finding)
            yield finding


def named(name: str) -> Ablation:
    """The ablation of this name."""
    (ablation,) = (each for each in CATALOGUE if each.name == name)
    return ablation


@contextmanager
def without(ablation: Ablation) -> Iterator[Differences]:
    """Everything within runs without its safeguard, and without those that cover for it; its own differences."""
    with applied(*_partners(ablation)), applied(*ablation.swaps) as differences:
        yield differences


def _partners(ablation: Ablation) -> list[Swap]:
    own = set(ablation.swaps)
    return [swap for partner in ablation.partners for swap in named(partner).swaps if swap not in own]


def _portion(finding: Finding, first: int, seeds: int) -> Finding:
    """Plays some more seeds."""
    ablation = named(finding.name)
    reached = finding.reached
    begin = first + finding.seeds
    for seed in range(begin, begin + seeds):
        with without(ablation) as differences:
            breach = run_one(seed, ablation.plan(seed)).breach
        reached += differences.count > 0
        if breach is not None and _ends_well_with_it(ablation, seed):
            return Finding(ablation.name, seed - first + 1, reached, seed, breach)
    return Finding(ablation.name, finding.seeds + seeds, reached)


def _ends_well_with_it(ablation: Ablation, seed: int) -> bool:
    """Raises AssertionError when a seed ends badly although nothing is taken out."""
    with applied(*_partners(ablation)):
        breach = run_one(seed, ablation.plan(seed)).breach
    assert breach is None or ablation.partners, f"seed {seed} ends badly with every safeguard in its place: {breach}"
    return breach is None
