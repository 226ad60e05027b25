"""One request and its answer on a byte stream, with bounds: what a client sends is small and comes soon, or it ends.

microdot parses and dispatches; the streams are ours, so that they come from the network port and obey the clock port.
Each connection carries one request: a health check every second is cheap, and nothing has to be kept for idle clients.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from microdot import Microdot, Request, Response

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 16 * 1024


class _Malformed(Exception):
    """The request cannot be read as HTTP within the bounds."""


class _BoundedReader:
    """What microdot reads from: at most `MAX_HEAD_BYTES` of lines, and a cut-off request is none at all.

    Without the latter a command whose sender died in the middle of it would be run with what had arrived.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._left = MAX_HEAD_BYTES

    async def readline(self) -> bytes:
        line = await self._reader.readline()
        self._left -= len(line)
        if not line.endswith(b"\n") or self._left < 0:
            raise _Malformed
        return line

    async def readexactly(self, count: int) -> bytes:
        return await self._reader.readexactly(count)


async def read_request(app: Microdot, reader: asyncio.StreamReader, peer: Any) -> Request | None:
    """The request, or None when it is none. A body that is too large is left unread: the app answers 413."""
    try:
        return await _parse(app, reader, peer)
    except (_Malformed, ValueError, IndexError, asyncio.IncompleteReadError):
        return None


async def _parse(app: Microdot, reader: asyncio.StreamReader, peer: Any) -> Request | None:
    bounded: Any = _BoundedReader(reader)  # has the two methods that are used of a stream
    request: Request | None = await Request.create(app, bounded, None, peer)  # type: ignore[arg-type]
    if request and "Transfer-Encoding" in request.headers:
        raise _Malformed
    return request


async def write_response(writer: asyncio.StreamWriter, response: Response) -> None:
    """Sends it all; returns when the system has taken the last byte. Raises OSError when the client is gone."""
    response.complete()
    body = b"" if response.is_head or not isinstance(response.body, bytes) else response.body
    head = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    head += ["Cache-Control: no-store", "Connection: close", "", ""]
    writer.transport.set_write_buffer_limits(0)
    writer.write("\r\n".join(head).encode() + body)
    await writer.drain()
