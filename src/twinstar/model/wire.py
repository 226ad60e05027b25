"""Datagrams between guards, agents and routers: what they say, and how they are signed. Standard library only.

Each datagram is JSON with a schema version, the cluster, the sender (member and part), the sender's boot id (wall-clock
milliseconds at its start) and a counter that grows, followed by an HMAC-SHA256 over all of it (truncated to 128 bits,
RFC 2104 section 5). A receiver refuses what is not authentic, of another cluster or version, older than what it has
heard from the same sender (`Inbox`), or larger than one datagram.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1
_MAC_BYTES = 16


class Part(StrEnum):
    GUARD = "guard"
    AGENT = "agent"
    ROUTER = "router"


class EngineWord(StrEnum):
    """What a guard says of its database."""

    UNKNOWN = "unknown"
    """The guard has not been told of one, or cannot see it."""
    RUNNING = "running"
    KILLING = "killing"
    """The main process is gone or condemned; others of it are still there."""
    DEAD = "dead"
    """Died without having been asked to; no process of it is left."""
    STOPPED = "stopped"
    """Not running because the agent stopped it."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A guard's sign of life."""

    epoch: int
    """The epoch for which the agent last ran the database as leader or standby (0: none)."""
    leading: bool
    """The database was last run as the leader's of `epoch`."""
    agent_age_ms: float
    """Since the agent last told the guard that it gets on; large when it never did."""
    engine: EngineWord
    run: str = ""
    """Which run of the database is spoken of: ``pid:start time``."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Are you there? Sent by an agent, answered by the agent at once with `Alive`."""

    token: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Answer to a probe: who is heard by the answering agent, and the highest epoch it has seen."""

    token: int
    epoch: int
    hears: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Do you suspect the leader of `epoch` as well?"""

    about: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Answer:
    about: str
    epoch: int
    suspects: bool
    can_seal: bool
    """The answering member is a running copy that could seal now."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """What a member says of itself for `status` and for lag bounds; a hint, never a basis for safety."""

    role: str
    state: str
    epoch: int
    position: str
    replayed: str
    agent_pid: int
    engine_pid: int
    guard_pid: int
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochNotice:
    """The register is at this epoch and names this leader."""

    epoch: int
    leader: str


@dataclass(frozen=True, slots=True)
class Hello:
    """A router asks an agent what is open; it is told `Serving` now and at each change for some seconds."""

    epoch: int
    """The highest epoch the router knows of."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A leader's agent says that epoch `epoch` is open (or not yet), and which standbys may serve reads."""

    epoch: int
    leader: str
    open: bool
    readers: tuple[str, ...] = ()
    """Standbys within the lag bound."""
    draining: bool = False
    """A switchover is about to stop the leader: hold new sessions."""


@dataclass(frozen=True, slots=True)
class Told:
    """Agent to its own guard: I get on, and this is what I run."""

    epoch: int
    leading: bool
    run: str
    stopping: bool
    """The agent itself is stopping, starting or rewinding the database: its end is no death."""
    lease_until_ms: float = 0.0
    """`async`: on this machine's boot clock, until when the database may run as leader; 0 when no lease applies."""
    register_epoch: int = 0


Message = Heartbeat | Probe | Alive | Ask | Answer | Gossip | EpochNotice | Hello | Serving | Told
_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Heartbeat, Probe, Alive, Ask, Answer, Gossip, EpochNotice, Hello, Serving, Told)
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its sender."""

    member: str
    part: Part
    boot: int
    counter: int
    message: Message


class Sender:
    """Signs what one part of one member says. `boot` is its start in wall-clock milliseconds."""

    def __init__(self, cluster: str, secret: bytes, member: str, part: Part, boot: int) -> None:
        self._head: dict[str, Any] = {"v": SCHEMA, "c": cluster, "m": member, "p": part.value, "b": boot}
        self._secret = secret
        self._counter = 0

    def pack(self, message: Message) -> bytes:
        self._counter += 1
        body = {**self._head, "n": self._counter, "t": type(message).__name__, "d": asdict(message)}
        data = json.dumps(body, separators=(",", ":")).encode()
        return data + _mac(self._secret, data)


class Inbox:
    """Opens datagrams of one cluster and refuses replays: per sender, boot and counter only grow."""

    def __init__(self, cluster: str, secret: bytes) -> None:
        self._cluster = cluster
        self._secret = secret
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self.refused = 0
        self.foreign_schema = 0

    def open(self, data: bytes) -> Envelope | None:
        """The message, or None when it is refused (counted in `refused`, other versions in `foreign_schema`)."""
        envelope = self._authentic(data)
        if envelope is None:
            self.refused += 1
            return None
        sender = (envelope.member, envelope.part.value)
        order = (envelope.boot, envelope.counter)
        if order <= self._last.get(sender, (0, 0)):
            self.refused += 1
            return None
        self._last[sender] = order
        return envelope

    def _authentic(self, data: bytes) -> Envelope | None:
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(self._secret, body)):
            return None
        raw = json.loads(body)
        if raw["v"] != SCHEMA:
            self.foreign_schema += 1
            return None
        kind = _KINDS.get(raw["t"])
        if raw["c"] != self._cluster or kind is None:
            return None
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["d"].items()}
        if kind is Heartbeat:
            fields["engine"] = EngineWord(fields["engine"])
        return Envelope(raw["m"], Part(raw["p"]), raw["b"], raw["n"], kind(**fields))


def _mac(secret: bytes, data: bytes) -> bytes:
    return hmac.new(secret, data, hashlib.sha256).digest()[:_MAC_BYTES]
