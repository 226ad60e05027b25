"""Appliers as a node's agent runs them: processes of their own, with a file of settings and one of state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.engine.postgresql.lab import Server, environment, until
from twinstar.engine.postgresql.multiwriter.objects import APPLIER_ROLE, install, take_in
from twinstar.engine.postgresql.multiwriter.places import begin_at, make_place
from twinstar.engine.postgresql.multiwriter.table import Policy
from twinstar.ports import procfs


@dataclass
class Node:
    """One of several databases of the same name that write to each other, with its appliers."""

    number: int
    server: Server
    database: str
    folder: Path
    """For what its appliers keep."""
    appliers: dict[int, Applier] = field(default_factory=dict)
    """By the sender's number."""

    def parameters(self) -> dict[str, str | int]:
        return {
            "host": str(self.server.root),
            "port": self.server.port,
            "user": APPLIER_ROLE,
            "dbname": self.database,
            "connect_timeout": 5,
        }

    def conninfo(self) -> str:
        return f"{self.server.conninfo()} dbname={self.database}"

    def do(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    async def session(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self.conninfo(), autocommit=True)


@dataclass
class Applier:
    """What brings the peer's changes to `node`."""

    node: Node
    peer: Node
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that are not as usual."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.node.appliers[self.peer.number] = self

    @property
    def _path(self) -> Path:
        return self.node.folder / f"{self.node.number}_from_{self.peer.number}"

    def start(self) -> None:
        settings = {
            "local": self.node.parameters(),
            "peer": self.peer.parameters(),
            "peer_name": self.peer.server.name,
            "number": self.node.number,
            "peer_number": self.peer.number,
            "spool": f"{self._path}.spool",
            "state_file": f"{self._path}.state",
            "parent": procfs.run_id(os.getpid()),  # a killed test leaves none behind
            **self.changes,
        }
        self._path.with_suffix(".state").unlink(missing_ok=True)
        file = self._path.with_suffix(".json")
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "twinstar.engine.postgresql.multiwriter", str(file)]
        with self._path.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
            )

    def state(self) -> dict[str, Any]:
        """Empty before it has said anything."""
        file = self._path.with_suffix(".state")
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    @property
    def log(self) -> str:
        return self._path.with_suffix(".log").read_text()

    def end(self, how: signal.Signals = signal.SIGTERM, within_s: float = 60) -> int | None:
        """Its exit status; None when it did not run."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        code = self.process.wait(within_s)
        self.process = None
        return code


async def join(nodes: list[Node], *definitions: str, tables: dict[str, Policy | None]) -> None:
    """Makes the same tables on all, takes them in, and has each keep a place for each other one."""
    for node in nodes:
        async with await node.session() as connection:
            await install(connection, node.number)
            for definition in definitions:
                await connection.execute(definition.encode())
            for name, policy in tables.items():
                await take_in(connection, "public", name, policy)
    for sender in nodes:
        for receiver in nodes:
            if receiver is sender:
                continue
            async with await sender.session() as connection:
                position = await make_place(connection, receiver.number)
            async with await receiver.session() as connection:
                await begin_at(connection, sender.number, position)
            Applier(receiver, sender)


def same(nodes: list[Node], query: str, within_s: float = 60) -> list[tuple[Any, ...]]:
    """Waits until a query has the same answer on all nodes; the answer."""

    def equal() -> bool:
        answers = [node.do(query) for node in nodes]
        return all(answer == answers[0] for answer in answers)

    until(equal, f"the same everywhere: {query}", within_s)
    return nodes[0].do(query)
