"""Things that wait for a watch's consumer. Of a key that changes twice meanwhile only the newest change waits.

So a slow consumer costs memory for as many things as there are slots (keys), never for as many as there were changes,
and what it gets last is always the newest. Things leave in the order of the newest of each slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

from twinstar.store.base import Changed, WatchEvent

T = TypeVar("T")


class Inbox(Generic[T]):
    def __init__(self) -> None:
        self._waiting: dict[Hashable, T] = {}
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, slot: Hashable, thing: T) -> None:
        """Replaces what waits in the slot. Never blocks."""
        self._waiting.pop(slot, None)  # the newer one goes to the end, so that the order stays true
        self._waiting[slot] = thing
        self._filled.set()

    def close(self) -> None:
        """The consumer learns that nothing will come any more."""
        self._closed = True
        self._filled.set()

    async def take(self) -> list[T]:
        """Everything that waits, at least one thing; an empty list once the inbox is closed."""
        await self._filled.wait()
        if self._closed:
            return []
        self._filled.clear()
        things = list(self._waiting.values())
        self._waiting.clear()
        return things


def slot_of(event: WatchEvent) -> tuple[str, str]:
    """The slot of a watch event: its key; loss and recovery of contact have one each."""
    return type(event).__name__, event.key if isinstance(event, Changed) else ""
