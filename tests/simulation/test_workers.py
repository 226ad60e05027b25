"""Processes that play for their caller."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest

from twinstar.model.errors import EnvironmentTrouble
from twinstar.simulation.workers import on_all_processors


def twice(number: int) -> int:
    if number == 3:
        raise ValueError("no three")
    return 2 * number


def test_each_task_comes_with_its_result_or_its_traceback() -> None:
    left = iter(range(40))
    done = dict(on_all_processors(twice, lambda: next(left, None), 3))
    failed = done.pop(3)
    assert isinstance(failed, str)
    assert "ValueError: no three" in failed
    assert done == {n: 2 * n for n in range(40) if n != 3}


def test_a_result_may_bring_another_task() -> None:
    left = deque([5, 4])
    seen = []
    for task, _ in on_all_processors(lambda n: n, lambda: left.popleft() if left else None, 4):
        seen.append(task)
        if task:
            left.append(task - 1)
    assert sorted(seen) == sorted([*range(6), *range(5)])


def test_who_stops_early_waits_for_nobody(tmp_path: Path) -> None:
    """What has begun is ended, in order: it puts away what it has made."""
    made = tmp_path / "made"

    def hang(number: int) -> int:
        if number:
            try:
                made.touch()
                time.sleep(600)
            finally:
                made.unlink()
        else:
            while not made.exists():
                time.sleep(0.01)
        return number

    left = iter([1, 0])
    with closing(on_all_processors(hang, lambda: next(left, None), 2)) as results:
        assert next(results) == (0, 0)
    assert not made.exists()


def test_who_is_ended_while_it_clears_up_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Slow:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            (tmp_path / "clearing").touch()
            time.sleep(600)

    def work(number: int) -> int:
        if number == 1:
            sys.unraisablehook = sys.__unraisablehook__  # as it is outside of pytest
            Slow()
        else:
            while not (tmp_path / "clearing").exists():
                time.sleep(0.01)
        return number

    left = iter([1, 0])
    with closing(on_all_processors(work, lambda: next(left, None), 2)) as results:
        assert sorted([next(results), next(results)]) == [(0, 0), (1, 1)]
    assert capfd.readouterr().err == ""


def test_a_process_that_was_ended_from_outside_is_said() -> None:
    def die(number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    left = iter([1])
    with pytest.raises(EnvironmentTrouble, match="try fewer with --jobs"):
        list(on_all_processors(die, lambda: next(left, None), 1))
