"""The tables that a comparison's clients read and write: made for it, and the same for every contestant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from twinstar.drill.target import Target, View
from twinstar.model.errors import EnvironmentTrouble

TABLE = "twinstar_compare"
"""Rows of every kind, told apart by the key's first column."""
COUNTERS = "twinstar_compare_counters"
"""Where every node takes writes, `n` is declared as a counter."""

READ_ROWS = 1_000
HOT_ROWS = 10
"""So few rows do all clients of the conflicts' measure change."""
_HOT_KINDS = ("increments", "naive_increments", "updates")
_PAUSE_S = 0.05


def make(target: Target, view: View, patience_s: float) -> None:
    """Returns when every node has the first rows. Raises TwinstarError."""
    for dsn in _writable(view):
        execute(
            dsn,
            f"CREATE TABLE {TABLE} (kind text, id bigint, n bigint NOT NULL DEFAULT 0, words text NOT NULL DEFAULT '', "
            "PRIMARY KEY (kind, id))",
        )
        execute(dsn, f"CREATE TABLE {COUNTERS} (id bigint PRIMARY KEY, n bigint NOT NULL DEFAULT 0)")
    if view.all_write:
        target.take_in(TABLE)
        target.take_in(COUNTERS, ("n",))
    first = _writable(view)[0]
    read = f"INSERT INTO {TABLE} (kind, id, words) SELECT 'read', i, repeat('x', 60) FROM generate_series(0, %s) i"
    execute(first, read, READ_ROWS - 1)
    for kind in _HOT_KINDS:
        hot = f"INSERT INTO {TABLE} (kind, id) SELECT %s, i FROM generate_series(0, %s) i"
        execute(first, hot, kind, HOT_ROWS - 1)
    execute(first, f"INSERT INTO {COUNTERS} (id) SELECT i FROM generate_series(0, %s) i", HOT_ROWS - 1)
    execute(first, f"INSERT INTO {TABLE} (kind, id) VALUES ('staleness', 0)")
    until_equal(view, f"SELECT count(*) FROM {TABLE}", patience_s)
    until_equal(view, f"SELECT count(*) FROM {COUNTERS}", patience_s)


def until_equal(view: View, query: str, patience_s: float) -> list[list[tuple[Any, ...]]]:
    """What each node answers, once all answer the same, or when `patience_s` have passed."""
    until = time.monotonic() + patience_s
    while True:
        answers = [execute(member.dsn, query) for member in view.members]
        if all(answer == answers[0] for answer in answers) or time.monotonic() > until:
            return answers
        time.sleep(_PAUSE_S)


def _writable(view: View) -> list[str]:
    return [member.dsn for member in view.members] if view.all_write else [view.member(view.leader).dsn]


def execute(dsn: str, statement: str, *values: str | int) -> list[tuple[Any, ...]]:
    """The rows, if there are any. Raises EnvironmentTrouble."""
    given: Sequence[str | int] | None = values or None
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=15) as connection:
            cursor = connection.execute(statement.encode(), given)
            return cursor.fetchall() if cursor.description else []
    except psycopg.Error as trouble:
        raise EnvironmentTrouble(
            f"The database does not do what the comparison needs ({' '.join(str(trouble).split())}): compare again."
        ) from trouble
