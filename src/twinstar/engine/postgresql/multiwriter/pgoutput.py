"""The messages of ``pgoutput``, protocol versions 2 to 4 without streaming of open transactions: bytes to tuples, pure.

Tens of thousands of rows a second pass through here, so messages are named tuples, and a value that an update did not
send because it is stored out of line and unchanged (TOAST) is filled in from the old image at once, where there is one.

Format: PostgreSQL's documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from twinstar.model.errors import PeerError

Values: TypeAlias = "tuple[str | None, ...]"

EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01, where PostgreSQL's timestamps begin, in microseconds since 1970."""


class _Unchanged(str):
    __slots__ = ()


UNCHANGED: Final[str] = _Unchanged("(unchanged)")
"""What stands for a value that was not sent and that no old image has: compare with `is`."""


class Begin(NamedTuple):
    """`commit_lsn`: of the commit to come. `time_us`: when it was, in microseconds since 1970."""

    commit_lsn: int
    time_us: int
    xid: int


class Commit(NamedTuple):
    """`end_lsn`: where the log goes on after the commit, which is where a receiver that has it starts again."""

    commit_lsn: int
    end_lsn: int
    time_us: int


class Origin(NamedTuple):
    lsn: int
    name: str


class Column(NamedTuple):
    name: str
    type_oid: int
    modifier: int
    key: bool


class Relation(NamedTuple):
    """A table as the peer has it, told before its first row and whenever it has changed. `identity`: d, n, f or i."""

    id: int
    schema: str
    name: str
    identity: str
    columns: tuple[Column, ...]


class Type(NamedTuple):
    oid: int
    schema: str
    name: str


class Insert(NamedTuple):
    relation: int
    new: Values


class Update(NamedTuple):
    """`old` is None where the table's identity is no full image and its key did not change."""

    relation: int
    old: Values | None
    new: Values


class Delete(NamedTuple):
    relation: int
    old: Values


class Truncate(NamedTuple):
    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class LogicalMessage(NamedTuple):
    """What `pg_logical_emit_message` wrote."""

    lsn: int
    transactional: bool
    prefix: str
    content: bytes


Message: TypeAlias = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | LogicalMessage

_begin = Struct("!qqI").unpack_from
_commit = Struct("!Bqqq").unpack_from
_long = Struct("!q").unpack_from
_unsigned = Struct("!I").unpack_from
_short = Struct("!H").unpack_from
_attribute = Struct("!Ii").unpack_from
_message = Struct("!Bq").unpack_from


def decode(message: bytes, at: int = 0) -> Message:
    """The message that begins at this offset. Raises PeerError when there is none that this program knows."""
    try:
        return _DECODERS[message[at]](message, at + 1)
    except (KeyError, IndexError, ValueError):
        raise PeerError(
            f"A peer sent a message that cannot be read ({message[at : at + 20]!r}): "
            "run the same version of Twinstar on every node."
        ) from None
    except struct.error:
        raise PeerError("A peer sent a message that was cut off: see whether something alters its traffic.") from None


def _read_begin(message: bytes, at: int) -> Begin:
    lsn, time, xid = _begin(message, at)
    return Begin(lsn, time + EPOCH_US, xid)


def _read_commit(message: bytes, at: int) -> Commit:
    _, lsn, end, time = _commit(message, at)
    return Commit(lsn, end, time + EPOCH_US)


def _read_origin(message: bytes, at: int) -> Origin:
    return Origin(_long(message, at)[0], _string(message, at + 8)[0])


def _read_relation(message: bytes, at: int) -> Relation:
    (oid,) = _unsigned(message, at)
    schema, at = _string(message, at + 4)
    name, at = _string(message, at)
    identity = chr(message[at])
    (count,) = _short(message, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        key = bool(message[at] & 1)
        column, at = _string(message, at + 1)
        type_oid, modifier = _attribute(message, at)
        columns.append(Column(column, type_oid, modifier, key))
        at += 8
    # The schema of PostgreSQL's own objects is sent as an empty string.
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _read_type(message: bytes, at: int) -> Type:
    (oid,) = _unsigned(message, at)
    schema, at = _string(message, at + 4)
    return Type(oid, schema or "pg_catalog", _string(message, at)[0])


def _read_insert(message: bytes, at: int) -> Insert:
    return Insert(_unsigned(message, at)[0], _values(message, at + 5)[0])


def _read_update(message: bytes, at: int) -> Update:
    (relation,) = _unsigned(message, at)
    old: Values | None = None
    kind = message[at + 4]
    at += 5
    if kind != _NEW:
        old, at = _values(message, at)
        at += 1
    new, _ = _values(message, at)
    if UNCHANGED in new and kind == _OLD and old is not None:
        new = tuple([before if value is UNCHANGED else value for before, value in zip(old, new, strict=True)])
    return Update(relation, old, new)


def _read_delete(message: bytes, at: int) -> Delete:
    return Delete(_unsigned(message, at)[0], _values(message, at + 5)[0])


def _read_truncate(message: bytes, at: int) -> Truncate:
    (count,) = _unsigned(message, at)
    options = message[at + 4]
    relations = tuple(_unsigned(message, at + 5 + 4 * each)[0] for each in range(count))
    return Truncate(relations, bool(options & 1), bool(options & 2))


def _read_message(message: bytes, at: int) -> LogicalMessage:
    flags, lsn = _message(message, at)
    prefix, at = _string(message, at + 9)
    (length,) = _unsigned(message, at)
    return LogicalMessage(lsn, bool(flags & 1), prefix, message[at + 4 : at + 4 + length])


def _string(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


_TEXT, _NULL, _TOAST, _NEW, _OLD = b"tnuNO"


def _values(message: bytes, at: int) -> tuple[Values, int]:
    """A row's values, and where the message goes on after them."""
    (count,) = _short(message, at)
    at += 2
    values: list[str | None] = []
    append = values.append
    for _ in range(count):
        kind = message[at]
        if kind == _TEXT:
            (length,) = _unsigned(message, at + 1)
            at += 5
            end = at + length
            append(message[at:end].decode())
            at = end
        elif kind == _NULL:
            append(None)
            at += 1
        elif kind == _TOAST:
            append(UNCHANGED)
            at += 1
        else:
            raise ValueError(kind)
    if at > len(message):
        raise IndexError(at)
    return tuple(values), at


_DECODERS: Final[dict[int, Callable[[bytes, int], Message]]] = {
    ord("B"): _read_begin,
    ord("C"): _read_commit,
    ord("O"): _read_origin,
    ord("R"): _read_relation,
    ord("Y"): _read_type,
    ord("I"): _read_insert,
    ord("U"): _read_update,
    ord("D"): _read_delete,
    ord("T"): _read_truncate,
    ord("M"): _read_message,
}
