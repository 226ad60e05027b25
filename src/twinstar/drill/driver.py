"""Runs the clients of `workload` as a process beside the drill, and looks at the rows afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from twinstar.drill.history import Attempt, Key
from twinstar.drill.workload import TABLE, Job
from twinstar.histories.operation import Outcome
from twinstar.model.errors import EnvironmentTrouble


@dataclass(frozen=True, slots=True)
class Counters:
    """What the clients have been told so far. `at_ms` is the boot clock."""

    at_ms: float = 0.0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    refused_connects: int = 0
    done: bool = False


class Workload:
    """A running workload. Use as a context manager; the process ends with it, or with this process."""

    def __init__(
        self,
        dsn: str,
        run: str,
        clients: int,
        pause_ms: float,
        deadline_ms: float,
        retry_ms: float = 5.0,
        *,
        ask_where: bool = False,
        first: int = 0,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="twinstar-workload-")
        self._file = Path(self._scratch.name) / "attempts.json"
        self.run = run
        self._job = Job(dsn, run, str(self._file), clients, pause_ms, deadline_ms, retry_ms, ask_where, first)
        self._counters = Counters()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def counters(self) -> Counters:
        """The newest counters, at most some 100 ms old."""
        return self._counters

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "twinstar.drill.workload"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the drill, which ends the clients in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(self._job)) + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._counters = Counters(**json.loads(line))

    def stop(self) -> list[Attempt]:
        """Ends the clients and returns all their attempts. Raises EnvironmentTrouble when they died."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("stop\n")
            self._process.stdin.close()
        self._reader.join()
        if self._process.wait() != 0:
            raise EnvironmentTrouble("The drill's clients ended with an error (see above): drill again.")
        return read_attempts(self._file)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._scratch.cleanup()


def read_attempts(file: Path) -> list[Attempt]:
    """The attempts that a workload wrote."""
    return [Attempt(**{**raw, "outcome": Outcome(raw["outcome"])}) for raw in json.loads(file.read_text())]


def make_table(dsn: str) -> None:
    """Makes the table that the clients write to. Raises EnvironmentTrouble."""
    _execute(
        dsn,
        f"CREATE TABLE IF NOT EXISTS {TABLE} (run text, client int, number bigint, attempt int, "
        "PRIMARY KEY (run, client, number, attempt))",
    )


def drop_table(dsn: str) -> None:
    """Removes what `make_table` made. Raises EnvironmentTrouble."""
    _execute(dsn, f"DROP TABLE IF EXISTS {TABLE}")


def present(dsn: str, run: str) -> list[Key]:
    """The rows of a run that are there. Raises EnvironmentTrouble."""
    return [(c, n, a) for c, n, a in _execute(dsn, f"SELECT client, number, attempt FROM {TABLE} WHERE run = %s", run)]


def _execute(dsn: str, statement: str, *values: str) -> Sequence[tuple[int, int, int]]:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=15) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else ()
    except psycopg.Error as trouble:
        raise EnvironmentTrouble(
            f"The database does not do what the drill needs: {' '.join(str(trouble).split())}. "
            "Look at `twinstar status`, then try again."
        ) from trouble
