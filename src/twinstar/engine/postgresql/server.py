"""One member's PostgreSQL server: its files, its processes and our connections to it. The engine's operations are
functions over this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from twinstar.engine.base import Progress
from twinstar.engine.postgresql import connections, own_conf
from twinstar.engine.postgresql.connections import DroppingConnection, LocalConnection, Rows
from twinstar.engine.postgresql.files import pid_file
from twinstar.engine.postgresql.settings import REPLICATION_ROLE, Paths, Settings
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.ports.clock import Clock
from twinstar.ports.processes import Finished, Processes, ProcessInfo, Signal


class Server:
    def __init__(self, settings: Settings, clock: Clock, processes: Processes) -> None:
        self.settings = settings
        self.clock = clock
        self.processes = processes
        self._work = LocalConnection(settings, clock)
        # `inspect` has its own, so that a long question (a checkpoint) does not make the database look hung.
        self.watch = LocalConnection(settings, clock)
        self._run = ""

    @property
    def paths(self) -> Paths:
        return self.settings.paths

    # -- SQL and replication commands ---------------------------------------------------------------------------------

    async def query(self, sql: str, deadline_ms: float | None = None) -> Rows:
        """One statement or replication command on the warm connection, as the agent's role. Raises EngineError."""
        return await self._work.query(sql, deadline_ms or self.settings.query_deadline_ms)

    async def query_fresh(self, sql: str, deadline_ms: float) -> Rows:
        """The same on a connection of its own: also for what may take long. Raises EngineError."""
        return await connections.query_fresh(self.settings, self.clock, sql, deadline_ms)

    @asynccontextmanager
    async def remote(self, upstream: Upstream, role: str = REPLICATION_ROLE) -> AsyncIterator[DroppingConnection]:
        """A connection to another member's server, for SQL and replication commands (`connections.fetch`).

        Raises EngineError when it cannot be opened, and for every error of psycopg in the body. Bound it with the
        clock's timeout.
        """
        parameters = connections.remote_parameters(self.settings, upstream.address, role)
        connection: DroppingConnection | None = None
        try:
            connection = await connections.connect(
                {**parameters, "replication": "database", "application_name": "twinstar"}
            )
            yield connection
        except psycopg.Error as error:
            raise EngineError(
                f"The database of {upstream.member} at {upstream.address} refused ({connections.sentence(error)}): "
                "check that it runs and is reached from here."
            ) from error
        finally:
            if connection is not None:
                await connection.close()

    def conninfo(self, upstream: Upstream, role: str = REPLICATION_ROLE, **more: str | int) -> str:
        """A libpq connection string to another member, for ``primary_conninfo`` and for tools; no password in it."""
        return connections.conninfo({**connections.remote_parameters(self.settings, upstream.address, role), **more})

    # -- settings -----------------------------------------------------------------------------------------------------

    def write_settings(self, changes: Mapping[str, str | None]) -> None:
        """Durably sets (None: removes) settings of ours; `reload_signal` lets the server read them."""
        own_conf.change_own(self.paths, changes, self.settings.account)

    def read_settings(self) -> dict[str, str]:
        """The settings of ours as they stand in the file."""
        return own_conf.read_own(self.paths)

    def reload_signal(self) -> bool:
        """Has the server read its configuration again. False when it is not running."""
        pid = self.postmaster()
        return pid is not None and self.processes.signal(pid, Signal.HANGUP)

    # -- processes ----------------------------------------------------------------------------------------------------

    def postmaster(self) -> int | None:
        """The pid of the main process, None when it is gone (or a zombie, or the pid is somebody else's by now)."""
        found = pid_file(self.paths.data)
        run = self.processes.run_id(found.pid) if found else None
        if found is None or run is None:
            return None
        # A pid file outlives its server, and the pid may be used again: ours stands in the data directory.
        if run != self._run:
            if all(process.pid != found.pid for process in self.processes.of_directory(self.paths.data)):
                return None
            self._run = run
        return found.pid

    def run(self) -> str | None:
        """``pid:start time`` of the main process, None when it is gone."""
        return self._run if self.postmaster() is not None else None

    def children(self) -> tuple[ProcessInfo, ...]:
        """The main process's children: title ``postgres: walreceiver …`` and so on. Nothing when it is gone."""
        pid = self.postmaster()
        return self.processes.children_of(pid) if pid is not None else ()

    def signal(self, pid: int, signal: Signal) -> bool:
        """False when there is no such process any more. Raises EnvironmentTrouble when it may not be signalled."""
        return self.processes.signal(pid, signal)

    async def tool(self, name: str, *arguments: str, progress: Progress | None = None) -> Finished:
        """Runs one of PostgreSQL's programs as the database's user, with a known locale and our password file."""
        await self.end_tools()
        place = self.paths.run
        return await self.processes.run(
            [self.settings.tool(name), *arguments],
            account=self.settings.account,
            environment=self.environment(),
            on_line=progress,
            directory=place if place.is_dir() else Path("/"),
        )

    async def end_tools(self) -> None:
        """Ends what an agent that was killed has left running: two copies at once into one directory would be neither.

        Such programs are known by where they stand.
        """
        await self.processes.end_all_of(self.paths.run)

    def environment(self) -> dict[str, str]:
        """Of the database's programs: none of ours, whose ``PG…`` variables would steer libpq."""
        home = self.settings.account.home if self.settings.account else self.paths.root
        return {
            "PATH": f"{self.settings.bin_dir}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C",
            "LC_ALL": "C",
            "TZ": "UTC",
            "PGPASSFILE": str(self.paths.passfile),
            **self.settings.environment,
        }

    async def close(self) -> None:
        await self._work.close()
        await self.watch.close()
