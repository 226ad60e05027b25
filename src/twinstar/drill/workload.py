"""The clients of a drill, as a process of their own: ``python -m twinstar.drill.workload``.

Each client writes numbered rows in autocommit, one statement at a time, as a real application would through its
driver (libpq). It is strict about what it was told:

* every statement and every connect has a deadline; when it passes, the client *closes its socket*. It never cancels:
  a cancelled commit wait answers success for a row that only the leader has.
* a commit that returns together with a warning is unknown, not acknowledged: that is how PostgreSQL says that it
  stopped waiting for its standbys.
* only an ordinary error settles that a row was not written. A lost connection, or a session ended from outside,
  settles nothing.

The job comes as one JSON line on standard input; ``stop``, or the end of the input, ends the run (so that no client
outlives a drill that died). Counters go to standard output as JSON lines ten times a second, the attempts into the
job's file at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg import OperationalError, pq

from twinstar.drill.history import Attempt
from twinstar.histories.operation import Outcome

TABLE = "twinstar_drill"
_REPORT_S = 0.1
_POLL_MS = 100.0
"""Waiting clients look this often whether they are to stop."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the clients do. The password belongs into the passfile that the DSN names."""

    dsn: str
    run: str
    attempts_file: str
    clients: int = 2
    pause_ms: float = 5.0
    """Between an acknowledgement and the next statement."""
    deadline_ms: float = 3_000.0
    """For one statement, and for one connect."""
    retry_ms: float = 5.0
    """After a failure: at least so long, at most twice as long."""


def boot_ms() -> float:
    """Milliseconds on the boot clock: the same in every process of this machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


class DeadlineError(Exception):
    """Neither an answer nor an end within the deadline."""


class StoppedError(Exception):
    """The run is over."""


class Client:
    """One client: its connection, its counter, and everything it was told."""

    def __init__(self, job: Job, index: int, stop: threading.Event) -> None:
        self._job = job
        self._index = index
        self._stop = stop
        self._connection: pq.abc.PGconn | None = None
        self._warned = False
        self._number = 1
        self._attempt = 0
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        self.failed = 0
        self.unknown = 0
        self.refused_connects = 0

    def run(self) -> None:
        """Writes until told to stop."""
        while not self._stop.is_set():
            try:
                served = self._connected() and self._write()
            except StoppedError:
                break
            time.sleep((self._job.pause_ms if served else random.uniform(1, 2) * self._job.retry_ms) / 1000)
        self._drop()

    def _connected(self) -> bool:
        """Whether there is a connection, after trying once."""
        if self._connection is not None:
            return True
        connection = pq.PGconn.connect_start(self._job.dsn.encode())
        self._connection = connection
        with contextlib.suppress(DeadlineError):
            self._finish_connecting(connection)
        if connection.status == pq.ConnStatus.OK:
            connection.nonblocking = 1
            connection.notice_handler = self._on_notice
            return True
        self.refused_connects += 1
        self._drop()
        return False

    def _finish_connecting(self, connection: pq.abc.PGconn) -> None:
        until = boot_ms() + self._job.deadline_ms
        if connection.status == pq.ConnStatus.BAD:
            return
        wanted = pq.PollingStatus.WRITING
        while wanted not in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
            self._wait(connection, until, write=wanted == pq.PollingStatus.WRITING, stoppable=True)
            wanted = pq.PollingStatus(connection.connect_poll())

    def _write(self) -> bool:
        connection = self._connection
        assert connection is not None
        self._warned = False
        started_ms = boot_ms()
        try:
            outcome, why = self._execute(connection, started_ms + self._job.deadline_ms)
        except DeadlineError:
            outcome, why = Outcome.UNKNOWN, "deadline"
        self._record(started_ms, outcome, why)
        if outcome is not Outcome.ACKNOWLEDGED:
            self._drop()
        return outcome is Outcome.ACKNOWLEDGED

    def _execute(self, connection: pq.abc.PGconn, until_ms: float) -> tuple[Outcome, str]:
        try:
            connection.send_query(
                f"INSERT INTO {TABLE} (run, client, number, attempt) "
                f"VALUES ('{self._job.run}', {self._index}, {self._number}, {self._attempt})".encode()
            )
            while connection.flush():
                self._wait(connection, until_ms, write=True)
            while connection.is_busy():
                self._wait(connection, until_ms)
                connection.consume_input()
        except OperationalError as trouble:
            return Outcome.UNKNOWN, _line(str(trouble))
        return self._outcome(connection)

    def _outcome(self, connection: pq.abc.PGconn) -> tuple[Outcome, str]:
        outcome, why = Outcome.UNKNOWN, "connection lost"
        first = True
        while (result := connection.get_result()) is not None:
            if first:
                outcome, why = classify(result)
                first = False
        if self._warned and outcome is Outcome.ACKNOWLEDGED:
            return Outcome.UNKNOWN, "acknowledged with a warning"
        return outcome, why

    def _wait(self, connection: pq.abc.PGconn, until_ms: float, write: bool = False, stoppable: bool = False) -> None:
        """Until the socket is ready. Raises DeadlineError, or StoppedError when `stoppable`."""
        poll = select.poll()
        poll.register(connection.socket, select.POLLOUT if write else select.POLLIN)
        while True:
            left_ms = until_ms - boot_ms()
            if left_ms <= 0:
                raise DeadlineError
            if stoppable and self._stop.is_set():
                raise StoppedError
            if poll.poll(min(left_ms, _POLL_MS)):
                return

    def _on_notice(self, notice: pq.abc.PGresult) -> None:
        severity = notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b""
        self._warned = self._warned or severity == b"WARNING"

    def _record(self, started_ms: float, outcome: Outcome, why: str) -> None:
        self.attempts.append(Attempt(self._index, self._number, self._attempt, started_ms, boot_ms(), outcome, why))
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged += 1
            self._number, self._attempt = self._number + 1, 0
            return
        self._attempt += 1
        self.unknown += outcome is Outcome.UNKNOWN
        self.failed += outcome is Outcome.FAILED

    def _drop(self) -> None:
        """Closes the socket first, so that nothing more is said on it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.status != pq.ConnStatus.BAD:
            duplicate = socket.socket(fileno=os.dup(connection.socket))
            with contextlib.suppress(OSError):  # The other side was faster.
                duplicate.shutdown(socket.SHUT_RDWR)
            duplicate.close()
        connection.finish()


