"""The clients of a drill, as a process of their own: ``python -m twinstar.drill.workload``.

Each client writes numbered rows in autocommit, one statement at a time, as a real application would through its
driver (libpq), and is strict about what it was told (`session`).

The job comes as one JSON line on standard input; ``stop``, or the end of the input, ends the run (so that no client
outlives a drill that died). Counters go to standard output as JSON lines ten times a second, the attempts into the
job's file at the end.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from twinstar.drill.history import Attempt
from twinstar.drill.session import Answer, Session, StoppedError, boot_ms
from twinstar.histories.operation import Outcome

TABLE = "twinstar_drill"
_REPORT_S = 0.1


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
    ask_where: bool = False
    """Each new session asks which node it is on."""
    first: int = 0
    """The first client's number."""


class Client:
    """One client: its session, its counter, and everything it was told."""

    def __init__(self, job: Job, index: int, stop: threading.Event) -> None:
        self._job = job
        self._index = index
        self._stop = stop
        self._session = Session(job.dsn, job.deadline_ms, stop)
        self._number = 1
        self._attempt = 0
        self._node = ""
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
        self._session.drop()

    def _connected(self) -> bool:
        fresh = not self._session.connected
        connected = self._session.connect() and (not fresh or self._knows_where())
        self.refused_connects += not connected
        return connected

    def _knows_where(self) -> bool:
        """`cluster_name` is ``cluster/member``."""
        if not self._job.ask_where:
            return True
        answer = self._session.ask("SHOW cluster_name")
        self._node = (answer.value or "").rpartition("/")[2]
        return answer.outcome is Outcome.ACKNOWLEDGED

    def _write(self) -> bool:
        answer = self._session.ask(
            f"INSERT INTO {TABLE} (run, client, number, attempt) "
            f"VALUES ('{self._job.run}', {self._index}, {self._number}, {self._attempt})"
        )
        self._record(answer)
        return answer.outcome is Outcome.ACKNOWLEDGED

    def _record(self, answer: Answer) -> None:
        which = self._index, self._number, self._attempt
        times = answer.started_ms, answer.ended_ms
        self.attempts.append(Attempt(*which, *times, answer.outcome, answer.why, self._node))
        if answer.outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged += 1
            self._number, self._attempt = self._number + 1, 0
            return
        self._attempt += 1
        self.unknown += answer.outcome is Outcome.UNKNOWN
        self.failed += answer.outcome is Outcome.FAILED


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
    clients = [Client(job, job.first + index, stop) for index in range(job.clients)]
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
    line = sys.stdin.readline()
    if not line:  # whoever wanted them was interrupted before it said for what
        return
    job = Job(**json.loads(line))
    stop = threading.Event()
    threading.Thread(target=_stop_at_word, args=(stop,), daemon=True).start()
    try:
        run(job, stop)
    except BrokenPipeError:
        stop.set()


if __name__ == "__main__":
    main()
