"""Runs the clients of `clients` as processes beside the comparison: one for each place that has some."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from twinstar.compare.clients import Job, Told
from twinstar.model.errors import EnvironmentTrouble

_GRACE_S = 60.0
"""How much longer than its time a job may take."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients run: what stands before their command."""

    enter: tuple[str, ...] = ()


HERE = Place()


@dataclass(frozen=True, slots=True)
class Window:
    """What all clients were told in one time. `from_ms` and `to_ms` are the boot clock's."""

    from_ms: float
    to_ms: float
    told: tuple[Told, ...]

    @property
    def length_ms(self) -> float:
        return self.to_ms - self.from_ms


def merged(jobs: Sequence[tuple[Place, Job]]) -> list[tuple[Place, Job]]:
    """One process for all clients of the same kind in one place, where it does not matter how fast they are."""
    made: list[tuple[Place, Job]] = []
    for place, job in jobs:
        if made and made[-1][0] == place and made[-1][1].first + len(made[-1][1].dsns) == job.first:
            made[-1] = (place, replace(made[-1][1], dsns=(*made[-1][1].dsns, *job.dsns)))
        else:
            made.append((place, job))
    return made


def run_jobs(jobs: Sequence[tuple[Place, Job]], around: Callable[[], None] = lambda: None) -> Window:
    """All at the same time; `around` is called just before they begin and just after they end.

    Raises EnvironmentTrouble when clients cannot connect or do not end.
    """
    with tempfile.TemporaryDirectory(prefix="twinstar-compare-") as folder, contextlib.ExitStack() as stack:
        files = [Path(folder) / f"{number}.json" for number in range(len(jobs))]
        programs = [
            stack.enter_context(_started(place, replace(job, result_file=str(file))))
            for (place, job), file in zip(jobs, files, strict=True)
        ]
        for program in programs:
            _expect(program, "ready")
        around()
        for program in programs:
            _tell(program, "go")
        for program in programs:
            _expect(program, "done")
        around()
        for program in programs:
            if program.wait(_GRACE_S) != 0:
                raise _ended()
        return _window([json.loads(file.read_text()) for file in files])


def _window(results: list[dict[str, object]]) -> Window:
    told = []
    for result in results:
        clients = result["clients"]
        assert isinstance(clients, list)
        told += [
            Told(
                raw["client"],
                raw["node"],
                [tuple(each) for each in raw["answers"]],
                [tuple(each) for each in raw["failed"]],
                [tuple(each) for each in raw["numbers"]],
            )
            for raw in clients
        ]
    begins = min(float(str(result["from_ms"])) for result in results)
    ends = max(float(str(result["to_ms"])) for result in results)
    return Window(begins, ends, tuple(sorted(told, key=lambda each: each.client)))


@contextlib.contextmanager
def _started(place: Place, job: Job) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [*place.enter, sys.executable, "-m", "twinstar.compare.clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the comparison, which ends the clients in order.
        start_new_session=True,
    )
    # Nobody waits for ever on clients that hang.
    watch = threading.Timer(job.seconds + _GRACE_S, program.kill)
    watch.daemon = True
    watch.start()
    try:
        _tell(program, json.dumps(asdict(job)))
        yield program
    finally:
        watch.cancel()
        if program.poll() is None:
            program.send_signal(signal.SIGKILL)
            program.wait()
        for pipe in (program.stdin, program.stdout):
            _close(pipe)


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def _tell(program: subprocess.Popen[str], line: str) -> None:
    assert program.stdin is not None
    try:
        program.stdin.write(line + "\n")
        program.stdin.flush()
    except BrokenPipeError:
        raise _ended() from None


def _expect(program: subprocess.Popen[str], word: str) -> None:
    assert program.stdout is not None
    if program.stdout.readline().strip() != word:
        raise _ended()


def _ended() -> EnvironmentTrouble:
    return EnvironmentTrouble("The comparison's clients ended with an error (see above): compare again.")
