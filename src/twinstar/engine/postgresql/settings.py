"""What one member's server needs to know, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from twinstar.model.address import Address
from twinstar.model.errors import EngineError
from twinstar.ports.processes import Account

AGENT_ROLE = "twinstar_agent"
REPLICATION_ROLE = "twinstar_replication"
REWIND_ROLE = "twinstar_rewind"
ROUTER_ROLE = "twinstar_router"
APPLIER_ROLE = "twinstar_applier"
"""Active-active: writes what other nodes have written; local socket alone."""
SUPERUSER = "postgres"
"""Made by initdb, without a password: reached only on the local socket by the server's own user (and by root)."""
MAINTENANCE_DATABASE = "postgres"

_LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class Paths:
    """The layout below a node's directory. What is configuration lies outside the data directory, so that neither
    a base backup nor a rewind carries one member's settings to another.
    """

    root: Path

    @cached_property
    def data(self) -> Path:
        return self.root / "data"

    @cached_property
    def conf(self) -> Path:
        return self.root / "conf"

    @cached_property
    def run(self) -> Path:
        """Unix sockets."""
        return self.root / "run"

    @cached_property
    def log(self) -> Path:
        return self.root / "log"

    @cached_property
    def state(self) -> Path:
        """The agent's own."""
        return self.root / "state"

    @cached_property
    def forks(self) -> Path:
        """What was saved of copies that were rewound or replaced."""
        return self.root / "forks"

    @cached_property
    def main_conf(self) -> Path:
        return self.conf / "postgresql.conf"

    @cached_property
    def own_conf(self) -> Path:
        """Settings that change while the server runs; read last."""
        return self.conf / "twinstar.conf"

    @cached_property
    def passfile(self) -> Path:
        return self.conf / "passfile"

    @cached_property
    def server_log(self) -> Path:
        return self.log / "postgresql.log"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    cluster: str
    member: str
    addresses: Mapping[str, Address]
    """Every member's database, this one's included."""
    directory: Path
    bin_dir: Path
    major: int
    """The programs' major version."""
    account: Account | None = None
    """Whom the database's programs run as; None: as this process."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the programs need besides the locale, such as a library path."""
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By role."""
    database: str = "app"
    user: str = "app"
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The user's settings."""
    hba: tuple[str, ...] = ()
    data_checksums: bool = True
    tls: TlsFiles | None = None
    sends_rows: bool = False
    """Active-active: other nodes read rows from its log."""
    launch_file: Path | None = None
    """Where an order to start the database is left for a service manager; None: it is started by this process."""
    retry_interval_ms: int = 20
    """wal_retrieve_retry_interval: how soon a standby tries again; also how often a parked one looks for log."""
    wal_timeout_ms: int = 3_000
    """wal_sender_timeout and wal_receiver_timeout: lower notices a dead peer sooner, higher survives longer stalls."""
    query_deadline_ms: float = 5_000

    def __post_init__(self) -> None:
        longest = len(str(self.paths.run / f".s.PGSQL.{self.address.port}"))
        if longest > _LONGEST_SOCKET_PATH:
            raise EngineError(
                f"The path of {self.directory} is too long for a local socket ({longest} of "
                f"{_LONGEST_SOCKET_PATH} characters): choose a shorter directory."
            )

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.directory)

    @property
    def address(self) -> Address:
        return self.addresses[self.member]

    @property
    def port(self) -> int:
        return self.address.port

    @property
    def sslmode(self) -> str:
        """Of connections to other members: the certificate must be the host's, or there is no TLS at all."""
        return "verify-full" if self.tls else "disable"

    def tool(self, name: str) -> str:
        """The full path of one of PostgreSQL's programs."""
        return str(self.bin_dir / name)
