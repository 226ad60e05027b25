"""Datagrams between guards, agents and routers: what they say, and how they are signed. Standard library only.

Each datagram is JSON with a schema version, the cluster, the sender (member and part), the sender's boot id (wall-clock
milliseconds at its start) and a counter that grows, followed by an HMAC-SHA256 over all of it (truncated to 128 bits,
RFC 2104 section 5). A receiver refuses what is not authentic, of another cluster or version, malformed, or a replay
(`Inbox`).

**What that does not cover.** A receiver that has just started has heard nobody, so it cannot tell a replay from an
original until the sender's next datagram. That is why no message may do harm when it is believed late: epochs only
grow, a run that is dead stays dead, a lease is an absolute time. Who can keep a number across restarts passes
``max(wall clock, last boot + 1)`` as its boot; who could not is told (`model/starts.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, get_args

SCHEMA = 1
LARGEST_NUMBER = 1 << 63
"""What datagrams carry is smaller."""
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
    pid: int = 0
    """The guard's own."""


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
    paused: bool = False
    """A database that hangs is left alone, also when the agent is gone."""
    knows_lease: bool = True
    """False: an earlier run of the agent may have asked for a lease of which this one has not heard yet."""


@dataclass(frozen=True, slots=True)
class LaterStart:
    """To a sender that is refused: start `boot` of your part of your member has been heard here."""

    member: str
    part: Part
    boot: int


@dataclass(frozen=True, slots=True)
class PeerStatement:
    """Active-active: what a node's agent says of its node, to routers that said `Hello` and to the other agents; at
    each change and at intervals, and at once in answer to a `Probe`.

    Who asks with its own clock as the probe's token (wall clock, microseconds) and hears the answer at `heard_us` knows
    the other's clock: ``rules.active_active.skew.measured(statement.answers, statement.wall_us, heard_us)``.
    """

    number: int
    """The node's number: one life of its database. 0: it has none yet."""
    epoch: int
    """The highest epoch of the membership that it knows."""
    open: bool
    """Clients may come."""
    reason: str
    """Why they may not; empty when they may."""
    lag_ms: float
    """The greatest age of what this node has not applied from any other; it grows while an applier has no contact."""
    database: str
    """Where the node's database is reached, ``host:port``."""
    wall_us: int
    """Its wall clock when it said this."""
    answers: int = 0
    """The token of the probe that this answers; 0: it was not asked."""


Message = (
    Heartbeat
    | Probe
    | Alive
    | Ask
    | Answer
    | Gossip
    | EpochNotice
    | Hello
    | Serving
    | Told
    | LaterStart
    | PeerStatement
)
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(Message)}


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
        self.member, self.part = member, part
        self._head: dict[str, Any] = {"v": SCHEMA, "c": cluster, "m": member, "p": part.value, "b": boot}
        self._mac = _Mac(secret)
        self._counter = 0

    @property
    def boot(self) -> int:
        return int(self._head["b"])

    def start_as(self, boot: int) -> None:
        """From here on it speaks under a higher number."""
        self._head["b"] = boot

    def pack(self, message: Message) -> bytes:
        self._counter += 1
        kind = type(message)
        content = {name: getattr(message, name) for name in _SHAPES[kind]}
        body = {**self._head, "n": self._counter, "t": kind.__name__, "d": content}
        data = _ENCODER.encode(body).encode()
        return data + self._mac.of(data)


