"""One HTTP/1.1 connection: h11 speaks the protocol, the network port moves the bytes.

What a store needs from HTTP beyond an answer is to know, when there is none, whether the request can have been carried
out. So a dial is a step of its own: if that fails nothing was sent; after it, everything is doubtful.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import h11

_READ_BYTES = 64 * 1024

Headers = list[tuple[str, str]]


class Broken(OSError):
    """The connection has ended, or what came over it is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class HttpConnection:
    """Carries one request at a time. After a failure or a cancellation in the middle it can only be closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._protocol = h11.Connection(h11.CLIENT)

    @property
    def idle(self) -> bool:
        """Whether another request may be sent, as far as this side knows."""
        ended = self._reader.at_eof() or self._reader.exception() or self._writer.is_closing()
        return not ended and self._protocol.our_state is h11.IDLE

    async def post(self, path: str, body: bytes, headers: Headers) -> Answer:
        """Sends, and returns the whole answer. Raises OSError (`Broken`); a time-out is the caller's."""
        status = await self.begin(path, body, headers)
        parts = []
        while part := await self.part():
            parts.append(part)
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        return Answer(status, b"".join(parts))

    async def begin(self, path: str, body: bytes, headers: Headers) -> int:
        """Sends, and returns the status of an answer whose body comes in parts (`part`). Raises OSError."""
        head = [("Host", self._host), ("Content-Length", str(len(body))), ("Content-Type", "application/json")]
        request = h11.Request(method="POST", target=path, headers=head + headers)
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._protocol.send(part) or b"" for part in parts))
        await self._writer.drain()
        response = await self._event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._event()
        if not isinstance(response, h11.Response):
            raise Broken("the connection ended before the answer")
        return response.status_code

    async def part(self) -> bytes:
        """The next part of the body; nothing at its end. May be cancelled and called again. Raises OSError."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):  # it had broken already
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Ends it at once, without waiting for what is still to be written."""
        self._writer.transport.abort()

    async def _event(self) -> object:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(_READ_BYTES)
                if not data and self._protocol.their_state is h11.SEND_RESPONSE:
                    raise Broken("the connection ended before the answer")
                self._protocol.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Broken(f"the answer ended in the middle or is no HTTP: {error}") from None
        return event
