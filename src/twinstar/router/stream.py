"""One TCP connection of a session: keeps what arrives until it is joined to another, then passes everything on at once.

Back pressure goes through: while one side does not take what is written to it, nothing is read from the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

KEPT_BYTES = 16 * 1024
"""Read ahead before being joined; more than any first message."""
WRITE_BUFFER_BYTES = 256 * 1024
"""Waiting for one side before the other is no longer read: one read of asyncio's."""


def _ignore() -> None:
    return


class Stream(asyncio.Protocol):
    __slots__ = ("_made", "_news", "_observe", "_partner", "_passes_end", "ended", "kept", "lost", "transport")

    transport: asyncio.Transport

    def __init__(
        self, made: Callable[[], None] = _ignore, lost: Callable[[], None] = _ignore, *, passes_end: bool = False
    ) -> None:
        """`made` and `lost` are called when the connection has begun and ended. `passes_end`: this side may end its
        direction alone, so that the other can still answer (a client may; a server that ends has ended altogether).
        """
        self._made = made
        self.lost = lost
        self._passes_end = passes_end
        self._partner: Stream | None = None
        self._observe: Callable[[bytes], None] | None = None
        self._news = asyncio.Event()
        self.kept = bytearray()
        self.ended = False

    def join(self, partner: Stream, observe: Callable[[bytes], None] | None) -> None:
        """From now on everything that arrives, and what was kept, goes to `partner` and then to `observe`."""
        self._partner, self._observe = partner, observe
        kept, self.kept = bytes(self.kept), bytearray()
        if kept:
            self.data_received(kept)
        self.transport.resume_reading()
        if self.ended:
            partner.transport.close()

    async def more(self) -> None:
        """Returns when something has been added to `kept`. Raises ConnectionError when the connection has ended."""
        self._news.clear()
        if not self.ended:
            before = len(self.kept)
            await self._news.wait()
            if len(self.kept) > before:
                return
        raise ConnectionResetError

    async def over(self) -> None:
        """Returns when the connection has ended."""
        while not self.ended:
            self._news.clear()
            await self._news.wait()

    def abort(self) -> None:
        """Ends the connection at once, with whatever is still to be sent."""
        if not self.ended:
            self.transport.abort()

    # What asyncio calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.transport = transport
        self._made()

    def data_received(self, data: bytes) -> None:
        if self._partner is not None:
            self._partner.transport.write(data)
            if self._observe is not None:
                self._observe(data)
            return
        self.kept += data
        if len(self.kept) > KEPT_BYTES:
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        if self._partner is None or not self._passes_end:
            return False
        if not self._partner.transport.is_closing():
            self._partner.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._partner is not None:
            self._partner.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._partner is not None:
            self._partner.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self.ended = True
        self._news.set()
        if self._partner is not None:
            self._partner.transport.close()
        self.lost()
