"""A world in which every node takes writes: its agents make statements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from tests.router.servers import Database, connect
from tests.router.world import CLUSTER, KEY, Agents, World
from twinstar.model.wire import Envelope, Hello, Inbox, PeerStatement

OPEN = PeerStatement(number=1, epoch=1, open=True, reason="", lag_ms=0.0, database="", wall_us=0)
MAX_READ_LAG_MS = 500


class Statements(Agents):
    """Agents that push what they say every 50 ms to whoever greeted them."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._said: dict[str, PeerStatement] = {}
        super().__init__(ports)

    def state(self, member: str, **changes: Any) -> None:
        """This is what it says from now on."""
        with self._lock:
            self._said[member] = replace(OPEN, wall_us=time.time_ns() // 1000, **changes)
            self._send(member, self._said[member])

    def hush(self, *members: str) -> None:
        """They say their last words, all at once, and nothing from now on."""
        with self._lock:
            for member in members:
                if (last := self._said.pop(member, None)) is not None:
                    self._send(member, last)

    def _go_on(self) -> None:
        with self._lock:
            for member, statement in self._said.items():
                self._send(member, statement)

    def _hear(self, member: str, data: bytes, sender: tuple[str, int]) -> None:
        with self._lock:
            envelope = Inbox(CLUSTER, KEY.encode()).open(data)
            if isinstance(envelope, Envelope) and isinstance(envelope.message, Hello):
                self._routers[member] = sender
                if member in self._said:
                    self._send(member, self._said[member])


class NodesWorld(World):
    agents: Statements

    @property
    def any_port(self) -> int:
        return self.write_port

    def connect(self, role: str = "any", **options: Any) -> psycopg.Connection[Any]:
        return connect(self.any_port if role == "any" else self.read_port, **options)

    def _make_agents(self, ports: dict[str, int]) -> Statements:
        return Statements(ports)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        router = settings["router"]
        router["any_port"] = router.pop("write_port")
        router["max_read_lag_ms"] = MAX_READ_LAG_MS
        return {**settings, "strategy": "active-active"}


@contextmanager
def nodes_world(folder: Path, databases: Sequence[Database], command: Sequence[str]) -> Iterator[NodesWorld]:
    """Agents and a running router in front of the databases."""
    made = NodesWorld(folder, databases, command)
    try:
        made.start()
        yield made
    finally:
        made.close()
