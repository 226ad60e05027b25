"""Many seeds on many processors. Each seed is a run of its own: which process played it, and what that played before,
makes no difference.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice

from twinstar.model.errors import EnvironmentTrouble
from twinstar.simulation import coverage
from twinstar.simulation.plan import Wishes, draw
from twinstar.simulation.run import Outcome, run_one

_AHEAD = 3
"""So many seeds are handed out for each process, so that none waits for its next one."""


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
        return coverage.never(self.sometimes)


def play_many(
    seeds: Iterable[int], wishes: Wishes, jobs: int, minutes: float | None = None
) -> Generator[Outcome, None, None]:
    """The outcomes, in the order in which the runs end. No run is begun after `minutes` of real time. When the caller
    stops early, what has begun is played to its end and dropped. Raises EnvironmentTrouble. The processes are forks:
    not to be called where there are threads.
    """
    ends = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    left = iter(seeds)
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), prepare_process)
    running: dict[Future[Outcome], int] = {}
    try:
        while True:
            if time.monotonic() < ends:
                running |= {pool.submit(_play, s, wishes): s for s in islice(left, _AHEAD * jobs - len(running))}
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield _outcome(done, running.pop(done), wishes)
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_process() -> None:
    """Of a new process: Ctrl-C is for its parent to heed, and it ends when that is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _play(seed: int, wishes: Wishes) -> Outcome:
    return run_one(seed, draw(seed, wishes))


def _outcome(done: Future[Outcome], seed: int, wishes: Wishes) -> Outcome:
    """A bug of the simulator itself is a failure of its seed, too. Raises EnvironmentTrouble when a process was ended
    from outside.
    """
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, BrokenProcessPool):
        raise EnvironmentTrouble("A process of the simulator was ended (for want of memory?): try fewer with --jobs.")
    return Outcome(seed, draw(seed, wishes), f"the simulator failed: {''.join(traceback.format_exception(error))}")
