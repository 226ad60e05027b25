"""`GET /status` over HTTP, for people and monitoring: the router's state as JSON. Nothing can be changed through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from twinstar.ports.clock import Clock
from twinstar.ports.network import StreamHandler
from twinstar.router.base import RouterStatus

REQUEST_MS = 2_000.0


def status_handler(status: Callable[[], RouterStatus], clock: Clock) -> StreamHandler:
    """Answers one request per connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with clock.timeout_ms(REQUEST_MS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(request, status))
                await writer.drain()
        writer.close()

    return handle


def _answer(request: bytes, status: Callable[[], RouterStatus]) -> bytes:
    if not request.startswith(b"GET /status "):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = status().encode()
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\n" + head.encode() + body
