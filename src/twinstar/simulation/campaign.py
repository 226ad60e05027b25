"""Many seeds on many processors. Each seed is a run of its own: which process played it, and what that played before,
makes no difference.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from twinstar.simulation import coverage
from twinstar.simulation.plan import Wishes, draw
from twinstar.simulation.run import Outcome, run_one
from twinstar.simulation.workers import on_all_processors


@dataclass(slots=True)
class Tally:
    """What many runs have in common."""

    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    virtual_ms: float = 0.0
    failovers: int = 0

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.sometimes += outcome.sometimes
        self.faults += outcome.faults
        self.virtual_ms += outcome.virtual_ms
        self.failovers += outcome.failovers
        if outcome.breach is not None:
            self.failures.append(outcome)

    @property
    def never(self) -> list[str]:
        return coverage.never(self.sometimes, {outcome.plan.store for outcome in self.outcomes})


def play_many(
    seeds: Iterable[int], wishes: Wishes, jobs: int, minutes: float | None = None
) -> Generator[Outcome, None, None]:
    """The outcomes, in the order in which the runs end. No run is begun after `minutes` of real time. When the caller
    stops early, what has begun is ended. Raises EnvironmentTrouble. Not to be called where there are threads.
    """
    ends = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    left = iter(seeds)

    def following() -> int | None:
        return next(left, None) if time.monotonic() < ends else None

    def play(seed: int) -> Outcome:
        return run_one(seed, draw(seed, wishes))

    with closing(on_all_processors(play, following, jobs)) as played:
        for seed, outcome in played:
            if isinstance(outcome, str):  # a bug of the simulator itself is a failure of its seed, too
                yield Outcome(seed, draw(seed, wishes), f"the simulator failed: {outcome}")
            else:
                yield outcome
