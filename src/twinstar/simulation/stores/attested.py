"""A client of the store, and beside it somebody who sees the whole store: does it keep what `Store` promises?

What is answered must not be older than what stood when it was asked for, and what is said to be made must be there. A
protocol that bears much hides such a fault for long, so it is looked for here, where it begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from twinstar.store.base import Applied, CasOutcome, Conflict, Store, Versioned, WatchEvent

Standing = Callable[[str], Versioned | None]


class AttestedStore:
    """Implements `store.base.Store` by another one."""

    def __init__(self, store: Store, standing: Standing, broken: Callable[[str], object]) -> None:
        """`standing`: what the whole store has at a key now; `broken` is told a breach."""
        self._store, self._standing, self._broken = store, standing, broken

    async def read(self, key: str) -> Versioned | None:
        before = self._standing(key)
        found = await self._store.read(key)
        self._look("a read", key, before, found)
        return found

    async def read_all(self, prefix: str) -> list[Versioned]:
        return await self._store.read_all(prefix)

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        before = self._standing(key)
        outcome = await self._store.compare_and_set(key, value, expected_revision)
        match outcome:
            case Conflict(current):
                self._look("a conflict", key, before, current)
            case Applied(revision):
                now = self._standing(key)
                if now is not None and (now.revision < revision or (now.revision == revision and now.value != value)):
                    self._broken(f"S: {key} was said to be set at {revision}, and is not")
        return outcome

    async def delete(self, key: str) -> None:
        await self._store.delete(key)

    def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        return self._store.watch(prefix)

    async def close(self) -> None:
        await self._store.close()

    def _look(self, what: str, key: str, before: Versioned | None, found: Versioned | None) -> None:
        if before is None:
            return
        if found is None:
            if self._standing(key) == before:  # it may have been deleted meanwhile, but has not
                self._broken(f"S: {what} showed nothing at {key}, where {before.revision} stood before and after it")
        elif found.revision < before.revision:
            self._broken(f"S: {what} of {key} showed {found.revision} when {before.revision} stood before it began")
