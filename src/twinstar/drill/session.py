"""One client's session, strict about what it was told.

* Every statement and every connect has a deadline; when it passes, the client *closes its socket*. It never cancels:
  a cancelled commit wait answers success for a row that only the leader has.
* A commit that returns together with a warning is unknown, not acknowledged: that is how PostgreSQL says that it
  stopped waiting for its standbys.
* Only an ordinary error settles that a statement had no effect. A lost connection, or a session ended from outside,
  settles nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import dataclass

from psycopg import OperationalError, pq

from twinstar.histories.operation import Outcome

_POLL_MS = 100.0
"""Waiting clients look this often whether they are to stop."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement was answered. Its times are milliseconds on the boot clock."""

    started_ms: float
    ended_ms: float
    outcome: Outcome
    why: str = ""
    changed: int = 0
    """How many rows it changed, or found."""
    value: str | None = None
    """The first row's first column, as text."""


def boot_ms() -> float:
    """Milliseconds on the boot clock: the same in every process of this machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


class DeadlineError(Exception):
    """Neither an answer nor an end within the deadline."""


class StoppedError(Exception):
    """The run is over."""


class Session:
    """A connection that is made again after anything but an acknowledgement."""

    def __init__(self, dsn: str, deadline_ms: float, stop: threading.Event) -> None:
        self._dsn = dsn
        self._deadline_ms = deadline_ms
        self._stop = stop
        self._connection: pq.abc.PGconn | None = None
        self._warned = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def connect(self) -> bool:
        """Whether there is a connection, after trying once. Raises StoppedError."""
        if self._connection is not None:
            return True
        connection = pq.PGconn.connect_start(self._dsn.encode())
        self._connection = connection
        with contextlib.suppress(DeadlineError):
            self._finish_connecting(connection)
        if connection.status == pq.ConnStatus.OK:
            connection.nonblocking = 1
            connection.notice_handler = self._on_notice
            return True
        self.drop()
        return False

    def _finish_connecting(self, connection: pq.abc.PGconn) -> None:
        until = boot_ms() + self._deadline_ms
        if connection.status == pq.ConnStatus.BAD:
            return
        wanted = pq.PollingStatus.WRITING
        while wanted not in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
            self._wait(connection, until, write=wanted == pq.PollingStatus.WRITING, stoppable=True)
            wanted = pq.PollingStatus(connection.connect_poll())

    def ask(self, statement: str) -> Answer:
        """One statement on the connection that there must be. It ends with anything but an acknowledgement."""
        connection = self._connection
        assert connection is not None
        self._warned = False
        started_ms = boot_ms()
        outcome, why, result = self._execute(connection, statement, started_ms + self._deadline_ms)
        ended_ms = boot_ms()
        if outcome is not Outcome.ACKNOWLEDGED or result is None:
            self.drop()
            return Answer(started_ms, ended_ms, outcome, why)
        value = result.get_value(0, 0) if result.ntuples else None
        text = None if value is None else value.decode()
        return Answer(started_ms, ended_ms, outcome, why, result.command_tuples or 0, text)

    def _execute(
        self, connection: pq.abc.PGconn, statement: str, until_ms: float
    ) -> tuple[Outcome, str, pq.abc.PGresult | None]:
        try:
            connection.send_query(statement.encode())
            while connection.flush():
                self._wait(connection, until_ms, write=True)
            while connection.is_busy():
                self._wait(connection, until_ms)
                connection.consume_input()
        except DeadlineError:
            return Outcome.UNKNOWN, "deadline", None
        except OperationalError as trouble:
            return Outcome.UNKNOWN, _line(str(trouble)), None
        return self._outcome(connection)

    def _outcome(self, connection: pq.abc.PGconn) -> tuple[Outcome, str, pq.abc.PGresult | None]:
        first = connection.get_result()
        if first is None:
            return Outcome.UNKNOWN, "connection lost", None
        while connection.get_result() is not None:
            pass
        outcome, why = classify(first)
        if self._warned and outcome is Outcome.ACKNOWLEDGED:
            return Outcome.UNKNOWN, "acknowledged with a warning", None
        return outcome, why, first

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

    def drop(self) -> None:
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
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return Outcome.ACKNOWLEDGED, ""
    severity = (result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"").decode()
    sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    why = f"{sqlstate} {_line(result.get_error_message())}".strip()
    settled = sqlstate and severity == "ERROR" and not sqlstate.startswith(("08", "57P", "40003"))
    return (Outcome.FAILED if settled else Outcome.UNKNOWN), why


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
