"""Bare PostgreSQL servers, as `tests/engine/facts.py` asks about them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress

import psycopg

from tests.engine.postgresql.lab import Lab, Pending, Server, command, environment, system_user, until
from tests.stopping import stop
from twinstar.model.position import Position

COMMITTED = "INSERT 0 1"


def hold_up_replay(primary: Server, standby: Server) -> psycopg.Connection[object]:
    """A long query on the standby whose snapshot needs rows that the primary's next log records remove."""
    primary.do("set synchronous_commit = local; insert into t select generate_series(-1000, -1)")
    until(lambda: standby.has(-1), "the standby has the rows")
    session = standby.connect()
    session.execute("begin isolation level repeatable read")
    session.execute("select count(*) from t")
    primary.do("set synchronous_commit = local; delete from t where i < 0")
    vacuum = primary.connect(options="-c synchronous_commit=local")
    vacuum.execute("vacuum t")
    until(lambda: standby.startup_waits_for() == "RecoveryConflictSnapshot", "replay is held up")
    return session


def end_receiver(standby: Server) -> None:
    """Ends it, unless the startup process has done so already because it has read the new settings."""
    receiver = standby.child("walreceiver")
    if receiver is not None:
        with suppress(ProcessLookupError):
            os.kill(receiver, signal.SIGTERM)
    until(lambda: standby.child("walreceiver") is None, "the receiver is gone")


class Impostor:
    """pg_receivewal under a standby's name."""

    def __init__(self, primary: Server, name: str) -> None:
        folder = primary.root / "received"
        command("mkdir", folder)
        self._process = subprocess.Popen(
            [primary.bin / "pg_receivewal", "--synchronous", "-D", folder, "-d", primary.conninfo(name)],
            env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **system_user(),
        )  # fmt: skip

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class _Commit:
    def __init__(self, server: Server, row: int) -> None:
        self._server = server
        self._connection = server.connect()
        self._pending = Pending(self._connection, f"insert into t values ({row}) on conflict do nothing")

    async def returns(self, within_ms: float) -> bool:
        answer = self._pending.answer(within_ms / 1000)
        # One that is merely slow has not come as far as waiting.
        while answer is None and not self._server.waits_for_standbys(self._pending.pid):
            answer = self._pending.answer(0.01)
        return answer == COMMITTED

    async def leave(self) -> None:
        self._connection.close()


class PostgresqlFacts:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._servers: dict[str, Server] = {}
        self._impostors: list[Impostor] = []
        self._filled = 1_000_000
        self._stopped_checkpointers: set[str] = set()
        self._holding: dict[str, psycopg.Connection[object]] = {}

    def close(self) -> None:
        for each in self._impostors:
            each.end()

    def server(self, member: str) -> Server:
        return self._servers[member]

    async def cluster(self, *members: str) -> None:
        self._servers = {server.name: server for server in self._lab.cluster(*members)}

    async def set_names(self, member: str, *names: str) -> None:
        quoted = ", ".join(f'"{name}"' for name in names)
        self.server(member).set(synchronous_standby_names=f"ANY 1 ({quoted})")
        if member not in self._stopped_checkpointers:
            # The signal is out, and the checkpointer heeds it before the request: so it has read the names.
            self.server(member).do("checkpoint")

    async def begin(self, member: str, row: int) -> _Commit:
        return _Commit(self.server(member), row)

    async def has(self, member: str, row: int) -> bool:
        return self.server(member).has(row)

    async def fill(self, member: str, rows: int) -> None:
        first, self._filled = self._filled, self._filled + rows
        self.server(member).do(
            f"set synchronous_commit = local; insert into t select generate_series({first}, {self._filled - 1})"
        )

    async def caught_up(self, standby: str, leader: str) -> None:
        until(lambda: self.server(standby).received() == self.server(leader).written(), "everything is received")

    async def attach(self, standby: str, leader: str, name: str = "") -> None:
        server, conninfo = self.server(standby), self.server(leader).conninfo(name or standby)
        if await self.is_running(standby):
            server.set(primary_conninfo=conninfo)
        else:
            server.write("standby.signal", "")
            server.configure(primary_conninfo=conninfo)

    async def clear_upstream(self, standby: str) -> None:
        server = self.server(standby)
        if await self.is_running(standby):
            server.set(primary_conninfo="")
        else:
            server.configure(primary_conninfo="")

    async def park(self, standby: str) -> None:
        self.server(standby).set(primary_conninfo="")
        end_receiver(self.server(standby))
        before = -1
        while (now := self.server(standby).replayed()) != before:
            before = now
            await self.pause(100)

    async def end_receiver(self, standby: str) -> None:
        end_receiver(self.server(standby))

    async def is_receiving(self, standby: str) -> bool:
        return self.server(standby).child("walreceiver") is not None

    async def kill(self, member: str) -> None:
        self.server(member).stop(signal.SIGKILL)

    async def start(self, member: str) -> None:
        self.server(member).write("standby.signal", "")
        self.server(member).start()

    async def start_anyhow(self, member: str) -> None:
        self.server(member).write("standby.signal", "")
        self.server(member).start(ready=False)

    async def accepts(self, member: str) -> bool:
        return self.server(member)._ready()

    async def stop(self, member: str) -> None:
        self.server(member).forget_connections()
        os.kill(self.server(member).pid, signal.SIGINT)

    async def is_running(self, member: str) -> bool:
        process = self.server(member).process
        return process is not None and process.poll() is None

    async def freeze(self, member: str) -> None:
        stop(*self.server(member).processes())

    async def promote(self, member: str) -> None:
        self.server(member).ask("select pg_promote(false)")

    async def is_primary(self, member: str) -> bool:
        return not self.server(member).ask("select pg_is_in_recovery()")

    async def reserve(self, member: str, *timelines: int) -> None:
        for timeline in timelines:
            self.server(member).write(f"pg_wal/{timeline:08X}.history", "")

    async def unreserve(self, member: str, *timelines: int) -> None:
        for timeline in timelines:
            (self.server(member).data / f"pg_wal/{timeline:08X}.history").unlink()

    async def position(self, member: str) -> Position:
        return Position(*self.server(member).identify())

    async def hold_replay(self, standby: str, leader: str) -> None:
        self._holding[standby] = hold_up_replay(self.server(leader), self.server(standby))

    async def release_replay(self, standby: str) -> None:
        self._holding.pop(standby).close()

    async def stop_checkpointer(self, member: str) -> None:
        stop(self._checkpointer(member))
        self._stopped_checkpointers.add(member)

    async def continue_checkpointer(self, member: str) -> None:
        os.kill(self._checkpointer(member), signal.SIGCONT)
        self._stopped_checkpointers.discard(member)

    def _checkpointer(self, member: str) -> int:
        pid = self.server(member).child("checkpointer")
        assert pid is not None
        return pid

    async def pretend(self, member: str, name: str) -> None:
        self._impostors.append(Impostor(self.server(member), name))

    async def pause(self, duration_ms: float) -> None:
        await asyncio.sleep(duration_ms / 1000)
