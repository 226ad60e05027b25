"""Processes that play for their caller: forks, each with a pipe of its own, and no thread anywhere.

(The standard library's pool of processes has threads on both sides, and now and then waits for ever when it is done.)
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar

from twinstar.model.errors import EnvironmentTrouble

Task = TypeVar("Task")
Result = TypeVar("Result")


def on_all_processors(
    work: Callable[[Task], Result], following: Callable[[], Task | None], jobs: int
) -> Generator[tuple[Task, Result | str], None, None]:
    """Each task with its result, in the order in which they end; with a traceback when `work` raised.

    `following` gives the next task, None when there is none at the moment: it is asked again when a result has been
    taken, and it is over when none is there and none is being worked on. When the caller stops early, what has begun is
    ended. Raises EnvironmentTrouble when a process was ended from outside. Not to be called where there are threads.
    """
    idle: list[_Worker[Task, Result]] = []
    busy: dict[Connection[Any, Any], _Worker[Task, Result]] = {}
    try:
        for _ in range(jobs):
            idle.append(_Worker(work, [each.pipe for each in idle]))
        while True:
            while idle and (task := following()) is not None:
                worker = idle.pop()
                worker.begin(task)
                busy[worker.pipe] = worker
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy.pop(pipe)  # type: ignore[call-overload]
                ended = worker.end()
                idle.append(worker)
                yield ended
    finally:
        for worker in (*idle, *busy.values()):
            worker.dismiss()


class _Worker(Generic[Task, Result]):
    """One process, as its parent sees it."""

    def __init__(self, work: Callable[[Task], Result], others: list[Connection[Any, Any]]) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process: ForkProcess = context.Process(target=_work, args=(work, theirs, [self.pipe, *others]))
        self._process.start()
        theirs.close()

    def begin(self, task: Task) -> None:
        self._task = task
        try:
            self.pipe.send(task)
        except OSError:
            raise _ended_from_outside() from None

    def end(self) -> tuple[Task, Result | str]:
        try:
            return self._task, self.pipe.recv()
        except (EOFError, OSError):
            raise _ended_from_outside() from None

    def dismiss(self) -> None:
        """It ends at once when it waits, and where it is when it works."""
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _work(work: Callable[[Any], Any], pipe: Connection[Any, Any], parents: list[Connection[Any, Any]]) -> None:
    """A worker's life: until its parent closes the pipe, or is no more."""
    for each in parents:  # a fork has them open too, and would not see the end of its own
        each.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the parent to heed
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()
    gc.disable()  # what a task leaves is collected when it is done: looking in between costs a twentieth of the time
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        signal.signal(signal.SIGTERM, _leave)  # in order: it has things to put away
        try:
            result = work(task)
        except Exception:  # noqa: BLE001 - whatever it is, the caller is told
            result = traceback.format_exc()
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # raised in what collects, it would be printed, and be without effect
        try:
            pipe.send(result)
        except OSError:
            return
        del result
        gc.collect()


def _leave(*_: object) -> None:
    raise SystemExit(1)


def _ended_from_outside() -> EnvironmentTrouble:
    return EnvironmentTrouble("A process of the simulator was ended (for want of memory?): try fewer with --jobs.")
