"""A watch on a store of several servers: several feeds, each of one server, told as one story.

**How many feeds.** Endpoints minus majority, plus one: two of three, three of five. Then any majority contains an
endpoint that is being listened to, so that whenever the store can change something at all, somebody tells us at once,
also when another endpoint has just died without a word. That costs a connection and no polling.

A feed that fails begins again at another endpoint. Contact is lost when all of them are down, not before.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Generic

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.base import Changed, Lost, Synced, WatchEvent
from twinstar.store.inbox import Inbox, slot_of
from twinstar.store.race import E, Failed

_FIRST_PAUSE_MS = 20.0
_LONGEST_PAUSE_MS = 1_000.0


def feeds_needed(endpoints: int) -> int:
    """The fewest streams of which every majority holds one."""
    majority = endpoints // 2 + 1
    return endpoints - majority + 1


class Feeds(ABC, Generic[E]):
    """One consumer's watch."""

    def __init__(self, endpoints: Sequence[E], clock: Clock) -> None:
        self._clock = clock
        self._inbox: Inbox[WatchEvent] = Inbox()
        self._spare = deque(endpoints)
        self._feeds = feeds_needed(len(endpoints))
        self._live: set[int] = set()
        self._failed: set[int] = set()
        self._lost = False

    @abstractmethod
    async def follow(self, number: int, endpoint: E) -> None:
        """Tells what stands (`up`) and what changes (`tell`), as this endpoint has it, until that fails.

        Raises Failed, StoreUnavailable or TimeoutError; never returns.
        """

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

    def up(self, number: int, first: Callable[[], list[Changed]], further: Callable[[], list[Changed]]) -> None:
        """The feed has a listing. `first` tells everything in it, `further` what it adds to what others tell."""
        if self._live:
            self.tell(further())
        else:
            self.tell([*first(), Synced()])
            self._lost = False
        self._live.add(number)
        self._failed.discard(number)

    def tell(self, events: Iterable[WatchEvent]) -> None:
        for event in events:
            self._inbox.put(slot_of(event), event)

    async def _feed(self, number: int) -> None:
        pause_ms = _FIRST_PAUSE_MS
        while True:
            endpoint = self._spare.popleft()
            try:
                await self.follow(number, endpoint)
            except (Failed, StoreUnavailable, TimeoutError) as error:
                if number in self._live:
                    pause_ms = _FIRST_PAUSE_MS
                self._down(number, str(error) or f"{endpoint.url}: silent, or deaf to what has changed")
            self._spare.append(endpoint)
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)

    def _down(self, number: int, why: str) -> None:
        self._live.discard(number)
        self._failed.add(number)
        if len(self._failed) == self._feeds and not self._lost:
            self.tell([Lost(why)])
            self._lost = True
