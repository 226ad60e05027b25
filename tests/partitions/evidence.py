"""What the clients of one test were told, held against what is there in the end.

Every row carries who wrote it: the server's address, its timeline (a promotion each) and the names that had to confirm,
which carry the epoch. From that and from the clients' histories follows

* nothing that was acknowledged is missing, and nothing is there that nobody wrote (`quorum`);
* no epoch and no timeline has acknowledged on two servers;
* no write that was *begun* after a later leader had acknowledged one was acknowledged by an earlier leader. (One that
  was begun before may be: its confirmation may have been under way.)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from twinstar.drill.driver import make_table
from twinstar.drill.history import Attempt, Key, audit
from twinstar.drill.workload import TABLE
from twinstar.histories.operation import Outcome

_COLUMNS = {
    "server": "inet_server_addr()::text",
    "timeline": "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
    "names": "current_setting('synchronous_standby_names')",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is there, and who wrote it. `epoch` is 0 where nobody had to confirm."""

    run: str
    key: Key
    server: str
    timeline: int
    epoch: int


def make_witnessed_table(dsn: str) -> None:
    """The drill's table, whose rows say who wrote them."""
    make_table(dsn)
    columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} text DEFAULT {value}" for name, value in _COLUMNS.items())
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"ALTER TABLE {TABLE} {columns}".encode())


def rows_of(dsn: str, runs: Iterable[str]) -> list[Row]:
    statement = f"SELECT run, client, number, attempt, server, timeline, names FROM {TABLE} WHERE run = ANY(%s)"
    with psycopg.connect(dsn, autocommit=True) as session:
        found = session.execute(statement.encode(), [list(runs)]).fetchall()
    return [Row(run, (c, n, a), server, int(line, 16), _epoch(names)) for run, c, n, a, server, line, names in found]


def _epoch(names: str) -> int:
    tags = {int(tag) for tag in re.findall(r"@(\d+)", names)}
    assert len(tags) <= 1, f"one leadership waits for two epochs: {names}"
    return next(iter(tags), 0)


def objections(told: Mapping[str, Sequence[Attempt]], rows: Sequence[Row], *, may_lose: bool = False) -> list[str]:
    """What must not have happened, a sentence each. `told`: the attempts of each run."""
    return [*([] if may_lose else _untrue(told, rows)), *_shared(rows), *_late(told, rows)]


def _untrue(told: Mapping[str, Sequence[Attempt]], rows: Sequence[Row]) -> list[str]:
    found = []
    for run, attempts in told.items():
        result = audit(attempts, [row.key for row in rows if row.run == run])
        found += [f"{run}: {key} was acknowledged and is gone" for key in result.lost]
        found += [f"{run}: {key} is there and nobody wrote it" for key in result.phantoms]
    return found


def _shared(rows: Sequence[Row]) -> list[str]:
    servers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        servers[f"timeline {row.timeline}"].add(row.server)
        if row.epoch:
            servers[f"epoch {row.epoch}"].add(row.server)
    return [f"{term} acknowledged on {', '.join(sorted(each))}" for term, each in servers.items() if len(each) > 1]


def _late(told: Mapping[str, Sequence[Attempt]], rows: Sequence[Row]) -> list[str]:
    written = {(row.run, row.key): row for row in rows}
    by_line: dict[int, list[tuple[str, Attempt]]] = defaultdict(list)
    for run, attempts in told.items():
        line = 0
        for attempt in (each for each in attempts if each.outcome is Outcome.ACKNOWLEDGED):
            row = written.get((run, attempt.key))
            line = row.timeline if row else line  # One that is gone was written where this client wrote before.
            by_line[line].append((run, attempt))
    first_ms = {line: min(each.ended_ms for _, each in acknowledged) for line, acknowledged in by_line.items()}
    return [
        f"{run}: timeline {line} acknowledged {attempt.key}, begun when timeline {later} had acknowledged a write"
        for line, acknowledged in by_line.items()
        for later in first_ms
        if later > line
        for run, attempt in acknowledged
        if attempt.started_ms > first_ms[later]
    ]
