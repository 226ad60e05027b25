"""What client and server of the embedded store say to each other: JSON objects, each after its length in four bytes.

A request is ``{"op": ..., ...}`` and gets one answer, except ``watch``, which turns the connection into a stream of
``{"listing": [...], "revision": n}`` and then ``{"key": ..., "value": ..., "revision": n}``. A refusal is
``{"error": "a sentence"}``. Values are base64, since JSON has no bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from twinstar.model.errors import PeerError
from twinstar.store.base import MAX_VALUE_BYTES, Versioned

Frame = dict[str, Any]

MAX_REQUEST_BYTES = 2 * MAX_VALUE_BYTES
"""A value in base64, its key and some room."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_LENGTH_BYTES = 4


def encode(frame: Frame) -> bytes:
    body = json.dumps(frame, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def receive(reader: asyncio.StreamReader, max_bytes: int) -> Frame:
    """The next frame. Raises EOFError when the stream ends, OSError when it breaks, PeerError when it is no frame."""
    size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if size > max_bytes:
        raise PeerError(f"The embedded store's peer sent {size} bytes at once: connect only Twinstar to its socket.")
    try:
        frame = json.loads(await reader.readexactly(size))
    except ValueError:
        frame = None
    if not isinstance(frame, dict):
        raise PeerError("The embedded store's peer sent something else than JSON: connect only Twinstar to its socket.")
    return frame


def pack(found: Versioned | None) -> Frame | None:
    if found is None:
        return None
    return {"key": found.key, "value": base64.b64encode(found.value).decode(), "revision": found.revision}


def unpack(frame: Frame | None) -> Versioned | None:
    if frame is None:
        return None
    return Versioned(frame["key"], base64.b64decode(frame["value"]), frame["revision"])
