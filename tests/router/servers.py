"""Plain PostgreSQL servers that ask for SCRAM on TCP: what a router has behind it, without Twinstar around them."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.engine.postgresql.lab import AS_ROOT, SYSTEM_USER, command, environment, installed, system_user, until
from tests.room import make_room
from twinstar.ports.free_ports import find_free_ports

USER = "app"
PASSWORD = secrets.token_hex(8)
OPEN_USER = "raw"
"""Needs no password, so that a test may speak the protocol by hand."""
HBA = f"local all all trust\nhost all {OPEN_USER} all trust\nhost all,replication all all scram-sha-256\n"


@dataclass
class Database:
    """One server; `name` is its `cluster_name`, so that a session can ask where it is."""

    name: str
    bin: Path
    root: Path
    port: int
    settings: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    version: int = 0

    @property
    def data(self) -> Path:
        return self.root / self.name

    @property
    def log(self) -> str:
        return (self.root / f"{self.name}.log").read_text()

    def make(self) -> None:
        password = self.root / "password"
        password.write_text(PASSWORD)
        _give(password)
        command(
            *(self.bin / "initdb", "-D", self.data, "-U", USER, "--pwfile", password, "-A", "scram-sha-256"),
            *("--no-sync", "--locale=C", "-E", "UTF8"),
        )
        self.write("pg_hba.conf", HBA)
        self.write("postgresql.conf", "".join(f"{key} = '{value}'\n" for key, value in self._all_settings().items()))

    def _all_settings(self) -> dict[str, object]:
        own = {"port": self.port, "listen_addresses": "127.0.0.1", "cluster_name": self.name}
        spare = {"fsync": "off", "max_connections": 700, "shared_buffers": "32MB", "unix_socket_directories": self.root}
        # A server notices only by this that the client of a statement at work is gone.
        return {**own, **spare, "client_connection_check_interval": "100ms", **self.settings}

    def write(self, path: str, text: str | bytes) -> None:
        file = self.data / path
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(0o600)
        _give(file)

    def start(self) -> Database:
        with (self.root / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd="/", **system_user(),
            )  # fmt: skip
        until(self._ready, f"{self.name} accepts connections")
        with self.connect() as session:
            session.execute(f"do $$ begin create role {OPEN_USER} login; exception when duplicate_object then end $$")
            self.version = session.info.server_version // 10_000
        return self

    def _ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"{self.name} ended: {self.log[-500:]}"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Straight to the server, past every router."""
        return connect(self.port, **options)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)


def connect(port: int, **options: Any) -> psycopg.Connection[Any]:
    defaults = {"host": "127.0.0.1", "user": USER, "password": PASSWORD, "dbname": "postgres", "connect_timeout": 20}
    return psycopg.connect(autocommit=True, port=port, **{**defaults, **options})


@contextmanager
def databases(version: str, *names: str, **settings: object) -> Iterator[list[Database]]:
    """Running servers of a version, each made anew, and no trace of them afterwards."""
    root = make_room("router-")
    _give(root)
    ports = find_free_ports("127.0.0.1", len(names))
    made = [
        Database(name, installed()[version], root, port, dict(settings))
        for name, port in zip(names, ports, strict=True)
    ]
    try:
        for database in made:
            database.make()
            database.start()
        yield made
    finally:
        for database in made:
            database.stop()
        shutil.rmtree(root)


def _give(path: Path) -> None:
    if AS_ROOT:
        shutil.chown(path, SYSTEM_USER, SYSTEM_USER)
