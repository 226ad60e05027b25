"""What a guard is told at its start: one JSON document, written by whoever starts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.model.wire import Part


@dataclass(frozen=True, slots=True)
class GuardPeer:
    """Another member: where its agent and its guard hear datagrams."""

    member: str
    agent: Address
    guard: Address


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Durations in milliseconds; paths are absolute."""

    cluster: str
    member: str
    secret_file: str
    """Its content without surrounding white space is the key of the datagrams' signatures."""
    bind: Address
    """Where this guard hears."""
    agent: Address
    """Where its own agent hears."""
    data_directory: str
    """Every process of the database stands in it."""
    state_file: str
    """The guard's own memory, so that a restarted guard knows what it was told of a running database."""
    peers: tuple[GuardPeer, ...] = ()
    pid_file: str = "postmaster.pid"
    """In the data directory: its first line is the main process's pid."""
    database_socket: str = ""
    """The database's local socket, which is tested when the agent is silent; empty: test `database` instead."""
    database: Address | None = None
    durability: str = "quorum"
    lease_ms: float = 0
    """`async` alone: how long a database that was running before the guard may go unexplained by the agent."""
    heartbeat_ms: float = 100
    stall_ms: float = 300
    guard_grace_ms: float = 2_000
    agent_silent_ms: float = 3_200
    hung_query_ms: float = 1_000
    hung_strikes: int = 3
    engine_kill_allowed: bool = True
    """False: observe and say, end nothing."""

    def address_of(self, member: str, part: Part) -> Address | None:
        """Where that part of a member hears datagrams; None when this guard need not know."""
        if member == self.member:
            return self.agent if part is Part.AGENT else None
        for peer in self.peers:
            if peer.member == member:
                return {Part.AGENT: peer.agent, Part.GUARD: peer.guard}.get(part)
        return None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GuardSettings:
        """Reads what `to_json` wrote. Raises UsageError, one sentence that names the field."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise UsageError(f"The guard's settings are no JSON ({error}): write them again.") from error
        if not isinstance(raw, dict):
            raise UsageError("The guard's settings must be one JSON object: write them again.")
        if unknown := sorted(raw.keys() - {field.name for field in fields(cls)}):
            raise UsageError(f"The guard's settings have an unknown field {unknown[0]!r}: remove it.")
        try:
            return cls(**{name: _READERS[name](name, value) for name, value in raw.items()})
        except TypeError as error:
            raise UsageError(f"The guard's settings are incomplete ({error}): add the field.") from error


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def _filled(name: str, value: Any) -> str:
    if not _text(name, value):
        raise _wrong(name, "a string that is not empty", value)
    return str(value)


def _path(name: str, value: Any) -> str:
    if not _text(name, value).startswith("/"):
        raise _wrong(name, "an absolute path", value)
    return str(value)


def _duration(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise _wrong(name, "a number of milliseconds", value)
    return float(value)


def _interval(name: str, value: Any) -> float:
    if _duration(name, value) < 1:
        raise _wrong(name, "at least one millisecond", value)
    return float(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, "a whole number from 1 on", value)
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _durability(name: str, value: Any) -> str:
    if value not in ("quorum", "async"):
        raise _wrong(name, "quorum or async", value)
    return str(value)


def _address(name: str, value: Any) -> Address:
    if not isinstance(value, dict) or value.keys() != {"host", "port"}:
        raise _wrong(name, '{"host": …, "port": …}', value)
    port = value["port"]
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65_536:
        raise _wrong(f"{name}.port", "a port from 1 to 65535", port)
    return Address(_filled(f"{name}.host", value["host"]), port)


def _address_or_none(name: str, value: Any) -> Address | None:
    return None if value is None else _address(name, value)


def _peers(name: str, value: Any) -> tuple[GuardPeer, ...]:
    if not isinstance(value, list) or any(
        not isinstance(each, dict) or each.keys() != {"member", "agent", "guard"} for each in value
    ):
        raise _wrong(name, 'a list of {"member": …, "agent": …, "guard": …}', value)
    return tuple(
        GuardPeer(
            _filled(f"{name}.member", each["member"]),
            _address(f"{name}.agent", each["agent"]),
            _address(f"{name}.guard", each["guard"]),
        )
        for each in value
    )


def _wrong(name: str, wanted: str, value: Any) -> UsageError:
    return UsageError(f"In the guard's settings {name} must be {wanted}, not {value!r}.")


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "cluster": _filled,
    "member": _filled,
    "secret_file": _path,
    "bind": _address,
    "agent": _address,
    "data_directory": _path,
    "state_file": _path,
    "peers": _peers,
    "pid_file": _filled,
    "database_socket": _text,
    "database": _address_or_none,
    "durability": _durability,
    "lease_ms": _duration,
    "heartbeat_ms": _interval,
    "stall_ms": _interval,
    "guard_grace_ms": _duration,
    "agent_silent_ms": _interval,
    "hung_query_ms": _interval,
    "hung_strikes": _count,
    "engine_kill_allowed": _flag,
}