class Inbox:
    """Opens datagrams of one cluster and refuses replays.

    Per sender each counter is taken once. A question or an answer that was overtaken on its way is still taken, as long
    as it is among the last 64; a *state* (heartbeat, serving and so on) that is older than the last one of its kind is
    not, since the newer one has replaced it.
    """

    def __init__(self, cluster: str, secret: bytes) -> None:
        self._cluster = cluster
        self._mac = _Mac(secret)
        self._seen: dict[tuple[str, Part], _Seen] = {}
        self.refused = 0
        self.foreign_schema = 0

    def open(self, data: bytes) -> Envelope | LaterStart | None:
        """The message, or None when it is refused (counted in `refused`, other versions in `foreign_schema` as well).

        `LaterStart` itself: refused as well, and this is what its sender should be told (`model/starts.py`). Never
        raises, whatever the bytes are.
        """
        envelope = self._authentic(data)
        if envelope is not None and isinstance(envelope.message, LaterStart):
            return envelope
        if envelope is None or not self._fresh(envelope):
            self.refused += 1
            return self._later_start(envelope) if envelope else None
        return envelope

    def _fresh(self, envelope: Envelope) -> bool:
        sender = (envelope.member, envelope.part)
        seen = self._seen.get(sender)
        if seen is None or envelope.boot > seen.boot:
            replaced = (*seen.replaced, seen.boot)[-_REPLACED_KEPT:] if seen else ()
            seen = self._seen[sender] = _Seen(envelope.boot, replaced)
        return envelope.boot == seen.boot and seen.take(envelope.counter, type(envelope.message))

    def _later_start(self, refused: Envelope) -> LaterStart | None:
        seen = self._seen[refused.member, refused.part]
        if refused.boot == seen.boot or refused.boot in seen.replaced:
            return None
        return LaterStart(refused.member, refused.part, seen.boot)

    def _authentic(self, data: bytes) -> Envelope | None:
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac.of(body)):
            return None
        try:
            raw = _DECODER.decode(body.decode())
            if raw["v"] != SCHEMA:
                self.foreign_schema += 1
                return None
            return _envelope(raw) if raw["c"] == self._cluster else None
        except (ValueError, TypeError, KeyError, RecursionError):  # signed, and still nonsense: another program's
            return None


class _Seen:
    """The counters of one boot of one sender: the largest, a bit for each of the 64 up to it, the newest per state."""

    def __init__(self, boot: int, replaced: tuple[int, ...]) -> None:
        self.boot = boot
        self.replaced = replaced
        """The last boots that were heard before this one."""
        self._largest = 0
        self._bits = 0
        self._states: dict[type, int] = {}

    def take(self, counter: int, kind: type) -> bool:
        if kind in _STATES and counter <= self._states.get(kind, 0):
            return False
        behind = self._largest - counter
        if behind >= _WINDOW or (behind >= 0 and self._bits >> behind & 1):
            return False
        if behind < 0:
            self._bits = (self._bits << -behind | 1) & (1 << _WINDOW) - 1 if -behind < _WINDOW else 1
            self._largest = counter
        else:
            self._bits |= 1 << behind
        if kind in _STATES:
            self._states[kind] = counter
        return True


class _Mac:
    """HMAC-SHA256 with the key's part worked out once."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, b"", hashlib.sha256)

    def of(self, data: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(data)
        return keyed.digest()[:_MAC_BYTES]


def _envelope(raw: dict[str, Any]) -> Envelope:
    """Raises ValueError, TypeError or KeyError for what no `Sender` wrote."""
    kind = _KINDS[raw["t"]]
    shape = _SHAPES[kind]
    content = raw["d"]
    if not isinstance(content, dict) or content.keys() - shape.keys():
        raise ValueError("fields that this kind of message does not have")
    message = kind(**{name: _read(shape[name], value) for name, value in content.items()})
    boot, counter = _read("int", raw["b"]), _read("int", raw["n"])
    if counter < 1:
        raise ValueError("counters begin at 1")
    return Envelope(_read("str", raw["m"]), Part(raw["p"]), boot, counter, message)


def _read(shape: str, value: Any) -> Any:
    """The value as the field's annotation wants it. Raises ValueError."""
    wanted = _PLAIN.get(shape)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is not None and type(value) is wanted:
        if isinstance(value, int | float) and not abs(value) < LARGEST_NUMBER:  # NaN is not either
            raise ValueError(f"no {shape} in range: {value!r}")
        return value
    if shape in _ENUMS:
        return _ENUMS[shape](value)
    if shape == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(f"no {shape}: {value!r}")


# Made once: a guard is asleep nearly always, and what it runs when it wakes is cold.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()
_WINDOW = 64
_REPLACED_KEPT = 16
_STATES = frozenset({Heartbeat, Gossip, EpochNotice, Serving, Told, PeerStatement})
_ENUMS: dict[str, type[StrEnum]] = {each.__name__: each for each in (EngineWord, Part)}
_PLAIN: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "dict[str, Any]": dict}
_SHAPES: dict[type, dict[str, str]] = {
    kind: {each.name: str(each.type) for each in fields(kind)} for kind in _KINDS.values()
}
"""Per kind of message, its fields' annotations."""
