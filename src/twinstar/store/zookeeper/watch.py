"""A watch on ZooKeeper: each feed is a listing and a server's word of what has changed since.

**Persistent, recursive.** One watch per connection stands for all keys and is not used up by an event, so that none is
lost between an event and the next watch. An event names a key and no value: the value is read from the same server,
which by then has it or a newer one.

**Silence.** A feed that has heard nothing for `silence_ms` makes its server ask the leader (`sync`). No answer: the
server is deaf, and the feed begins again elsewhere. That also keeps the session alive.

**Beginning again** is always a watch and then a listing that is not older than its request, so that an expired session,
a lost leader, a restart and a broken connection are one case.
"""

from __future__ import annotations

import asyncio

from twinstar.ports.clock import Clock
from twinstar.store.base import Versioned
from twinstar.store.endpoints import Endpoints
from twinstar.store.feeds import Feeds
from twinstar.store.inbox import Inbox
from twinstar.store.race import Doubtful
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Server
from twinstar.store.zookeeper.story import Story
from twinstar.store.zookeeper.znodes import Gone, Listing, Znodes

_ENDED = ""
"""Stands among the keys for the end of the connection: no key is empty."""


class Watch(Feeds[Server]):
    """One consumer's watch."""

    def __init__(
        self, endpoints: Endpoints[Server], znodes: Znodes, prefix: str, clock: Clock, silence_ms: float
    ) -> None:
        super().__init__(endpoints.all, clock)
        self._deadline_ms = endpoints.deadline_ms
        self._znodes = znodes
        self._prefix = prefix
        self._silence_ms = silence_ms
        self._story = Story()

    async def follow(self, number: int, endpoint: Server) -> None:
        async with self._clock.timeout_ms(self._deadline_ms):
            connection = await endpoint.connection()
        changed: Inbox[str] = Inbox()

        def listener(path: str | None) -> None:
            key = _ENDED if path is None else self._znodes.key_at(path)
            if key is not None and (key == _ENDED or key.startswith(self._prefix)):
                changed.put(key, key)

        connection.listen(listener)
        try:
            async with self._clock.timeout_ms(self._deadline_ms):
                listing = await endpoint.over(connection, lambda: self._begin(connection))
            self.up(number, lambda: self._story.restart(listing), lambda: self._story.listing(listing))
            while True:
                self.tell(self._story.news(await self._news(endpoint, connection, changed)))
        except TimeoutError:
            connection.abort("it did not answer in time")
            raise
        finally:
            connection.leave(listener)

    async def _begin(self, connection: Connection) -> Listing:
        await self._znodes.watch(connection)
        return await self._znodes.listing(connection, self._prefix)

    async def _news(self, endpoint: Server, connection: Connection, changed: Inbox[str]) -> list[Versioned | Gone]:
        keys = await self._next(endpoint, connection, changed)

        async def ask() -> list[Versioned | Gone]:
            return await asyncio.gather(*(self._znodes.news(connection, key) for key in keys))

        async with self._clock.timeout_ms(self._deadline_ms):
            return await endpoint.over(connection, ask)

    async def _next(self, endpoint: Server, connection: Connection, changed: Inbox[str]) -> list[str]:
        """The keys that have changed. Raises TimeoutError when the server does not reach its leader, and Doubtful."""
        while True:
            try:
                async with self._clock.timeout_ms(min(self._silence_ms, connection.session_ms / 3)):
                    keys = await changed.take()
            except TimeoutError:
                async with self._clock.timeout_ms(self._deadline_ms):
                    await endpoint.over(connection, lambda: self._znodes.in_touch(connection))
                continue
            if _ENDED in keys:
                raise Doubtful(f"{endpoint.url}: the connection has ended")
            return keys
