"""Stores that keepers run: real keepers, real etcd, on the loopback."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.own_ports import free_ports
from tests.store.servers import ALERT, Process
from twinstar.model.address import Address
from twinstar.model.errors import StoreUnavailable
from twinstar.ports import procfs
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.etcd.client import EtcdStore
from twinstar.store.etcd.endpoint import Endpoint, Session
from twinstar.store.managed.administration import Administration, MemberStatus
from twinstar.store.managed.deciding import Listed
from twinstar.store.managed.secure import client_context
from twinstar.store.managed.settings import KeeperSettings, StoreMember, TlsFiles

PATIENCE_S = 60.0
QUOTA_BYTES = 16 * 1024 * 1024


class Keepers:
    """A store of members in one folder."""

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        cluster: str = "kept",
        secret: str = "a key",
        tls: TlsFiles | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with free_ports(2 * len(names)) as ports:
            pass
        pairs = zip(ports[: len(names)], ports[len(names) :], strict=True)
        at = [(Address("127.0.0.1", client), Address("127.0.0.1", peer)) for client, peer in pairs]
        self.members = tuple(StoreMember(name, *both) for name, both in zip(names, at, strict=True))
        (folder / "wire").write_text(secret)
        self.cluster, self.tls = cluster, tls
        self.processes: dict[str, Process] = {}
        for name in names:
            self.write(name, self.members)

    def write(self, name: str, members: tuple[StoreMember, ...]) -> None:
        """Its settings, and its process that has not begun."""
        settings = KeeperSettings(
            cluster=self.cluster,
            name=name,
            secret_file=str(self.folder / "wire"),
            program=shutil.which("etcd") or "etcd",
            folder=str(self.place(name)),
            quota_bytes=QUOTA_BYTES,
            heartbeat_ms=50,
            bind="127.0.0.1",
            members=members,
            tls=self.tls,
        )
        file = self.folder / f"{name}.json"
        file.write_text(settings.to_json())
        self.processes[name] = Process(
            [sys.executable, "-m", "twinstar.store.managed", str(file)], self.folder / f"{name}.log"
        )

    def place(self, name: str) -> Path:
        return self.folder / name / "store"

    def start(self, *names: str) -> None:
        for name in names or tuple(self.processes):
            self.processes[name].start()

    def stop(self) -> None:
        """Every keeper and every etcd."""
        for name, process in self.processes.items():
            process.kill()
            self.kill_etcd(name)

    def kill_etcd(self, name: str) -> None:
        while pids := self.etcd_pids(name):
            procfs.kill_pids(pids)
            time.sleep(0.02)

    def lose(self, name: str) -> None:
        """The machine with its disk."""
        self.processes[name].kill()
        self.kill_etcd(name)
        shutil.rmtree(self.place(name).parent)

    def etcd_pids(self, name: str) -> list[int]:
        return [process.pid for process in procfs.of_directory(self.place(name))]

    def said(self, name: str) -> str:
        return self.processes[name].log.read_text()

    def open(self, cluster: str = "c") -> EtcdStore:
        urls = [f"http://{m.client}" for m in self.members]
        return EtcdStore(urls, cluster, SystemClock(), SystemNetwork(), patience=ALERT)

    def administration(self, name: str) -> Administration:
        member = next(member for member in self.members if member.name == name)
        session = Session(SystemNetwork(), client_context(self.tls) if self.tls else None)
        scheme = "https" if self.tls else "http"
        return Administration(Endpoint(f"{scheme}://{member.client}", session), SystemClock())

    async def listed(self, name: str) -> tuple[Listed, ...]:
        """By one member, after a linearizable read; nothing while it does not serve."""
        member = self.administration(name)
        try:
            await member.read()
            return await member.members()
        except StoreUnavailable:
            return ()
        finally:
            await member.close()

    async def status(self, name: str) -> MemberStatus | None:
        member = self.administration(name)
        try:
            return await member.status()
        except StoreUnavailable:
            return None
        finally:
            await member.close()

    async def remove(self, member: str, by: str) -> None:
        """etcd refuses while not all have been connected for some seconds."""
        asked = self.administration(by)

        async def removed() -> bool:
            try:
                await asked.remove(member)
            except StoreUnavailable as error:
                if "unhealthy" in str(error):
                    return False
                raise
            return True

        try:
            await until(removed)
        finally:
            await asked.close()

    async def whole(self, by: str, names: tuple[str, ...] | None = None) -> dict[str, str]:
        """Waits until all have a vote; their ids."""
        wanted = set(names or [member.name for member in self.members])
        found: tuple[Listed, ...] = ()

        async def there() -> bool:
            nonlocal found
            found = await self.listed(by)
            return {m.name for m in found} == wanted and not any(m.learner for m in found)

        try:
            await until(there)
        except TimeoutError:
            logs = "\n".join(f"-- {name}\n{self.said(name)[-1500:]}" for name in self.processes)
            raise AssertionError(f"not whole: {found}\n{logs}") from None
        return {m.name: m.id for m in found}


async def until(there: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Raises TimeoutError. `there` may be a coroutine function."""
    clock = SystemClock()
    async with clock.timeout_ms(patience_s * 1000):
        while True:
            found = there()
            if hasattr(found, "__await__"):
                found = await found
            if found:
                return
            await clock.sleep_ms(50)
