"""Real PostgreSQL members on this machine for the engine's tests, and what clients and faults do to them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from tests.engine.postgresql.lab import installed
from tests.own_ports import free_ports
from tests.room import make_room
from tests.stopping import stop
from twinstar.engine.base import Engine
from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.binaries import find_binaries, reachable_copy
from twinstar.engine.postgresql.connections import DroppingConnection, connect, local_parameters
from twinstar.engine.postgresql.engine import PostgresqlEngine
from twinstar.engine.postgresql.process_control import start_new_primary
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import (
    AGENT_ROLE,
    REPLICATION_ROLE,
    REWIND_ROLE,
    ROUTER_ROLE,
    SUPERUSER,
    Settings,
)
from twinstar.engine.postgresql.system_user import engine_user
from twinstar.model.address import Address
from twinstar.model.engine import Upstream
from twinstar.ports import procfs
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses

MEMBERS = ("a", "b", "c")
PASSWORDS = {role: f"secret of {role}" for role in (AGENT_ROLE, REPLICATION_ROLE, REWIND_ROLE, ROUTER_ROLE, "app")}


def versions() -> list[str]:
    return list(installed())


class PostgresqlBench:
    def __init__(self, settings: dict[str, Settings], template: Path | None = None) -> None:
        self.settings = settings
        self._template = template
        self.clock = SystemClock()
        self.processes = SystemProcesses(self.clock)
        self._engines: dict[str, PostgresqlEngine] = {}

    def real(self, member: str) -> PostgresqlEngine:
        if member not in self._engines:
            self._engines[member] = PostgresqlEngine(Server(self.settings[member], self.clock, self.processes))
        return self._engines[member]

    def engine(self, member: str) -> Engine:
        return self.real(member)

    def server(self, member: str) -> Server:
        return self.real(member).server

    async def given_primary(self, member: str) -> Engine:
        """As `new_primary` makes one, but from a copy: for tests that are not about making it."""
        await self.given_copy(member)
        await start_new_primary(self.server(member))
        return self.engine(member)

    async def given_copy(self, member: str) -> None:
        """The same database for every member, stopped."""
        server = self.server(member)
        assert self._template
        files.prepare_directories(server.paths, server.settings.account)
        copy = ["cp", "-a", f"{self._template}/.", str(server.paths.data)]
        await asyncio.to_thread(lambda: subprocess.run(copy, check=True))

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Waits for something that comes by itself; the test's own time bounds it."""
        while not await condition():
            await self.clock.sleep_ms(5)

    async def agent_restarts(self, member: str) -> PostgresqlEngine:
        """Another process would know nothing of what this one had in memory."""
        await self._engines.pop(member).close()
        return self.real(member)

    def upstream(self, member: str, epoch: int) -> Upstream:
        return Upstream(member, epoch, self.settings[member].address)

    @asynccontextmanager
    async def session(self, member: str) -> AsyncIterator[DroppingConnection]:
        """An ordinary session of the superuser."""
        parameters = local_parameters(self.settings[member], SUPERUSER)
        del parameters["replication"]
        connection = await connect(parameters)
        try:
            yield connection
        finally:
            await connection.close()

    async def commit(self, member: str, within_ms: float) -> bool:
        async with self.session(member) as connection:
            warnings: list[str] = []
            connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
            await connection.execute("SET synchronous_commit = local; SET client_min_messages = warning")
            await connection.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz DEFAULT now())")
            await connection.execute("SET synchronous_commit = on")
            try:
                async with self.clock.timeout_ms(within_ms):
                    await connection.execute("INSERT INTO written DEFAULT VALUES")
            except (TimeoutError, psycopg.OperationalError):
                return False
            return not warnings

    async def rows(self, member: str) -> int:
        async with self.session(member) as connection:
            row = await (await connection.execute("SELECT count(*) FROM written")).fetchone()
            assert row is not None
            return int(row[0])

    async def crash(self, member: str) -> None:
        pid = self.server(member).postmaster()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def hang(self, member: str) -> None:
        pids = [each.pid for each in procfs.of_directory(self.settings[member].paths.data)]
        assert pids
        stop(*pids)

    async def put_foreign_data(self, member: str) -> None:
        data = self.settings[member].paths.data
        data.mkdir(parents=True, exist_ok=True)
        (data / "letters").write_text("mine")

    def change(self, member: str, **changes: object) -> None:
        """Other settings from now on; what runs goes on with its old ones."""
        self.settings[member] = replace(self.settings[member], **changes)  # type: ignore[arg-type]

    async def close(self) -> None:
        for member, engine in self._engines.items():
            # Several: a clone or a rewind may have left something in a directory beside.
            for data in self.settings[member].directory.glob("data*"):
                await self.processes.end_all_of(data)
            await engine.close()


@asynccontextmanager
async def template(version: str) -> AsyncIterator[Path]:
    """The data directory of a new database that was stopped in order."""
    async with postgresql_bench(version) as bench:
        await bench.engine("a").bootstrap("template", lambda _: None)
        assert await bench.engine("a").stop(20_000)
        (bench.settings["a"].paths.data / "standby.signal").unlink()  # begun from copies of it as a new primary
        yield bench.settings["a"].paths.data


@asynccontextmanager
async def postgresql_bench(version: str, template: Path | None = None) -> AsyncIterator[PostgresqlBench]:
    """Three members of one version in a directory of their own; nothing of them is left afterwards."""
    processes = SystemProcesses(SystemClock())
    user = await engine_user(processes)
    account = user.account if user else None
    binaries = await reachable_copy(processes, await find_binaries(processes, installed()[version]), account)
    root = make_room("test-")
    root.chmod(0o755)
    with free_ports(len(MEMBERS)) as ports:
        addresses = {name: Address("127.0.0.1", port) for name, port in zip(MEMBERS, ports, strict=True)}
    settings = {
        name: Settings(
            cluster="test",
            member=name,
            addresses=addresses,
            directory=root / name,
            bin_dir=binaries.bin_dir,
            major=binaries.major,
            account=account,
            environment=binaries.environment,
            passwords=PASSWORDS,
            parameters={"shared_buffers": "16MB"},
        )
        for name in MEMBERS
    }
    bench = PostgresqlBench(settings, template)
    try:
        yield bench
    finally:
        await bench.close()
        await asyncio.to_thread(shutil.rmtree, root)
