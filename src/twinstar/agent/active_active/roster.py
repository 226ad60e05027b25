"""The agent's hold on the membership document: as last seen, and one change of it at a time.

A change whose answer did not come has an unknown outcome. It is settled when the document's revision has moved past the
one it was based on: by a compare-and-set on that revision that changes nothing but the author, which either applies
(then the first never will) or conflicts (then the document says what has happened).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from twinstar.model.errors import PeerError, StoreUnavailable
from twinstar.model.membership import KEY, Membership
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import ABSENT, Applied, Changed, Conflict, Lost, Store, Synced, Unknown, Versioned

_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 20.0, 500.0

log = logging.getLogger(__name__)


class Roster:
    def __init__(self, store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]) -> None:
        self._store, self._me, self._clock, self._randomness, self._wake = store, me, clock, randomness, wake
        self.membership: Membership | None = None
        self.seen = False
        """The store has said what is in it since this agent started."""
        self.ok = False
        """It answers."""
        self.trouble = ""
        self._revision = ABSENT
        self.changing = False

    async def follow(self) -> None:
        """Keeps up with the store for ever."""
        async with aclosing(self._store.watch(KEY)) as events:
            async for event in events:
                match event:
                    case Lost(why):
                        self._lost(why)
                    case Synced():
                        self.ok, self.trouble, self.seen = True, "", True
                    case Changed(key, value) if key == KEY:
                        self._adopt(value)
                    case _:
                        continue
                self._wake()

    async def change(self, wanted: Membership) -> None:
        """Tries one change of what was seen last, and settles it when its outcome is unknown."""
        base = self._revision
        self.changing = True
        try:
            proposal = replace(wanted, nonce=self._nonce()).encode()
            match await self._store.compare_and_set(KEY, proposal, base):
                case Applied(revision):
                    log.info("membership %d: %s", wanted.epoch, wanted.reason)
                    self._adopt(Versioned(KEY, proposal, revision))
                case Conflict(current):
                    self._adopt(current)
                case Unknown(why):
                    self._lost(why)
                    await self._settle(base)
            self.ok = True
        finally:
            self.changing = False
            self._wake()

    async def _settle(self, base: int) -> None:
        pause_ms = _FIRST_PAUSE_MS
        while self._revision == base:
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
            try:
                current = await self._store.read(KEY)
                if current is None or current.revision != base:
                    self._adopt(current)
                    if current is None:
                        return
                else:
                    await self._touch(current)
            except StoreUnavailable as error:
                self._lost(str(error))

    async def _touch(self, current: Versioned) -> None:
        same = replace(Membership.decode(current.value), nonce=self._nonce()).encode()
        match await self._store.compare_and_set(KEY, same, current.revision):
            case Applied(revision):
                self._adopt(Versioned(KEY, same, revision))
            case Conflict(now):
                self._adopt(now)
            case Unknown(why):
                self._lost(why)

    def _adopt(self, value: Versioned | None) -> None:
        """Takes a newer version over. One that is gone or cannot be read changes nothing, and is said."""
        if value is None:
            if self.membership is not None:
                self.trouble = (
                    "The store has no membership of this cluster any more: what runs goes on, but nobody can join or "
                    "leave. Give the store its data back."
                )
            return
        if value.revision <= self._revision:
            return
        try:
            new = Membership.decode(value.value)
        except PeerError as error:
            self.trouble = str(error)
            log.error("%s", error)
            return
        self.membership, self._revision, self.trouble = new, value.revision, ""

    def _lost(self, why: str) -> None:
        if self.ok:
            log.warning("lost contact with the store: %s", why)
        self.ok, self.trouble = False, why

    def _nonce(self) -> str:
        return f"{self._me}:{self._randomness.token()}"
