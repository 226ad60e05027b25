"""`--busy-standby`: a long repeatable-read query on every standby, and on the leader what makes it stand in the way.

The query alone disturbs nobody. Rows that change and are vacuumed on the leader after it began make replay on the
standby wait for it (a recovery conflict): log is received and confirmed, but not replayed, which is the state in which
a failover has to end the query before it can promote.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Self

import psycopg

from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble

CHURN_TABLE = "twinstar_drill_churn"
_CHURN_PAUSE_S = 0.25
_SNAPSHOT = f"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {CHURN_TABLE}"


class BusyStandbys:
    """A context manager around one repetition."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sessions: list[psycopg.Connection] = []
        self._stop = threading.Event()
        self._churner = threading.Thread(target=self._churn, daemon=True)

    def __enter__(self) -> Self:
        try:
            make_churn_table(self._view.write)
            for standby in self._view.standbys:
                session = psycopg.connect(standby.dsn, autocommit=True, connect_timeout=5)
                self._sessions.append(session)
                session.execute(_SNAPSHOT.encode())
                session.pgconn.send_query(b"SELECT pg_sleep(600)")
        except psycopg.Error as trouble:
            self._close()
            raise EnvironmentTrouble(
                f"The standbys cannot be kept busy ({' '.join(str(trouble).split())}): look at `twinstar status`."
            ) from None
        self._churner.start()
        return self

    def _churn(self) -> None:
        while not self._stop.wait(_CHURN_PAUSE_S):
            with contextlib.suppress(psycopg.Error), self._writer() as session:
                while not self._stop.wait(_CHURN_PAUSE_S):
                    session.execute(f"UPDATE {CHURN_TABLE} SET value = value + 1".encode())
                    session.execute(f"VACUUM {CHURN_TABLE}".encode())

    def _writer(self) -> psycopg.Connection:
        return psycopg.connect(self._view.write, autocommit=True, connect_timeout=5)

    def _close(self) -> None:
        for session in self._sessions:
            session.close()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._close()
        self._churner.join(timeout=15)


def make_churn_table(dsn: str) -> None:
    """Raises psycopg.Error."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=15) as session:
        session.execute(f"CREATE TABLE IF NOT EXISTS {CHURN_TABLE} (id int PRIMARY KEY, value int)".encode())
        session.execute(
            f"INSERT INTO {CHURN_TABLE} SELECT i, 0 FROM generate_series(1, 200) AS i ON CONFLICT DO NOTHING".encode()
        )


def drop_churn_table(dsn: str) -> None:
    """Raises psycopg.Error."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=15) as session:
        session.execute(f"DROP TABLE IF EXISTS {CHURN_TABLE}".encode())
