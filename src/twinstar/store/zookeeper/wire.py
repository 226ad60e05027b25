"""The part of ZooKeeper's wire protocol that Twinstar speaks: requests as bytes, answers as frozen types. No I/O.

Source: `zookeeper.jute` and the server's request processors, release 3.8. Everything is big-endian; a string is its
length and UTF-8, a list its length and its parts, -1 stands for none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Op(IntEnum):
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    GET_CHILDREN = 8
    SYNC = 9
    CHECK = 13
    MULTI = 14
    AUTH = 100
    ADD_WATCH = 106
    CLOSE = -11


class Code(IntEnum):
    """What the server calls errors, as far as they are told apart; one above zero is our own."""

    REDACTED = 1

    OK = 0
    NOT_TRIED = -2
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NODE_EXISTS = -110
    SESSION_EXPIRED = -112
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    QUOTA = -125
    THROTTLED = -127


EVENT_XID = -1
AUTH_XID = -4
ANY_VERSION = -1

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
ALL = READ | WRITE | CREATE | DELETE | ADMIN

_INT, _LONG = struct.Struct(">i"), struct.Struct(">q")
_CONNECT = struct.Struct(">iqiq")
_STAT = struct.Struct(">qqqqiiiqiiq")
_MULTI_HEADER = struct.Struct(">i?i")
_MULTI_END = _MULTI_HEADER.pack(-1, True, -1)
_REPLY = struct.Struct(">iqi")
_PASSWORD_BYTES = 16


class Malformed(Exception):
    """No answer of a ZooKeeper."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of an ACL: what whoever is `id` by `scheme` may do."""

    permissions: int
    scheme: str
    id: str


@dataclass(frozen=True, slots=True)
class Stat:
    """A node's numbers. `modified`: the transaction (zxid) that last changed it; `version`: how many have since it was
    made; `below`: the transaction that last created or deleted a node directly below it.
    """

    modified: int
    version: int
    below: int


@dataclass(frozen=True, slots=True)
class Node:
    data: bytes
    stat: Stat


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one part of a transaction; `stat` of a node that was set."""

    code: int
    stat: Stat | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`applied`: the newest transaction that the server had applied when it answered."""

    xid: int
    applied: int
    code: int
    body: Reader


class Reader:
    """Takes one thing after another from a message. Raises Malformed at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            found = layout.unpack_from(self._data, self._at)
        except struct.error:
            raise Malformed("an answer that is too short") from None
        self._at += layout.size
        return found

    def int(self) -> int:
        return self.take(_INT)[0]

    def buffer(self) -> bytes:
        size = max(self.int(), 0)
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise Malformed("an answer that is too short")
        self._at += size
        return found

    def text(self) -> str:
        return self.buffer().decode(errors="replace")

    def stat(self) -> Stat:
        _, modified, _, _, version, _, _, _, _, _, below = self.take(_STAT)
        return Stat(modified, version, below)

    def node(self) -> Node:
        return Node(self.buffer(), self.stat())

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.int())]

    def grants(self) -> list[Grant]:
        return [Grant(self.int(), self.text(), self.text()) for _ in range(self.int())]


# -- requests --


def connect(session_ms: int) -> bytes:
    """Asks for a new session that lives for `session_ms` without a word from us; never a read-only one."""
    return _CONNECT.pack(0, 0, session_ms, 0) + buffer(bytes(_PASSWORD_BYTES)) + b"\0"


def connected(answer: bytes) -> int:
    """For how many milliseconds the session lives. Raises Malformed."""
    return Reader(answer).take(struct.Struct(">ii"))[1]


def request(xid: int, op: Op, body: bytes) -> bytes:
    return _INT.pack(xid) + _INT.pack(op) + body


def buffer(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data


def text(value: str) -> bytes:
    return buffer(value.encode())


def at(path: str) -> bytes:
    """A request about a path that asks for no one-shot watch."""
    return text(path) + b"\0"


def get_acl(path: str) -> bytes:
    return text(path)


def watch_below(path: str) -> bytes:
    """A watch on the path and all below it that stays (ZooKeeper 3.6)."""
    recursive = 1
    return text(path) + _INT.pack(recursive)


def login(user: str, password: str) -> bytes:
    return _INT.pack(0) + text("digest") + buffer(f"{user}:{password}".encode())


def create(path: str, data: bytes, acl: Sequence[Grant]) -> bytes:
    persistent = 0
    grants = b"".join(_INT.pack(each.permissions) + text(each.scheme) + text(each.id) for each in acl)
    return text(path) + buffer(data) + _INT.pack(len(acl)) + grants + _INT.pack(persistent)


def set_data(path: str, data: bytes, version: int) -> bytes:
    return text(path) + buffer(data) + _INT.pack(version)


def versioned(path: str, version: int) -> bytes:
    """The body of a check and of a deletion."""
    return text(path) + _INT.pack(version)


def multi(parts: Iterable[tuple[Op, bytes]]) -> bytes:
    """All of the parts or none, as one transaction."""
    return b"".join(_MULTI_HEADER.pack(op, False, -1) + body for op, body in parts) + _MULTI_END


# -- answers --


def reply(frame: bytes) -> Reply:
    """Raises Malformed."""
    body = Reader(frame)
    xid, applied, code = body.take(_REPLY)
    return Reply(xid, applied, code, body)


def parts(body: Reader) -> list[Part]:
    """What became of a transaction. Raises Malformed."""
    found: list[Part] = []
    while True:
        op, done, _ = body.take(_MULTI_HEADER)
        if done:
            return found
        if op == -1:
            found.append(Part(body.int()))
        elif op == Op.SET_DATA:
            found.append(Part(Code.OK, body.stat()))
        else:
            if op == Op.CREATE:
                body.text()
            found.append(Part(Code.OK))


def changed_path(body: Reader) -> str:
    """Of a watch's event: where something has changed; what stands there now is to be read. Raises Malformed."""
    body.take(struct.Struct(">ii"))
    return body.text()