def classify(result: pq.abc.PGresult) -> tuple[Outcome, str]:
    """What an answer settles. Errors that come with the end of the session settle nothing."""
    if result.status == pq.ExecStatus.COMMAND_OK:
        return Outcome.ACKNOWLEDGED, ""
    severity = (result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"").decode()
    sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    why = f"{sqlstate} {_line(result.get_error_message())}".strip()
    settled = sqlstate and severity == "ERROR" and not sqlstate.startswith(("08", "57P", "40003"))
    return (Outcome.FAILED if settled else Outcome.UNKNOWN), why


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _count(clients: list[Client]) -> dict[str, float]:
    return {
        "at_ms": round(boot_ms(), 1),
        "acknowledged": sum(client.acknowledged for client in clients),
        "failed": sum(client.failed for client in clients),
        "unknown": sum(client.unknown for client in clients),
        "refused_connects": sum(client.refused_connects for client in clients),
    }


def _say(what: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _stop_at_word(stop: threading.Event) -> None:
    sys.stdin.readline()
    stop.set()


def run(job: Job, stop: threading.Event) -> None:
    """Runs the clients until `stop`, then writes their attempts."""
    clients = [Client(job, index, stop) for index in range(job.clients)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    while not stop.wait(_REPORT_S):
        _say(_count(clients))
    for thread in threads:
        thread.join()
    attempts = [asdict(attempt) for client in clients for attempt in client.attempts]
    Path(job.attempts_file).write_text(json.dumps(attempts, separators=(",", ":")))
    _say({**_count(clients), "done": True})


def main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    stop = threading.Event()
    threading.Thread(target=_stop_at_word, args=(stop,), daemon=True).start()
    try:
        run(job, stop)
    except BrokenPipeError:
        stop.set()


if __name__ == "__main__":
    main()
