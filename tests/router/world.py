"""What a router lives in, with a test in the place of the agents: a real store, real databases, signed datagrams.

Epochs only grow, so one world serves many tests: each takes the next epoch.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.engine.postgresql.lab import until
from tests.router.servers import Database, connect
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.wire import Envelope, EpochNotice, Hello, Inbox, Message, Part, Sender, Serving
from twinstar.ports.clock import SystemClock
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import ABSENT, Applied
from twinstar.store.embedded.client import EmbeddedStore

CLUSTER = "lab"
KEY = "0123456789abcdef0123456789abcdef"
MEMBERS = ("a", "b", "c")
"""`c` has an agent and no database."""
MAX_HOLD_MS = 3_000
"""Longer than a test needs, on a busy machine too, from a client's first word to the opening that it waits for."""


class Agents:
    """Answers a router's `Hello` as the members' agents do, and pushes what changes."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._sockets = {name: self._open(port) for name, port in ports.items()}
        self._boot = time.time_ns() // 1_000_000
        self.key = KEY.encode()
        self._routers: dict[str, tuple[str, int]] = {}
        self._serving: Serving | None = None
        self._lock = threading.Lock()
        self.silent = False
        self.hellos: list[Hello] = []
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def serve(self, serving: Serving) -> None:
        """This is what the leader's agent says from now on."""
        with self._lock:
            self._serving = serving
            self._send(serving.leader, serving)

    def say(self, member: str, message: Message) -> None:
        """Once, whatever it is."""
        with self._lock:
            self._send(member, message)

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        for each in self._sockets.values():
            each.close()

    @staticmethod
    def _open(port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", port))
        return opened

    def _send(self, member: str, message: Message) -> None:
        if member in self._routers and not self.silent:
            self._boot += 1  # as if each were sent by an agent just started
            sender = Sender(CLUSTER, self.key, member, Part.AGENT, self._boot)
            self._sockets[member].sendto(sender.pack(message), self._routers[member])

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for name, each in self._sockets.items():
                selector.register(each, selectors.EVENT_READ, name)
            while not self._ending:
                for key, _ in selector.select(0.05):
                    self._hear(key.data, *self._sockets[key.data].recvfrom(65_536))
                self._go_on()

    def _go_on(self) -> None:
        """Every 50 ms at least."""

    def _hear(self, member: str, data: bytes, sender: tuple[str, int]) -> None:
        with self._lock:
            envelope = Inbox(CLUSTER, KEY.encode()).open(data)
            if not isinstance(envelope, Envelope) or not isinstance(envelope.message, Hello):
                return
            self.hellos.append(envelope.message)
            self._routers[member] = sender
            if self._serving is not None and member == self._serving.leader:
                self._send(member, self._serving)


class World:
    def __init__(
        self, folder: Path, databases: Sequence[Database], command: Sequence[str], max_sessions: int = 1_000
    ) -> None:
        ports = find_free_ports("127.0.0.1", 16)
        self.databases = {database.name: database for database in databases}
        self.write_port, self.read_port, self._notice_port, self._status_port = ports[:4]
        self._agent_ports = dict(zip(MEMBERS, ports[4:7], strict=True))
        self.vacant_port = ports[7]
        """Where `c`'s database would be."""
        self._spare = iter(ports[8:])
        self.folder = folder
        self.config = folder / "twinstar.yaml"
        self._command = [*command, str(self.config)]
        self.router: subprocess.Popen[bytes] | None = None
        self.epoch = 0
        self._max_sessions = max_sessions
        self._write_files()
        self._store = self._run("twinstar.store.embedded", "--socket", str(folder / "s"), "--file", str(folder / "db"))
        assert self._store.stdout is not None
        self._store.stdout.readline()
        self.agents = self._make_agents(self._agent_ports)

    def _make_agents(self, ports: dict[str, int]) -> Agents:
        return Agents(ports)

    # What the agents do:

    def elect(self, *, told: bool = True) -> int:
        """A candidacy: the next epoch, nobody named. `told`: it stands in the register, not only in a notice."""
        self.epoch += 1
        if told:
            self._register(Phase.ELECTING, self.epoch, "a")
        else:
            self.agents.say("b", EpochNotice(self.epoch, "a"))
        return self.epoch

    def name(self, leader: str) -> None:
        self._register(Phase.LEADING, self.epoch, leader)

    def open(self, leader: str, readers: tuple[str, ...] = (), *, draining: bool = False) -> None:
        self.agents.serve(Serving(self.epoch, leader, True, readers, draining))

    def lead(self, leader: str, *readers: str) -> int:
        """A whole change of leader, and the router has seen it."""
        epoch = self.elect()
        self.name(leader)
        self.open(leader, readers)
        self.wait_for(epoch=epoch, open=True, read=sorted(readers) or [leader])
        return epoch

    # What clients do:

    def connect(self, role: str = "write", **options: Any) -> psycopg.Connection[Any]:
        return connect(self.write_port if role == "write" else self.read_port, **options)

    # The router:

    def start(self) -> None:
        self.router = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=self._log("router"), env=environment()
        )
        until(self._answers, "the router answers")

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status_port}/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def resident_kb(self) -> int:
        """Memory of the router's process."""
        assert self.router is not None
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.router.pid}/status").read_text())
        assert found
        return int(found[1])

    def wait_for(self, **wanted: object) -> None:
        until(lambda: wanted.items() <= self.status().items(), f"the router's status has {wanted}")

    def stop(self) -> int:
        assert self.router is not None
        self.router.terminate()
        return self.router.wait(30)

    def stop_store(self) -> None:
        self._store.kill()
        self._store.wait()

    def close(self) -> None:
        if self.router is not None and self.router.poll() is None:
            self.stop()
        self.agents.close()
        self._store.terminate()
        self._store.wait(30)
        assert self._store.stdout is not None
        self._store.stdout.close()

    def _answers(self) -> bool:
        assert self.router is not None
        assert self.router.poll() is None, self.log("router")
        try:
            self.status()
        except OSError:
            return False
        return True

    def _run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log("store"),
            env=environment(),
        )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _log(self, name: str) -> int:
        return os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _register(self, phase: Phase, epoch: int, leader: str) -> None:
        register = Register(epoch, phase, leader, frozenset(MEMBERS), 1, Durability.QUORUM, nonce=f"{epoch}{phase}")
        self.write_register(register.encode())

    def write_register(self, value: bytes) -> None:
        asyncio.run(_put(self.folder / "s", value))

    def _write_files(self) -> None:
        secrets = self.folder / "secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "wire").write_text(KEY)
        (secrets / "wire").chmod(0o600)
        self.config.write_text(yaml.safe_dump(self._settings()))

    def _settings(self) -> dict[str, Any]:
        return {
            "cluster": CLUSTER,
            "secrets": "secrets",
            "store": {"embedded": {"socket": "s", "file": "db"}},
            "nodes": [self._node(name) for name in MEMBERS],
            "router": {
                "write_port": self.write_port,
                "read_port": self.read_port,
                "notice_port": self._notice_port,
                "status_port": self._status_port,
                "max_hold_ms": MAX_HOLD_MS,
                "max_sessions": self._max_sessions,
            },
        }

    def _node(self, name: str) -> dict[str, Any]:
        database = self.databases.get(name)
        return {
            "name": name,
            "port": database.port if database else self.vacant_port if name == "c" else next(self._spare),
            "api_port": next(self._spare),
            "agent_port": self._agent_ports[name],
            "guard_port": next(self._spare),
            "directory": f"nodes/{name}",
        }


def environment() -> dict[str, str]:
    source = Path(__file__).resolve().parents[2] / "src"
    return {**os.environ, "PYTHONPATH": str(source)}


async def _put(path: Path, value: bytes) -> None:
    store = EmbeddedStore(path, CLUSTER, SystemClock(), SystemNetwork())
    try:
        found = await store.read("register")
        outcome = await store.compare_and_set("register", value, found.revision if found else ABSENT)
        assert isinstance(outcome, Applied)
    finally:
        await store.close()


@contextmanager
def world(
    folder: Path, databases: Sequence[Database], command: Sequence[str], max_sessions: int = 1_000
) -> Iterator[World]:
    """A store, agents and a running router in front of the databases."""
    made = World(folder, databases, command, max_sessions)
    try:
        made.start()
        yield made
    finally:
        made.close()
