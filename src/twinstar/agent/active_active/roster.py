"""The agent's hold on the membership document: as last seen, and one change of it at a time.

A change is made from the membership that was seen, whose epoch is one less than its own: one that was overtaken while
it waited is not tried, since it would take back what it was not made from. A change whose answer did not come has an
unknown outcome. It is settled when the document's revision has moved past the one it was based on: by a compare-and-set
on that revision that changes nothing but the author, which either applies (then the first never will) or conflicts
(then the document says what has happened).
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

_LOOK_MS = 2_000.0
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 20.0, 500.0
_GONE = (
    "The store has no membership of this cluster any more: what runs goes on, but nobody can join or leave. "
    "Give the store its data back."
)
_BACK = (
    "The store has gone back to an older membership (restored from a backup?): what runs goes on, but nobody can join "
    "or leave. Give the store its newest data back."
)

log = logging.getLogger(__name__)


class Roster:
    def __init__(self, store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]) -> None:
        self._store, self._me, self._clock, self._randomness, self._wake = store, me, clock, randomness, wake
        self.membership: Membership | None = None
        self.seen = False
        """The store has said what is in it since this agent started, and this agent could read it."""
        self.ok = False
        """It answers."""
        self.trouble = ""
        self.misfit = ""
        """What is wrong with the membership in the store, when it is none that this cluster can go on with."""
        self._revision = ABSENT
        self._found = ABSENT
        """The revision that the store last told of."""

    async def follow(self) -> None:
        """Keeps up with the store for ever."""
        async with aclosing(self._store.watch(KEY)) as events:
            async for event in events:
                match event:
                    case Lost(why):
                        self._lost(why)
                    case Synced():
                        self.ok, self.trouble = True, ""
                        if self._found < self._revision:
                            self._misfits(_GONE if self._found == ABSENT else _BACK)
                        self.seen = self.seen or not self.misfit
                    case Changed(key, value) if key == KEY:
                        self._adopt(value)
                    case _:
                        continue
                self._wake()

    async def look(self) -> None:
        """Asks the store now and then, for ever: one that hangs while nothing is asked of it breaks no watch."""
        while True:
            await self._clock.sleep_ms(_LOOK_MS)
            was_ok = self.ok
            try:
                self._adopt(await self._store.read(KEY))
                self.ok, self.trouble = True, ""
            except StoreUnavailable as error:
                self._lost(str(error))
            if self.ok != was_ok:
                self._wake()

    async def change(self, wanted: Membership) -> bool:
        """Tries one change of what was seen last, and settles it when its outcome is unknown. True when it is what
        stands then. Raises PeerError while the membership in the store is a `misfit`.
        """
        if self.misfit:
            raise PeerError(self.misfit)
        base = self._revision
        if wanted.epoch != (self.membership.epoch if self.membership else 0) + 1:
            return False
        proposal = replace(wanted, nonce=self._nonce())
        try:
            match await self._store.compare_and_set(KEY, proposal.encode(), base):
                case Applied(revision):
                    log.info("membership %d: %s", wanted.epoch, wanted.reason)
                    self._adopt(Versioned(KEY, proposal.encode(), revision))
                case Conflict(current):
                    self._adopt(current)
                case Unknown(why):
                    self._lost(why)
                    await self._settle(base)
            self.ok, self.trouble = True, ""
        finally:
            self._wake()
        return self.membership is not None and self.membership.nonce == proposal.nonce

    async def _settle(self, base: int) -> None:
        """A first membership may still come, with nothing there to touch: who tries another one conflicts with it."""
        pause_ms = _FIRST_PAUSE_MS
        while self._revision == base:
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
            try:
                current = await self._store.read(KEY)
                if current is None or current.revision != base:
                    self._adopt(current)
                    return
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
        """Takes a newer version over. What cannot be read, or is gone, changes nothing: it is a `misfit`."""
        revision = self._found = value.revision if value else ABSENT
        if value is None or revision <= self._revision:
            if revision == self._revision:
                self._misfits("")
            elif value is None:  # else late news of an older version: nothing to speak of
                self._misfits(_GONE)
            return
        try:
            self.membership, self._revision = Membership.decode(value.value), revision
        except PeerError as error:
            self._misfits(str(error))
            return
        self.seen = True
        self._misfits("")

    def _misfits(self, why: str) -> None:
        if why and why != self.misfit:
            log.error("%s", why)
        self.misfit = why

    def _lost(self, why: str) -> None:
        if self.ok:
            log.warning("lost contact with the store: %s", why)
        self.ok, self.trouble = False, why

    def _nonce(self) -> str:
        return f"{self._me}:{self._randomness.token()}"
