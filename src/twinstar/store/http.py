"""One HTTP/1.1 connection: h11 speaks the protocol, the network port moves the bytes.

What a store needs from HTTP beyond an answer is to know, when there is none, whether the request can have been carried
out. So a dial is a step of its own: if that fails nothing was sent; after it, everything is doubtful.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import h11

_READ_BYTES = 64 * 1024

Headers = list[tuple[str, str]]


class Broken(OSError):
    """The connection has ended, or what came over it is no HTTP."""


class Ended(Broken):
    """The answer has come to its end, in good order."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """With the query."""
    headers: Headers = field(default_factory=list, repr=False)
    """There are secrets among them."""
    body: bytes | None = None
    """JSON."""


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

    async def ask(self, request: Request) -> Answer:
        """Sends, and returns the whole answer. Raises OSError (`Broken`); a time-out is the caller's."""
        status = await self.begin(request)
        parts = []
        while part := await self.part():
            parts.append(part)
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        return Answer(status, b"".join(parts))

    async def begin(self, request: Request) -> int:
        """Sends, and returns the status of an answer whose body comes in parts (`part`). Raises OSError."""
        head, body = [("Host", self._host)], request.body or b""
        if request.body is not None:
            head += [("Content-Length", str(len(body))), ("Content-Type", "application/json")]
        start = h11.Request(method=request.method, target=request.path, headers=head + request.headers)
        parts = (start, h11.Data(data=body), h11.EndOfMessage())
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
        """Ends it, without a goodbye: TLS would wait half a minute for that of a peer that has gone silent."""
        self.abort()
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


class Lines:
    """The body of an answer that goes on and on, line by line."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next line; may be cancelled and called again. Raises OSError (`Ended`: there is none)."""
        while (end := self._buffer.find(b"\n")) < 0:
            part = await self._connection.part()
            if not part:
                raise Ended("the stream ended")
            self._buffer += part
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def close(self) -> None:
        await self._connection.close()
