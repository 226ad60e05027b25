"""The fields of `twinstar.yaml`. Durations are milliseconds, sizes bytes; the names say so."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from twinstar.model.register import Durability


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeTags(_Section):
    nofailover: bool = False
    priority: int = 0


class Node(_Section):
    name: str
    host: str = "127.0.0.1"
    port: int
    """The database's TCP port."""
    api_port: int
    """The agent's HTTP port."""
    agent_port: int
    """UDP: the agent's datagrams."""
    guard_port: int
    """UDP: the guard's datagrams."""
    directory: Path
    """Holds `data/` (the database), `conf/`, `state/`, `run/` (sockets), `log/`, `forks/`."""
    tags: NodeTags = NodeTags()


class Tls(_Section):
    certificate: Path
    key: Path
    authority: Path


class EmbeddedStore(_Section):
    socket: Path
    file: Path


class EtcdStore(_Section):
    endpoints: tuple[str, ...]
    user: str | None = None
    password_file: Path | None = None
    tls: Tls | None = None


class Store(_Section):
    embedded: EmbeddedStore | None = None
    etcd: EtcdStore | None = None


class Router(_Section):
    bind: tuple[str, ...] = ("127.0.0.1",)
    write_port: int
    read_port: int
    notice_port: int
    """UDP: agents tell the router what is open."""
    max_hold_ms: int = 10_000
    """How long a new session is held while nobody leads."""
    max_read_lag_bytes: int = 16 * 1024 * 1024


class Postgresql(_Section):
    bin_dir: Path | None = None
    parameters: dict[str, str] = Field(default_factory=dict)
    hba: tuple[str, ...] = ()
    data_checksums: bool = True
    database: str = "app"
    user: str = "app"
    """The application's database and role, made at bootstrap."""
    system_user: str | None = None
    """The operating system's user that runs the database when agents run as root."""


class Timing(_Section):
    """Overrides of what the preset gives; see `presets.py` for formulas."""

    heartbeat_ms: int | None = None
    suspicion_ms: int | None = None
    election_timeout_ms: int | None = None
    voter_removal_ms: int = 10_000
    start_grace_ms: int = 10_000
    guard_grace_ms: int = 2_000


class Config(_Section):
    cluster: str
    strategy: Literal["active-passive"] = "active-passive"
    durability: Durability = Durability.QUORUM
    required: int | None = None
    policy: Literal["block", "degrade"] | None = None
    preset: Literal["fast", "balanced", "patient"] = "balanced"
    lease_ms: int = 10_000
    maximum_lag_bytes: int = 1024 * 1024
    insecure: bool = False
    secrets: Path
    """A directory with one file per secret (mode 0600)."""
    tls: Tls | None = None
    store: Store
    nodes: tuple[Node, ...]
    router: Router | None = None
    postgresql: Postgresql = Postgresql()
    timing: Timing = Timing()
