"""etcd's process: its flags, its start and its end. It stands in the keeper's folder, and is found there again."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.processes import Processes, Signal
from twinstar.store.managed.folder import Folder
from twinstar.store.managed.settings import KeeperSettings

_END_MS = 4_000.0
_ELECTION_HEARTBEATS = 10
_KEPT_REVISIONS = 1_000
"""Who has missed more begins with a listing again."""
_SNAPSHOT_EVERY = 10_000
"""Entries of the log; etcd 3.4's own value, 100,000, keeps all of them in memory."""


class EtcdProcess:
    def __init__(
        self,
        settings: KeeperSettings,
        folder: Folder,
        clock: Clock,
        processes: Processes,
        environment: Mapping[str, str],
    ) -> None:
        self._settings, self._folder, self._clock, self._processes = settings, folder, clock, processes
        # etcd takes ETCD_… for flags.
        self._environment = {key: value for key, value in environment.items() if not key.startswith("ETCD")}

    def run(self) -> str | None:
        """The run (``pid:start time``) of the etcd that stands in the folder, whoever started it."""
        here = self._processes.of_directory(self._folder.path)
        return self._processes.run_id(here[0].pid) if here else None

    def start(self, how: Mapping[str, str]) -> None:
        """`how`: flags that say how it begins. Raises EnvironmentTrouble."""
        self._folder.turn_log()
        flags = {**flags_of(self._settings, self._folder), **how}
        self._processes.spawn(
            [self._settings.program, *(f"--{name}={value}" for name, value in flags.items())],
            account=None,
            environment=self._environment,
            output=self._folder.log,
            directory=self._folder.path,
        )

    async def ended_within(self, run: str, patience_ms: float) -> bool:
        try:
            async with self._clock.timeout_ms(patience_ms):
                await self._processes.ended(run)
                return True
        except TimeoutError:
            return False

    async def end(self) -> None:
        """In order: it hands a leadership over. Killed when it does not."""
        run = self.run()
        if run is not None:
            self._processes.signal(int(run.partition(":")[0]), Signal.TERMINATE)
            await self.ended_within(run, _END_MS)
        await self._processes.end_all_of(self._folder.path)

    def last_words(self) -> str:
        """The last line of its log."""
        if not self._folder.log.exists():
            return ""
        return self._folder.log.read_bytes()[-4096:].decode(errors="replace").strip().rpartition("\n")[2]


def flags_of(settings: KeeperSettings, folder: Folder) -> dict[str, str]:
    """What every start has. Pre-vote: a member that comes back from a cut disturbs nobody."""
    client, peer = settings.own.client, settings.own.peer
    flags = {
        "name": settings.name,
        "data-dir": str(folder.data),
        "listen-client-urls": settings.url(_bound(settings, client)),
        "advertise-client-urls": settings.url(client),
        "listen-peer-urls": settings.url(_bound(settings, peer)),
        "initial-advertise-peer-urls": settings.url(peer),
        "heartbeat-interval": str(settings.heartbeat_ms),
        "election-timeout": str(_ELECTION_HEARTBEATS * settings.heartbeat_ms),
        "pre-vote": "true",
        "strict-reconfig-check": "true",
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": str(_KEPT_REVISIONS),
        "snapshot-count": str(_SNAPSHOT_EVERY),
        "quota-backend-bytes": str(settings.quota_bytes),
        "logger": "zap",
        "log-level": "warn",
        "log-outputs": "stderr",
    }
    if settings.tls is None:
        return flags
    files = {
        "cert-file": settings.tls.certificate,
        "key-file": settings.tls.key,
        "trusted-ca-file": settings.tls.authority,
        "client-cert-auth": "true",
    }
    return flags | files | {f"peer-{name}": value for name, value in files.items()}


def founding(settings: KeeperSettings, token: str) -> dict[str, str]:
    """The flags that begin a store of this member alone."""
    return {
        "initial-cluster": f"{settings.name}={settings.url(settings.own.peer)}",
        "initial-cluster-state": "new",
        "initial-cluster-token": token,
    }


def joining(members: str) -> dict[str, str]:
    """The flags of a first start as a member that the others have added."""
    return {"initial-cluster": members, "initial-cluster-state": "existing"}


def _bound(settings: KeeperSettings, at: Address) -> Address:
    return Address(settings.bind, at.port)


def can_be_bound(host: str) -> bool:
    """etcd listens on addresses, not on names."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
