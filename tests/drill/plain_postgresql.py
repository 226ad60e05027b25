"""A plain PostgreSQL server without Twinstar, for tests of the drill's clients."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from tests.database_user import database_user
from tests.room import make_room
from twinstar.ports import procfs
from twinstar.ports.free_ports import find_free_ports


def find_bin_dir() -> Path | None:
    """An installed PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


class PlainPostgresql:
    """One server in a directory of its own."""

    def __init__(self, bin_dir: Path) -> None:
        self._bin = bin_dir
        user = database_user()
        self._user = user.name if user else None
        self.directory = make_room("plain-")
        if self._user:
            shutil.chown(self.directory, self._user)
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [bin_dir / "initdb", "-D", self._data, "-U", "app", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"],
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        self.port = find_free_ports("127.0.0.1", 1)[0]

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=app dbname=postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._bin / "postgres", "-D", self._data, "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.directory}"),
                    *("-c", "restart_after_crash=off"),
                ],
                user=self._user,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.dsn).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.directory / "log").read_text()[-800:]
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self, sent: signal.Signals = signal.SIGQUIT) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sent)
            self._process.wait(30)

    def wait_for_the_end(self) -> None:
        """Of all its processes: they outlive their main one by a moment, serve meanwhile, and hold its memory."""
        until = time.monotonic() + 30
        while left := procfs.of_directory(self._data):
            assert time.monotonic() < until, f"these go on without their main process: {left}"
            time.sleep(0.01)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
