"""A store that goes along when the register moves.

Until the mark is seen everything goes to the old store, after it to the new one; whoever sees the mark first finishes
the move (`places.arrive`). Revisions of the new store are raised by `LATER`, so that for whoever compares them the new
store's first one follows on the old store's last one; what was based on a revision of the old store cannot be made in
the new one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.base import (
    ABSENT,
    Applied,
    CasOutcome,
    Changed,
    Conflict,
    Lost,
    Store,
    Synced,
    Unknown,
    Versioned,
    WatchEvent,
    check_size,
)
from twinstar.store.moving.papers import Mark, mark_in
from twinstar.store.moving.places import Places, arrive, has_arrived

LATER = 1 << 80
"""More than any store's own revision."""
_PAUSE_MS = (50.0, 1_000.0)

log = logging.getLogger(__name__)


class MovingStore:
    """Implements `store.base.Store`. Watches must cover the decisive key, which every agent's and router's does."""

    def __init__(self, places: Places, clock: Clock) -> None:
        self.places, self._clock = places, clock
        self.moved = False

    async def read(self, key: str) -> Versioned | None:
        if not self.moved:
            try:
                found = await self.places.old.read(key)
            except StoreUnavailable:
                if not await self._is_there():
                    raise
            else:
                mark = self._mark(key, found)
                if mark is None:
                    return found
                await self._go(mark)
        return _later(await self._read_new(key))

    async def read_all(self, prefix: str) -> list[Versioned]:
        if not self.moved:
            found = await self.places.old.read_all(prefix)
            mark = next((mark for each in found if (mark := self._mark(each.key, each))), None)
            if mark is None:
                return found
            await self._go(mark)
        return [raised for each in await self.places.new.read_all(prefix) if (raised := _later(each))]

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)
        try:
            if not self.moved:
                outcome = await self.places.old.compare_and_set(key, value, expected_revision)
                mark = self._mark(key, outcome.current) if isinstance(outcome, Conflict) else None
                if mark is None:
                    return outcome
                await self._go(mark)
                return Conflict(_later(await self._read_new(key)))
            if ABSENT < expected_revision < LATER:
                return Conflict(_later(await self._read_new(key)))
            outcome = await self.places.new.compare_and_set(key, value, max(ABSENT, expected_revision - LATER))
        except StoreUnavailable as error:
            return Unknown(str(error))
        match outcome:
            case Applied(revision):
                return Applied(revision + LATER)
            case Conflict(current):
                return Conflict(_later(current))
        return outcome

    async def delete(self, key: str) -> None:
        await (self.places.new if self.moved else self.places.old).delete(key)

    async def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        known: set[str] = set()
        if not self.moved:
            mark = None
            async with aclosing(self.places.old.watch(prefix)) as events:
                async for event in events:
                    if isinstance(event, Changed) and (mark := self._mark(event.key, event.value)):
                        break
                    if await self._has_left(event):
                        break
                    _note(known, event)
                    yield event
            yield Lost(f"The register is moving to {self.places.name}.")
            async for trouble in self._going(mark):
                yield Lost(trouble)
        async with aclosing(self._watch_new(prefix, known)) as later:
            async for event in later:
                yield event

    async def close(self) -> None:
        await self.places.old.close()
        await self.places.new.close()

    # -- moving -------------------------------------------------------------------------------------------------------

    def _mark(self, key: str, found: Versioned | None) -> Mark | None:
        return mark_in(found) if key == self.places.decisive else None

    async def _go(self, mark: Mark) -> None:
        await arrive(self.places, mark)
        self._has_moved()

    def _has_moved(self) -> None:
        if not self.moved:
            log.warning("the register has moved to %s", self.places.name)
        self.moved = True

    async def _has_left(self, event: WatchEvent) -> bool:
        return self.moved or (isinstance(event, Lost) and await self._is_there())

    async def _is_there(self) -> bool:
        """Whether the new store alone shows that the register has arrived: the old one may be gone by now."""
        with suppress(StoreUnavailable):
            if await has_arrived(self.places):
                self._has_moved()
        return self.moved

    async def _going(self, mark: Mark | None) -> AsyncGenerator[str, None]:
        """Until it has arrived; why it has not, each time. None: somebody else here has found that it has."""
        pause_ms, longest_ms = _PAUSE_MS
        while mark is not None and not self.moved:
            try:
                await self._go(mark)
            except StoreUnavailable as error:
                yield str(error)
                await self._clock.sleep_ms(pause_ms)
                pause_ms = min(2 * pause_ms, longest_ms)

    async def _read_new(self, key: str) -> Versioned | None:
        found = await self.places.new.read(key)
        if mark := self._mark(key, found):
            raise StoreUnavailable(gone_on(mark))
        return found

    async def _watch_new(self, prefix: str, known: set[str]) -> AsyncGenerator[WatchEvent, None]:
        """`known`: what the consumer was told of by the old store; what is not in the new one is told as deleted."""
        async with aclosing(self.places.new.watch(prefix)) as events:
            async for event in elsewhere(events, self.places.decisive):
                match event:
                    case Changed(key, value):
                        known.discard(key)
                        yield Changed(key, _later(value))
                    case Synced():
                        for key in sorted(known):
                            yield Changed(key, None)
                        known.clear()
                        yield event
                    case _:
                        yield event


class SettledStore:
    """Implements `store.base.Store`: a store from which the register may have moved away, which is not to be mistaken
    for a register.
    """

    def __init__(self, store: Store, decisive: str) -> None:
        self._store, self._decisive = store, decisive

    async def read(self, key: str) -> Versioned | None:
        return self._present(await self._store.read(key))

    async def read_all(self, prefix: str) -> list[Versioned]:
        found = await self._store.read_all(prefix)
        for each in found:
            self._present(each)
        return found

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        outcome = await self._store.compare_and_set(key, value, expected_revision)
        if isinstance(outcome, Conflict):
            try:
                self._present(outcome.current)
            except StoreUnavailable as error:
                return Unknown(str(error))
        return outcome

    async def delete(self, key: str) -> None:
        await self._store.delete(key)

    async def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        async with aclosing(self._store.watch(prefix)) as events:
            async for event in elsewhere(events, self._decisive):
                yield event

    async def close(self) -> None:
        await self._store.close()

    def _present(self, found: Versioned | None) -> Versioned | None:
        if found is not None and found.key == self._decisive and (mark := mark_in(found)):
            raise StoreUnavailable(gone_on(mark))
        return found


async def elsewhere(events: AsyncGenerator[WatchEvent, None], decisive: str) -> AsyncGenerator[WatchEvent, None]:
    """The events of a watch, which is out of contact while a mark stands where the register was."""
    mark: Mark | None = None
    async for event in events:
        match event:
            case Changed(key, value) if key == decisive:
                was, mark = mark, mark_in(value)
                yield Lost(gone_on(mark)) if mark else event
                if was and not mark:
                    yield Synced()
            case Synced() if mark is not None:
                continue
            case _:
                yield event


def gone_on(mark: Mark) -> str:
    return f"The register of this cluster has moved to {mark.to}: write that as `store` and start this process again."


def _later(found: Versioned | None) -> Versioned | None:
    return replace(found, revision=found.revision + LATER) if found else None


def _note(known: set[str], event: WatchEvent) -> None:
    if isinstance(event, Changed):
        (known.discard if event.value is None else known.add)(event.key)
