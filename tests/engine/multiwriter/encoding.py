"""Messages as ``pgoutput`` writes them."""

from __future__ import annotations

import struct

from twinstar.engine.postgresql.multiwriter.pgoutput import (
    EPOCH_US,
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Update,
    Values,
)


def encoded(message: Begin | Commit | Insert | Update | Delete) -> bytes:
    match message:
        case Begin(lsn, time_us, xid):
            return struct.pack("!cqqI", b"B", lsn, time_us - EPOCH_US, xid)
        case Commit(lsn, end, time_us):
            return struct.pack("!cBqqq", b"C", 0, lsn, end, time_us - EPOCH_US)
        case Insert(number, new):
            return struct.pack("!cI", b"I", number) + _image(b"N", new)
        case Update(number, old, new):
            return struct.pack("!cI", b"U", number) + (_image(b"O", old) if old else b"") + _image(b"N", new)
        case Delete(number, old):
            return struct.pack("!cI", b"D", number) + _image(b"O", old)


def _image(kind: bytes, values: Values) -> bytes:
    return kind + struct.pack("!H", len(values)) + b"".join(map(_value, values))


def _value(text: str | None) -> bytes:
    if text is None or text is UNCHANGED:
        return b"n" if text is None else b"u"
    return b"t" + struct.pack("!I", len(text.encode())) + text.encode()
