"""PostgreSQL's wire protocol as far as a router reads it: the first message, and the headers of all others.

Sans-IO: bytes in, facts out. Protocol 3.0 to 3.2 (https://www.postgresql.org/docs/18/protocol-message-formats.html):
before a session there are messages without a type (length, code, rest); afterwards each is a type byte, a length that
counts itself, and a body. Bodies are not read, except the few bytes of those that a router needs, so that a buffer of
bulk data costs one subtraction however large its message is, and a small message one step of a loop.

Key data of a session is pid and secret together, as it comes: 8 bytes up to protocol 3.0, up to 260 with 3.2. A
CancelRequest carries the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

LONGEST_FIRST_MESSAGE = 10_000
"""PostgreSQL's own bound on a startup message, in bytes."""
LONGEST_BODY = 1_024
"""A message whose body is wanted and that is longer than this is none that PostgreSQL sends."""

_HEADER = Struct(">BI")
_FIRST = Struct(">II")
_CANCEL_CODE = 80877102
_ENCRYPTION_CODES = {80877103, 80877104}  # SSLRequest, GSSENCRequest
_TLS_RECORD = 0x16


@dataclass(frozen=True, slots=True)
class Startup:
    """A session begins in the clear."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: the server answers with one byte, and ``S`` or ``G`` begin what nobody can read."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """`key`: pid and secret of the session whose statement is to be cancelled."""

    data: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class DirectTls:
    """TLS without asking first (``sslnegotiation=direct``)."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not PostgreSQL's protocol 3."""

    data: bytes = b""


First = Startup | EncryptionRequest | Cancel | DirectTls | Malformed


def parse_first(data: bytes | bytearray) -> First | None:
    """The message without a type at the head of `data`; None: more bytes are needed. `First.data` is what it used."""
    if data[:1] == bytes([_TLS_RECORD]):
        return DirectTls()
    if len(data) < _FIRST.size:
        return None
    length, code = _FIRST.unpack_from(data)
    if not _FIRST.size <= length <= LONGEST_FIRST_MESSAGE:
        return Malformed()
    if len(data) < length:
        return None
    message = bytes(data[:length])
    if code in _ENCRYPTION_CODES:
        return EncryptionRequest(message)
    if code == _CANCEL_CODE:
        return Cancel(message, message[_FIRST.size :])
    return Startup(message) if code >> 16 == 3 else Malformed()


def error_response(sqlstate: str, sentence: str, hint: str = "") -> bytes:
    """A FATAL ErrorResponse: the server's way to say a last sentence."""
    fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": sentence} | ({"H": hint} if hint else {})
    body = b"".join(f"{kind}{text}\0".encode() for kind, text in fields.items()) + b"\0"
    return _HEADER.pack(ord("E"), 4 + len(body)) + body


def sqlstate_of(data: bytes | bytearray) -> str | None:
    """The SQLSTATE if `data` begins with a whole ErrorResponse, otherwise None."""
    if len(data) < _HEADER.size or data[0] != ord("E"):
        return None
    end = 1 + _HEADER.unpack_from(data)[1]
    fields = data[_HEADER.size : end].split(b"\0")
    return next((field[1:].decode("ascii", "replace") for field in fields if field[:1] == b"C"), None)


_NOTHING: list[tuple[int, bytes]] = []


class Headers:
    """Walks over the typed messages of one direction, in whatever pieces they come."""

    __slots__ = ("_bodies", "_rest", "_skip", "_wanted", "lost")

    def __init__(self, wanted: bytes, *, bodies: bool) -> None:
        """`wanted`: the types to report, with their bodies or as soon as their header is there."""
        self._wanted = frozenset(wanted)
        self._bodies = bodies
        self._skip = 0
        self._rest = b""
        self.lost = False
        """What came cannot be this protocol: nothing is reported any more."""

    @property
    def at_boundary(self) -> bool:
        """Every message that began has been seen to its end."""
        return not self._skip and not self._rest

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The wanted messages that `data` completes, as (type, body)."""
        if self.lost:
            return _NOTHING
        position = self._skip
        if position >= len(data):
            self._skip = position - len(data)
            return _NOTHING
        if self._rest:
            data = self._rest + data
        return self._walk(data, position)

    def _walk(self, data: bytes, position: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size, wanted, bodies, header = len(data), self._wanted, self._bodies, _HEADER.unpack_from
        while size - position >= 5:
            kind, length = header(data, position)
            end = position + 1 + length
            if kind in wanted:
                if bodies and length <= LONGEST_BODY and end > size:
                    break
                self.lost = bodies and length > LONGEST_BODY
                found.append((kind, data[position + 5 : end] if bodies else b""))
            if length < 4 or self.lost:
                self.lost = True
                return []
            position = end
        self._rest = data[position:] if position < size else b""
        self._skip = max(0, position - size)
        return found


_CLIENT = b"QFSPBDECH"  # Query, FunctionCall, Sync; Parse, Bind, Describe, Execute, Close, Flush
_ENDS_IN_READY = frozenset(b"QFS")
_READY, _KEY, _PARAMETER = b"ZKS"
_STANDBY = b"in_hot_standby\0on\0"
"""What PostgreSQL reports of itself before it takes the first statement of a session on a standby."""


class Conversation:
    """What one session is at, read from both directions.

    Counting errs on the side of *busy*: a Sync that the server ignores inside COPY is waited for in vain.
    """

    __slots__ = ("_batch", "_down", "_on_key", "_on_standby", "_up", "key", "outstanding", "ready", "status")

    def __init__(self, on_key: Callable[[bytes], None], on_standby: Callable[[], None]) -> None:
        """`on_key` is told what a CancelRequest for this session carries; `on_standby` is called when the server says
        that it is one."""
        self._on_key, self._on_standby = on_key, on_standby
        self._up = Headers(_CLIENT, bodies=False)
        self._down = Headers(b"ZKS", bodies=True)
        self._batch = False
        self.key: bytes | None = None
        self.status = ""
        """From the last ReadyForQuery: ``I`` idle, ``T`` in a transaction, ``E`` in a failed one; empty before it."""
        self.outstanding = 1
        """ReadyForQuery messages that are still to come: the startup's own, then one for each request."""
        self.ready = 0
        """ReadyForQuery messages that have come."""

    def from_client(self, data: bytes) -> None:
        for kind, _ in self._up.feed(data):
            ends = kind in _ENDS_IN_READY
            self.outstanding += ends
            self._batch = not ends

    def from_server(self, data: bytes) -> None:
        for kind, body in self._down.feed(data):
            if kind == _READY:
                self.status = body.decode("ascii", "replace")
                self.outstanding = max(0, self.outstanding - 1)
                self.ready += 1
            elif kind == _KEY:
                self.key = body
                self._on_key(body)
            elif kind == _PARAMETER and body == _STANDBY:
                self._on_standby()

    @property
    def quiet(self) -> bool:
        """Nothing is asked, half sent or half answered; in a transaction or not."""
        if self.outstanding or self._batch or self._up.lost or self._down.lost:
            return False
        return self._up.at_boundary and self._down.at_boundary

    @property
    def between_transactions(self) -> bool:
        return self.status == "I" and self.quiet
