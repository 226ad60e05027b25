"""Many seeds on many processors, and what is noticed when a safeguard is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from twinstar.model.errors import UsageError
from twinstar.simulation.multiwriter.plan import draw
from twinstar.simulation.multiwriter.run import Outcome, run_one
from twinstar.simulation.multiwriter.safeguards import Safeguard, focused
from twinstar.simulation.workers import on_all_processors


@dataclass(slots=True)
class Tally:
    """What many runs have in common."""

    seeds: int = 0
    steps: int = 0
    commits: int = 0
    failures: list[Outcome] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.steps += outcome.steps
        self.commits += outcome.commits
        self.faults += outcome.faults
        self.sometimes += outcome.sometimes
        if outcome.breach is not None:
            self.failures.append(outcome)


def play_many(seeds: Iterable[int], jobs: int, nodes: int | None = None) -> Generator[Outcome, None, None]:
    """The outcomes, in the order in which the runs end. Raises EnvironmentTrouble. Not to be called where there are
    threads.
    """
    left: Iterator[int] = iter(seeds)
    with closing(
        on_all_processors(lambda seed: run_one(seed, draw(seed, nodes)), lambda: next(left, None), jobs)
    ) as played:
        for seed, outcome in played:
            if isinstance(outcome, str):  # a bug of the simulator itself is a failure of its seed, too
                yield Outcome(seed, draw(seed, nodes), f"the simulator failed: {outcome}")
            else:
                yield outcome


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of the search for one safeguard."""

    safeguard: Safeguard
    seed: int | None
    """The first that ends badly without it, and well with it; None: none did."""
    breach: str = ""


def search(safeguards: Iterable[Safeguard], first: int, most: int, jobs: int) -> Generator[Finding, None, None]:
    """Leaves out each in turn until a seed notices. Not to be called where there are threads."""
    left = iter(safeguards)

    def look(safeguard: Safeguard) -> Finding:
        for seed in range(first, first + most):
            plan = focused(seed, safeguard)
            outcome = run_one(seed, plan, frozenset({safeguard}))
            if outcome.breach is not None and run_one(seed, plan).breach is None:
                return Finding(safeguard, seed, outcome.breach)
        return Finding(safeguard, None)

    with closing(on_all_processors(look, lambda: next(left, None), jobs)) as found:
        for safeguard, finding in found:
            yield Finding(safeguard, None, finding) if isinstance(finding, str) else finding


def chosen(words: list[str]) -> list[Safeguard]:
    """Those that are named, or whose name has one of the words in it; all without any. Raises UsageError when there is
    none.
    """
    parts = [word for word in words if word not in set(Safeguard)]
    some = [each for each in Safeguard if not words or each in words or any(part in each for part in parts)]
    if not some:
        raise UsageError(f"No safeguard is called {', '.join(words)}: choose from {', '.join(Safeguard)}.")
    return some
