"""One connection of a simulated HTTP server: a request at a time, answered at once or in parts that go on and on."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import h11

from twinstar.simulation.world.freezing import Gate

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `path` is without the query."""

    method: str
    path: str
    query: str
    body: bytes


class HttpServing(asyncio.Protocol):
    def __init__(self, gate: Gate) -> None:
        """`gate`: of the server's process."""
        self._gate = gate
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.over = False
        """Nobody listens any more."""

    @abstractmethod
    async def respond(self, asked: Asked) -> None:
        """Calls `answer`, or `begin`, `part` and `end`."""

    @abstractmethod
    def left(self) -> None:
        """The connection is over. What was asked for goes on: nobody takes it back."""

    # -- what `respond` calls ------------------------------------------------------------------------------------------

    @property
    def client(self) -> str:
        """Its host."""
        return str(self._transport.get_extra_info("peername")[0])

    def answer(self, status: int, body: bytes) -> None:
        if self.over:
            return
        self._send(h11.Response(status_code=status, headers=[("Content-Length", str(len(body)))]))
        self._send(h11.Data(data=body))
        self.end()

    def begin(self) -> None:
        """An answer whose end is not known yet."""
        self._send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))

    def part(self, data: bytes) -> None:
        self._send(h11.Data(data=data))

    def end(self) -> None:
        """In good order; the connection takes another request."""
        self._send(h11.EndOfMessage())
        if not self.over:
            self._http.start_next_cycle()
            self._next()

    def close(self) -> None:
        """Whatever was not answered remains so."""
        self._transport.close()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something that the server's process does, and the end of the connection does not end."""
        task = self._gate.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the transport's -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self.over = True
        self.left()

    def _next(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert self._request is not None
                path, _, query = self._request.target.decode().partition("?")
                asked = Asked(self._request.method.decode(), path, query, bytes(self._body))
                self.spawn(self.respond(asked))
            else:
                return

    def _send(self, event: h11.Event) -> None:
        if not self.over:
            self._transport.write(self._http.send(event) or b"")
