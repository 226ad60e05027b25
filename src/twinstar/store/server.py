"""One HTTP server: its connections, and what a failure there means for the request.

What could not be sent is `NotDone`; from the first byte on it is `Doubtful`. Nothing is ever sent twice here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from twinstar.model.errors import UsageError
from twinstar.ports.network import Address, Network
from twinstar.store.http import Answer, HttpConnection, Request
from twinstar.store.race import Attempt, Doubtful, NotDone

_IDLE_KEPT = 4


class HttpServer:
    def __init__(self, url: str, address: Address, network: Network, tls: Callable[[], ssl.SSLContext | None]) -> None:
        """`url` names it in errors. `tls` is asked before each connection: certificates may be renewed."""
        self.url = url
        self._address = address
        self._network = network
        self._tls = tls
        self._idle: list[HttpConnection] = []

    async def ask(self, request: Request, attempt: Attempt) -> Answer:
        """One request and its answer. Raises NotDone or Doubtful; a time-out is the caller's."""
        connection = await self._connection()
        attempt.sent = True
        try:
            answer = await connection.ask(request)
        except OSError as error:
            self._give_up(connection)
            raise Doubtful(f"{self.url}: {error}") from error
        except BaseException:  # a cancellation: what comes later over this connection belongs to no one
            self._give_up(connection)
            raise
        if connection.idle and len(self._idle) < _IDLE_KEPT:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    async def dial(self) -> HttpConnection:
        """A connection of one's own. Raises NotDone."""
        try:
            streams = await self._network.dial(self._address, self._tls())
        except OSError as error:
            raise NotDone(f"{self.url}: {error.strerror or error}") from error
        except UsageError as error:  # a certificate that has gone
            raise NotDone(str(error).removesuffix(".")) from error
        return HttpConnection(*streams, host=str(self._address))

    def leave(self) -> None:
        """The next request begins with a connection of its own, which may lead to another server."""
        while self._idle:
            self._idle.pop().abort()

    async def close(self) -> None:
        """Ends the idle connections."""
        while self._idle:
            await self._idle.pop().close()

    def _give_up(self, connection: HttpConnection) -> None:
        """Ends it and the idle ones: whoever was silent on one connection is so on all that are as old."""
        connection.abort()
        self.leave()

    async def _connection(self) -> HttpConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
            connection.abort()
        return await self.dial()
