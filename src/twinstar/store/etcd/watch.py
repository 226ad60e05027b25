"""A watch on etcd: each feed is a listing and a stream from one endpoint.

**Silence.** A feed that has heard nothing for `silence_ms` asks its endpoint for the newest revision under the prefix.
No answer, or one that the stream did not bring: the feed has gone deaf and begins again elsewhere.

**Beginning again** is always a linearizable listing and a stream from the revision after it, so that a compacted
history, a lost leader, a restart and a broken connection are one case.
"""

from __future__ import annotations

from twinstar.ports.clock import Clock
from twinstar.store.endpoints import Endpoints
from twinstar.store.etcd.endpoint import Endpoint, Stream
from twinstar.store.etcd.messages import Json, Keys, revision_of
from twinstar.store.feeds import Feeds
from twinstar.store.story import Story


class Watch(Feeds[Endpoint]):
    """One consumer's watch."""

    def __init__(
        self, endpoints: Endpoints[Endpoint], keys: Keys, prefix: str, clock: Clock, silence_ms: float
    ) -> None:
        super().__init__(endpoints.all, clock)
        self._endpoints = endpoints
        self._keys = keys
        self._prefix = prefix
        self._silence_ms = silence_ms
        self._story = Story()

    async def follow(self, number: int, endpoint: Endpoint) -> None:
        async with self._clock.timeout_ms(self._endpoints.deadline_ms):
            everything = self._keys.range_all(self._prefix)
            answer = await self._endpoints.ask(lambda asked, attempt: asked.ask("/kv/range", everything, attempt))
            listing = self._keys.listing(answer)
            stream = await endpoint.watch(self._keys.watch(self._prefix, listing.revision))
        try:
            self.up(
                number,
                lambda: self._story.restart(listing.values, listing.revision),
                lambda: self._story.listing(listing.values, listing.revision),
            )
            seen = listing.revision
            while True:
                message = await self._next(endpoint, stream, seen)
                events = self._keys.events(message)
                for event in events:
                    self.tell(self._story.change(event.key, event.value, event.revision))
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
