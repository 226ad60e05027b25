"""The SQLite file of the embedded store: keys, values and one counter of revisions for all of them.

* **WAL, synchronous=FULL.** One fsync per change, before it is answered; a rollback journal needs three. What was
  answered survives a kill and a power failure, and is replayed from the log at the next start.
* **locking_mode=EXCLUSIVE.** The file has one owner, found out at the start; the kernel drops the lock with the
  process, so nothing stale is left after a kill. One owner also means no shared memory beside the file.
* **The counter starts at the wall clock.** A file that was lost and begun again then continues above the revisions of
  the old one, and a change that was meant for the old one meets a conflict instead of a coincidence.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble
from twinstar.store.base import ABSENT, Applied, Conflict, Versioned

_SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS about (cluster TEXT NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS value (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
"""


class Table:
    """Not thread-safe and not shared: one process, one loop. So its answers are linearizable as they come."""

    def __init__(self, file: Path, cluster: str, first_revision: int) -> None:
        """Opens or makes the file. Raises EnvironmentTrouble when it is in use, unusable, or another cluster's."""
        self._file = file
        try:
            self._database = sqlite3.connect(file, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise EnvironmentTrouble(f"The store's file {file} cannot be opened ({error}): check its folder.") from None
        try:
            self._prepare(cluster, first_revision)
        except (sqlite3.Error, EnvironmentTrouble) as error:
            self._database.close()
            raise _trouble(file, error) from None

    def read(self, key: str) -> Versioned | None:
        row = self._database.execute("SELECT value, revision FROM value WHERE key = ?", (key,)).fetchone()
        return Versioned(key, row[0], row[1]) if row else None

    def read_all(self, prefix: str) -> list[Versioned]:
        """In the order of the keys. The table is small: looking at each key is quick enough."""
        question = "SELECT key, value, revision FROM value WHERE substr(key, 1, ?) = ? ORDER BY key"
        return [Versioned(*row) for row in self._database.execute(question, (len(prefix), prefix))]

    def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> Applied | Conflict:
        """Durable when it returns. Raises sqlite3.Error when the disk refuses; then nobody knows what it holds."""
        current = self.read(key)
        if (current.revision if current else ABSENT) != expected_revision:
            return Conflict(current)
        revision = self._change("INSERT OR REPLACE INTO value (key, value, revision) VALUES (?, ?, ?)", key, value)
        return Applied(revision)

    def delete(self, key: str) -> int | None:
        """The revision of the deletion, None if there was nothing to delete. Raises sqlite3.Error."""
        return self._change("DELETE FROM value WHERE key = ?", key) if self.read(key) else None

    @property
    def revision(self) -> int:
        """Of the last change."""
        return int(self._database.execute("SELECT revision FROM about").fetchone()[0])

    def close(self) -> None:
        self._database.close()

    def _change(self, statement: str, key: str, value: bytes | None = None) -> int:
        revision = self.revision + 1
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.execute(statement, (key,) if value is None else (key, value, revision))
            self._database.execute("UPDATE about SET revision = ?", (revision,))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        return revision

    def _prepare(self, cluster: str, first_revision: int) -> None:
        for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            self._database.execute(f"PRAGMA {setting}").fetchall()
        if self._database.execute("PRAGMA user_version").fetchone()[0] not in (0, _SCHEMA):
            raise EnvironmentTrouble(
                f"The store's file {self._file} was written by a newer Twinstar: run that version."
            )
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN IMMEDIATE")
        row = self._database.execute("SELECT cluster FROM about").fetchone()
        if row is None:
            self._database.execute("INSERT INTO about VALUES (?, ?)", (cluster, first_revision))
            self._database.execute(f"PRAGMA user_version = {_SCHEMA}")
        self._database.execute("COMMIT")
        _sync_directory(self._file.parent)
        if row is not None and row[0] != cluster:
            raise EnvironmentTrouble(
                f"The store's file {self._file} belongs to cluster {row[0]!r}, not to {cluster!r}: give another file."
            )


def _sync_directory(directory: Path) -> None:
    """A new file's name must survive a power failure too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _trouble(file: Path, error: Exception) -> EnvironmentTrouble:
    if isinstance(error, EnvironmentTrouble):
        return error
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return EnvironmentTrouble(f"Another store process owns {file}: use that one, or stop it first.")
    return EnvironmentTrouble(f"The store's file {file} is of no use ({error}): give another file.")
