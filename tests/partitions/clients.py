"""Clients that read what they write: lists that grow and single values, in rows, through the router's write endpoint.

Whatever happens, there must be one order in which everything that they were told is true (`twinstar.histories`). An
append or a change that got no answer stays open; what a read shows of it may not go away again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from itertools import count

import psycopg

from twinstar.drill.session import Answer, Session, StoppedError, boot_ms
from twinstar.histories.lists import check_lists
from twinstar.histories.operation import Kind, Operation, Outcome
from twinstar.histories.registers import check_registers
from twinstar.histories.verdict import Verdict

LISTS, REGISTERS = "told_lists", "told_registers"
_PAUSE_MS, _RETRY_MS, _DEADLINE_MS = 15.0, 100.0, 3_000.0
_NAMES = ("a", "b", "c")
_LONGEST = 300
"""A list is left for the next one before a read of it takes long."""


def make_tables(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"CREATE TABLE IF NOT EXISTS {LISTS} (key text PRIMARY KEY, elements bigint[])".encode())
        session.execute(f"CREATE TABLE IF NOT EXISTS {REGISTERS} (key text PRIMARY KEY, value bigint)".encode())


class Tellers:
    """Some clients, each with a thread; they connect from the namespace in which they were started."""

    def __init__(self, dsn: str, run: str, clients: int = 3) -> None:
        self._stop = threading.Event()
        self._run = run
        numbers = count(1)
        self._clients = [_Client(dsn, run, client, numbers, self._stop) for client in range(clients)]
        self._threads = [threading.Thread(target=client.work, daemon=True) for client in self._clients]

    def __enter__(self) -> Tellers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def told(self) -> list[Operation]:
        return [operation for client in self._clients for operation in client.told]

    def served(self, times: int) -> None:
        """Waits until each client has had so many acknowledgements more. Raises TimeoutError after 60 s."""
        deadline_ms = boot_ms() + 60_000
        wanted = [client.acknowledged + times for client in self._clients]
        while any(client.acknowledged < each for client, each in zip(self._clients, wanted, strict=True)):
            if boot_ms() > deadline_ms:
                raise TimeoutError
            time.sleep(0.02)

    def verdicts(self, dsn: str) -> tuple[Verdict, Verdict]:
        """Of the lists and of the registers, once all have ended; `dsn` has the last word."""
        everything = self.told + list(_last_word(dsn, self._run))
        lists = [o for o in everything if str(o.key).startswith("list")]
        return check_lists(lists), check_registers(o for o in everything if str(o.key).startswith("register"))


class _Client:
    """One client and everything that it was told."""

    def __init__(self, dsn: str, run: str, name: int, numbers: Iterator[int], stop: threading.Event) -> None:
        self._session = Session(dsn, _DEADLINE_MS, stop)
        self._run, self._name, self._numbers, self._stop = run, name, numbers, stop
        self._chance = random.Random(f"{run} {name}")
        self._newest = 0
        self._seen: dict[str, int | None] = {}
        self.told: list[Operation] = []
        self.acknowledged = 0

    def work(self) -> None:
        while not self._stop.is_set():
            try:
                served = self._session.connect() and self._something()
            except StoppedError:
                break
            time.sleep((_PAUSE_MS if served else self._chance.uniform(1, 2) * _RETRY_MS) / 1000)
        self._session.drop()

    def _something(self) -> bool:
        choices = (self._append, self._read_list, self._write, self._read, self._change)
        return self._chance.choice(choices)().outcome is Outcome.ACKNOWLEDGED

    def _append(self) -> Answer:
        self._newest = next(self._numbers)
        answer = self._session.ask(
            f"INSERT INTO {LISTS} VALUES ('{self._list()} {self._run}', ARRAY[{self._newest}::bigint]) "
            f"ON CONFLICT (key) DO UPDATE SET elements = {LISTS}.elements || excluded.elements"
        )
        return self._note(answer, Kind.APPEND, self._list(), self._newest)

    def _read_list(self) -> Answer:
        answer = self._session.ask(f"SELECT elements FROM {LISTS} WHERE key = '{self._list()} {self._run}'")
        return self._note(answer, Kind.READ, self._list(), _elements(answer.value))

    def _list(self) -> str:
        return f"list {self._newest // _LONGEST}"

    def _write(self) -> Answer:
        key, value = self._register(), next(self._numbers)
        answer = self._session.ask(
            f"INSERT INTO {REGISTERS} VALUES ('{key} {self._run}', {value}) "
            f"ON CONFLICT (key) DO UPDATE SET value = {value}"
        )
        return self._note(answer, Kind.WRITE, key, value)

    def _read(self) -> Answer:
        key = self._register()
        answer = self._session.ask(f"SELECT value FROM {REGISTERS} WHERE key = '{key} {self._run}'")
        value = int(answer.value) if answer.value else None
        if answer.outcome is Outcome.ACKNOWLEDGED:
            self._seen[key] = value
        return self._note(answer, Kind.READ, key, value)

    def _change(self) -> Answer:
        """From the value that it saw last: perhaps somebody was faster."""
        key, value = self._register(), next(self._numbers)
        expected = self._seen.get(key)
        if expected is None:
            return self._read()
        answer = self._session.ask(
            f"UPDATE {REGISTERS} SET value = {value} WHERE key = '{key} {self._run}' AND value = {expected}"
        )
        refused = answer.outcome is Outcome.ACKNOWLEDGED and answer.changed == 0
        return self._note(answer, Kind.UNEQUAL if refused else Kind.COMPARE_AND_SET, key, value, expected)

    def _register(self) -> str:
        return f"register {self._chance.choice(_NAMES)}"

    def _note(
        self, answer: Answer, kind: Kind, key: str, value: int | tuple[int, ...] | None, expected: int | None = None
    ) -> Answer:
        times = answer.started_ms, answer.ended_ms
        self.acknowledged += answer.outcome is Outcome.ACKNOWLEDGED
        self.told.append(Operation(self._name, kind, key, *times, answer.outcome, value, expected, "the router"))
        return answer


def _last_word(dsn: str, run: str) -> Iterator[Operation]:
    """A read of everything, so that what has gone is missed."""
    for table in (LISTS, REGISTERS):
        started_ms = boot_ms()
        with psycopg.connect(dsn, autocommit=True) as session:
            rows = session.execute(f"SELECT * FROM {table} WHERE key LIKE %s".encode(), [f"% {run}"]).fetchall()
        for key, value in rows:
            held = tuple(value) if isinstance(value, list) else value
            yield Operation("the last", Kind.READ, key.removesuffix(f" {run}"), started_ms, boot_ms(), value=held)


def _elements(text: str | None) -> tuple[int, ...]:
    """PostgreSQL's way to write an array of numbers."""
    return tuple(map(int, text.strip("{}").split(","))) if text else ()
