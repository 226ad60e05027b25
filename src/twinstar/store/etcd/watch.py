"""A watch on etcd: several feeds, each a listing and a stream from one endpoint, told as one story.

**How many feeds.** Endpoints minus majority, plus one: two of three, three of five. Then any majority contains an
endpoint that is being listened to, so that whenever etcd can change something at all, somebody tells us at once, also
when another endpoint has just died without a word. That costs a connection and no polling.

**Silence.** A feed that has heard nothing for `silence_ms` asks its endpoint for the newest revision under the prefix.
No answer, or one that the stream did not bring: the feed has gone deaf and begins again elsewhere.

**Beginning again** is always a linearizable listing and a stream from the revision after it, so that a compacted
history, a lost leader, a restart and a broken connection are one case.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.base import Lost, Synced, WatchEvent
from twinstar.store.etcd.endpoint import Endpoint, Failed, Stream
from twinstar.store.etcd.endpoints import Endpoints
from twinstar.store.etcd.messages import Json, Keys, Listing, revision_of
from twinstar.store.inbox import Inbox, slot_of
from twinstar.store.story import Story

_FIRST_PAUSE_MS = 20.0
_LONGEST_PAUSE_MS = 1_000.0


def feeds_needed(endpoints: int) -> int:
    """The fewest streams of which every majority holds one."""
    majority = endpoints // 2 + 1
    return endpoints - majority + 1


class Watch:
    """One consumer's watch."""

    def __init__(self, endpoints: Endpoints, keys: Keys, prefix: str, clock: Clock, silence_ms: float) -> None:
        self._endpoints = endpoints
        self._keys = keys
        self._prefix = prefix
        self._clock = clock
        self._silence_ms = silence_ms
        self._story = Story()
        self._inbox: Inbox[WatchEvent] = Inbox()
        self._spare = deque(endpoints.all)
        self._feeds = feeds_needed(len(endpoints.all))
        self._live: set[int] = set()
        self._failed: set[int] = set()
        self._lost = False

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        tasks = [asyncio.create_task(self._feed(number)) for number in range(self._feeds)]
        for task in tasks:
            task.add_done_callback(lambda _: self._inbox.close())
        try:
            while events := await self._inbox.take():
                for event in events:
                    yield event
            await asyncio.gather(*tasks)  # a feed ends only by a bug: raise it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, number: int) -> None:
        pause_ms = _FIRST_PAUSE_MS
        while True:
            endpoint = self._spare.popleft()
            try:
                await self._follow(number, endpoint)
            except (Failed, StoreUnavailable, TimeoutError) as error:
                if number in self._live:
                    pause_ms = _FIRST_PAUSE_MS
                self._down(number, str(error) or f"{endpoint.url}: silent, or deaf to what has changed")
            self._spare.append(endpoint)
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)

    async def _follow(self, number: int, endpoint: Endpoint) -> None:
        """Tells what stands and what changes, as this endpoint has it, until that fails."""
        async with self._clock.timeout_ms(self._endpoints.deadline_ms):
            listing = self._keys.listing(await self._endpoints.ask("/kv/range", self._keys.range_all(self._prefix)))
            stream = await endpoint.watch(self._keys.watch(self._prefix, listing.revision))
        try:
            self._up(number, listing)
            seen = listing.revision
            while True:
                message = await self._next(endpoint, stream, seen)
                events = self._keys.events(message)
                for event in events:
                    self._tell(self._story.change(event.key, event.value, event.revision))
                # without events the message says that the stream is complete up to the revision in its header
                seen = max(seen, events[-1].revision if events else revision_of(message))
        finally:
            await stream.close()

    async def _next(self, endpoint: Endpoint, stream: Stream, seen: int) -> Json:
        """The stream's next message. Raises TimeoutError when its endpoint is silent or the stream is deaf."""
        while True:
            try:
                async with self._clock.timeout_ms(self._silence_ms):
                    return await stream.next()
            except TimeoutError:
                pass
            async with self._clock.timeout_ms(self._endpoints.deadline_ms):
                found = self._keys.listing(await endpoint.ask("/kv/range", self._keys.range_newest(self._prefix)))
            if any(value.revision > seen for value in found.values):  # it may just be on its way
                async with self._clock.timeout_ms(self._endpoints.deadline_ms):
                    return await stream.next()

    def _up(self, number: int, listing: Listing) -> None:
        if self._live:
            self._tell(self._story.listing(listing.values, listing.revision))
        else:
            self._tell([*self._story.restart(listing.values, listing.revision), Synced()])
            self._lost = False
        self._live.add(number)
        self._failed.discard(number)

    def _down(self, number: int, why: str) -> None:
        self._live.discard(number)
        self._failed.add(number)
        if len(self._failed) == self._feeds and not self._lost:
            self._tell([Lost(why)])
            self._lost = True

    def _tell(self, events: Iterable[WatchEvent]) -> None:
        for event in events:
            self._inbox.put(slot_of(event), event)
