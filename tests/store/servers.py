"""Real stores for tests: the embedded store's process, and an etcd of three members, also with TLS and passwords.

Everything is on the loopback, bounded in time, and ended by the one who started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from tests.own_ports import free_ports
from tests.stopping import stop
from tests.store.certificates import Certificates
from twinstar.config.schema import Tls
from twinstar.config.tls import Purpose, ssl_context
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.embedded.client import EmbeddedStore
from twinstar.store.endpoints import Patience
from twinstar.store.etcd.client import EtcdStore
from twinstar.store.etcd.endpoint import Endpoint, Login, Session
from twinstar.store.etcd.messages import Json
from twinstar.store.race import Failed

SOURCES = Path(__file__).resolve().parents[2] / "src"
START_S = 90.0
PATIENT = Patience(next_ms=3_000, deadline_ms=20_000, silence_ms=1_000)
"""Where every server answers in the end. On a busy machine one may take a while; another one that is asked meanwhile
would call it a conflict that the change has been made.
"""
ALERT = Patience(next_ms=100, deadline_ms=20_000, silence_ms=1_000)
"""Where one server does not answer, and another one does."""
HASTY = Patience(next_ms=100, deadline_ms=1_500, silence_ms=1_000)
"""Where no answer is expected. Whether one comes in time is a matter of chance."""


class Process:
    """A program that can be killed, stopped and started again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
            self._running = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    def stop(self) -> None:
        """It stands still when this returns, until SIGCONT."""
        stop(self.pid)

    def kill(self) -> None:
        """Also one that is stopped; nothing if it does not run."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(START_S)
            self._running = None

    def end(self) -> int:
        """The exit status after SIGTERM."""
        assert self._running is not None
        self._running.terminate()
        status = self._running.wait(START_S)
        self._running = None
        return status

    def died(self) -> bool:
        return self._running is None or self._running.poll() is not None

    def trouble(self) -> str:
        return f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')[-2000:]}"


class EmbeddedServer:
    def __init__(self, directory: Path) -> None:
        self.socket, self.file = directory / "s", directory / "store.sqlite"
        module = [sys.executable, "-m", "twinstar.store.embedded"]
        self.process = Process([*module, "--socket", str(self.socket), "--file", str(self.file)], directory / "log")

    def start(self) -> None:
        self.process.start()
        wait_until(self._accepts, self.process)

    def open(self, cluster: str, deadline_ms: float = PATIENT.deadline_ms) -> EmbeddedStore:
        return EmbeddedStore(self.socket, cluster, SystemClock(), SystemNetwork(), deadline_ms)

    def open_hasty(self, cluster: str) -> EmbeddedStore:
        return self.open(cluster, deadline_ms=1_000)

    async def hang(self) -> None:
        self.process.stop()

    async def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def crash(self) -> None:
        self.process.kill()

    async def restart(self) -> None:
        await asyncio.to_thread(self.start)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(self.socket))
            return True
        return False


@dataclass(frozen=True)
class Secured:
    """TLS with client certificates, and the two users of an etcd."""

    certificates: Certificates
    password: str = "swordfish-71"

    @property
    def context(self) -> ssl.SSLContext:
        files = self.certificates
        tls = Tls(certificate=files.client.certificate, key=files.client.key, authority=files.authority)
        return ssl_context(tls, Purpose.STORE)

    def login(self, user: str = "twinstar") -> Login:
        return Login(user, lambda: self.password)


class EtcdCluster:
    """Three members. Its elections are short, so that tests are."""

    MEMBERS = 3

    def __init__(self, directory: Path, secured: Secured | None = None) -> None:
        self.secured = secured
        self._user: str | None = None
        with free_ports(2 * self.MEMBERS) as ports:
            pass
        scheme = "https" if secured else "http"
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[: self.MEMBERS]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[self.MEMBERS :]]
        everybody = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        self.members = [
            Process(self._command(directory, number, peers[number], everybody), directory / f"m{number}.log")
            for number in range(self.MEMBERS)
        ]

    def start(self) -> None:
        for member in self.members:
            member.start()
        asyncio.run(self.serves())
        if self.secured:
            asyncio.run(self._protect())
            self._user = "twinstar"
            asyncio.run(self.serves())

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def open(self, cluster: str, urls: list[str] | None = None, patience: Patience = PATIENT) -> EtcdStore:
        secured = self.secured
        return EtcdStore(
            urls or self.urls,
            cluster,
            SystemClock(),
            SystemNetwork(),
            tls=secured.context if secured else None,
            login=secured.login() if secured else None,
            patience=patience,
        )

    def open_hasty(self, cluster: str) -> EtcdStore:
        return self.open(cluster, patience=HASTY)

    async def hang(self) -> None:
        for member in self.members:
            member.stop()

    async def resume(self) -> None:
        for member in self.members:
            member.signal(signal.SIGCONT)
        await self.serves()

    async def crash(self) -> None:
        self.kill()

    async def restart(self) -> None:
        for member in self.members:
            member.start()
        await self.serves()

    async def serves(self) -> None:
        """Returns when every member answers a question that needs the leader."""
        for url, member in zip(self.urls, self.members, strict=True):
            await self._answers(url, member)

    async def leads(self, member: int) -> bool:
        """As it says itself."""
        said = await self.ask(self.urls[member], "/maintenance/status", {})
        return bool(said["leader"] == said["header"]["member_id"])

    async def ask(self, url: str, path: str, request: Json, user: str | None = None) -> Json:
        secured = self.secured
        login = secured.login(user) if secured and user else None
        endpoint = Endpoint(url, Session(SystemNetwork(), secured.context if secured else None, login))
        try:
            async with asyncio.timeout(20):
                return await endpoint.ask(path, request)
        finally:
            await endpoint.close()

    async def _answers(self, url: str, member: Process) -> None:
        deadline = time.monotonic() + START_S
        while True:
            if member.died() or time.monotonic() > deadline:
                raise AssertionError(member.trouble())
            try:
                await self.ask(url, "/kv/range", {"key": "L3R3aW5zdGFyLw=="}, self._user)
                return
            except (Failed, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    async def _protect(self) -> None:
        """Passwords on: `root`, and `twinstar` who may do anything below ``/twinstar/``."""
        assert self.secured is not None
        permission = {"permType": "READWRITE", "key": "L3R3aW5zdGFyLw==", "range_end": "L3R3aW5zdGFyMA=="}
        for path, request in (
            ("/auth/user/add", {"name": "root", "password": self.secured.password}),
            ("/auth/user/add", {"name": "twinstar", "password": self.secured.password}),
            ("/auth/role/add", {"name": "root"}),
            ("/auth/role/add", {"name": "twinstar"}),
            ("/auth/role/grant", {"name": "twinstar", "perm": permission}),
            ("/auth/user/grant", {"user": "root", "role": "root"}),
            ("/auth/user/grant", {"user": "twinstar", "role": "twinstar"}),
            ("/auth/enable", {}),
        ):
            await self.ask(self.urls[0], path, request)

    def _command(self, directory: Path, number: int, peer: str, everybody: str) -> list[str]:
        program = which("etcd")
        assert program is not None
        url = self.urls[number]
        options = {
            "name": f"m{number}",
            "data-dir": str(directory / f"m{number}"),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": everybody,
            "heartbeat-interval": "50",
            "election-timeout": "500",
            "log-level": "warn",
            "logger": "zap",
        }
        if self.secured:
            files = self.secured.certificates
            options |= {
                "cert-file": str(files.server.certificate),
                "key-file": str(files.server.key),
                "trusted-ca-file": str(files.authority),
                "client-cert-auth": "true",
                "bcrypt-cost": "4",
            }
        return [program, *(f"--{name}={value}" for name, value in options.items())]


def wait_until(ready: Callable[[], bool], process: Process) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if process.died() or time.monotonic() > deadline:
            raise AssertionError(process.trouble())
        time.sleep(0.01)
