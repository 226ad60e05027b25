"""The clients of a comparison's measures, as a process of their own: ``python -m twinstar.compare.clients``.

The job comes as one JSON line on standard input. When all clients are connected the process says ``ready``, begins at
the word ``go``, says ``done`` when the job's time is over, and writes what everybody was told into the job's file. The
end of its input ends it, so that no client outlives a comparison that died.

Clients are as strict about what they were told as a drill's (`drill.session`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from twinstar.compare.tables import COUNTERS, TABLE
from twinstar.drill.session import Answer, Session, StoppedError, boot_ms
from twinstar.histories.operation import Outcome

_FILLER = "x" * 60
_STALENESS_PAUSE_MS = 20.0
_READER_PAUSE_MS = 0.5
_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Job:
    """What the clients of one process do."""

    kind: str
    """A key of `_KINDS`."""
    dsns: tuple[str, ...]
    """One for each client."""
    seconds: float
    seed: int
    result_file: str = ""
    rows: int = 1
    """Among which the clients choose."""
    first: int = 0
    """The number of the first client."""
    deadline_ms: float = 5_000.0


@dataclass(slots=True)
class Told:
    """Everything that one client was told. Times are the boot clock's."""

    client: int
    node: str = ""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """(when, milliseconds that it took) of each acknowledged operation."""
    failed: list[tuple[float, str, str]] = field(default_factory=list)
    """(when, outcome, why)."""
    numbers: list[tuple[int, float]] = field(default_factory=list)
    """Of the clients of `staleness`: (number, when it was acknowledged, or first seen)."""


class Client:
    """One client: its session, its choice of rows, and what it was told."""

    def __init__(self, job: Job, index: int, stop: threading.Event) -> None:
        self.job = job
        self.index = job.first + index
        self.told = Told(self.index)
        self.chance = random.Random(f"{job.seed} {self.index}")
        self.stop = stop
        self.number = 0
        self._session = Session(job.dsns[index], job.deadline_ms, stop)

    def connect(self) -> bool:
        """`cluster_name` is ``cluster/member``."""
        if not self._session.connect():
            return False
        answer = self._session.ask("SHOW cluster_name")
        self.told.node = (answer.value or "").rpartition("/")[2]
        return answer.outcome is Outcome.ACKNOWLEDGED

    def run(self, step: Callable[[Client], None]) -> None:
        """Until the time is over."""
        with contextlib.suppress(StoppedError):
            while not self.stop.is_set():
                if self._session.connected or self._session.connect():
                    step(self)
                else:
                    time.sleep(_RETRY_S)
        self._session.drop()

    def row(self) -> int:
        return self.chance.randrange(self.job.rows)

    def ask(self, statement: str) -> Answer | None:
        """What was acknowledged; everything else is noted down."""
        answer = self._session.ask(statement)
        if answer.outcome is Outcome.ACKNOWLEDGED:
            return answer
        self.told.failed.append((answer.ended_ms, answer.outcome.value, answer.why))
        return None

    def done(self, first: Answer, last: Answer) -> None:
        self.told.answers.append((last.ended_ms, last.ended_ms - first.started_ms))


def _write(client: Client) -> None:
    client.number += 1
    answer = client.ask(
        f"INSERT INTO {TABLE} (kind, id, words) VALUES ('write{client.job.seed}.{client.index}', {client.number}, "
        f"'{_FILLER}')"
    )
    if answer:
        client.done(answer, answer)


def _read(client: Client) -> None:
    answer = client.ask(f"SELECT words FROM {TABLE} WHERE kind = 'read' AND id = {client.row()}")
    if answer:
        client.done(answer, answer)


def _increment(client: Client) -> None:
    answer = client.ask(f"UPDATE {TABLE} SET n = n + 1 WHERE kind = 'increments' AND id = {client.row()}")
    if answer:
        client.done(answer, answer)


def _count(client: Client) -> None:
    answer = client.ask(f"UPDATE {COUNTERS} SET n = n + 1 WHERE id = {client.row()}")
    if answer:
        client.done(answer, answer)


def _naive(client: Client) -> None:
    """As an application does that reads a row, computes, and writes it back."""
    where = f"WHERE kind = 'naive_increments' AND id = {client.row()}"
    read = client.ask(f"SELECT n FROM {TABLE} {where}")
    if read is None or read.value is None:
        return
    written = client.ask(f"UPDATE {TABLE} SET n = {int(read.value) + 1} {where}")
    if written:
        client.done(read, written)


def _update(client: Client) -> None:
    where = f"WHERE kind = 'updates' AND id = {client.row()}"
    read = client.ask(f"SELECT words FROM {TABLE} {where}")
    if read is None or read.value is None:
        return
    client.number += 1
    written = client.ask(f"UPDATE {TABLE} SET words = '{read.value} {client.index}.{client.number}' {where}")
    if written:
        client.done(read, written)


def _staleness(client: Client) -> None:
    """The first client writes a number that grows, the others look for it."""
    if client.index == 0:
        client.number += 1
        answer = client.ask(f"UPDATE {TABLE} SET n = {client.number} WHERE kind = 'staleness'")
        if answer:
            client.told.numbers.append((client.number, answer.ended_ms))
        time.sleep(_STALENESS_PAUSE_MS / 1000)
        return
    answer = client.ask(f"SELECT n FROM {TABLE} WHERE kind = 'staleness'")
    if answer and answer.value is not None and int(answer.value) > client.number:
        client.number = int(answer.value)
        client.told.numbers.append((client.number, answer.ended_ms))
    time.sleep(_READER_PAUSE_MS / 1000)


_KINDS: dict[str, Callable[[Client], None]] = {
    "write": _write,
    "read": _read,
    "increments": _increment,
    "counters": _count,
    "naive_increments": _naive,
    "updates": _update,
    "staleness": _staleness,
}


def run(job: Job) -> int:
    """Returns the exit status: 1 when a client could not connect."""
    stop = threading.Event()
    clients = [Client(job, index, stop) for index in range(len(job.dsns))]
    if not all(client.connect() for client in clients):
        sys.stderr.write("A client of the comparison cannot connect.\n")
        return 1
    _say("ready")
    if sys.stdin.readline().strip() != "go":
        return 1
    threading.Thread(target=_end_with_input, daemon=True).start()
    began_ms = boot_ms()
    threads = [threading.Thread(target=client.run, args=(_KINDS[job.kind],)) for client in clients]
    for thread in threads:
        thread.start()
    stop.wait(job.seconds)
    stop.set()
    ended_ms = boot_ms()
    for thread in threads:
        thread.join()
    _say("done")
    told = [asdict(client.told) for client in clients]
    Path(job.result_file).write_text(json.dumps({"from_ms": began_ms, "to_ms": ended_ms, "clients": told}))
    return 0


def _end_with_input() -> None:
    """Whoever started this is gone, or in a hurry. The clients are in the middle of statements: no use to wait."""
    if not sys.stdin.readline():
        os._exit(1)


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    line = sys.stdin.readline()
    if not line:  # whoever wanted them was interrupted before it said for what
        sys.exit(1)
    raw = json.loads(line)
    sys.exit(run(Job(**{**raw, "dsns": tuple(raw["dsns"])})))


if __name__ == "__main__":
    main()
