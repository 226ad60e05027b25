"""The agent's hold on one document of the store: as last seen, and how a doubt about it ends.

A change whose answer did not come has an unknown outcome. It is settled when the document's revision has moved past the
one it was based on: by a compare-and-set on that revision that changes nothing but the author, which either applies
(then the first never will) or conflicts (then the document says what has happened). (`docs/protocol.md`, "Unknown
outcomes".)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from twinstar.model.errors import PeerError, StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import ABSENT, Applied, Changed, Conflict, Lost, Store, Synced, Unknown, Versioned

_LOOK_MS = 2_000.0
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 20.0, 500.0

log = logging.getLogger(__name__)


class Document(Protocol):
    """`nonce` tells one writing of the same from another."""

    def encode(self) -> bytes: ...

    def written_as(self, nonce: str) -> Self:
        """The same by another author."""
        ...


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Kept(Generic[D]):
    """What is held: where it stands, and what is said when it does not stand there."""

    key: str
    watched: str
    """The prefix of all keys that are followed; the others are `_others`."""
    decode: Callable[[bytes], D]
    """Raises PeerError."""
    gone: str
    back: str
    """An older one stands there than was seen before."""


class Held(Generic[D]):
    def __init__(
        self, kept: Kept[D], store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when something is new."""
        self._kept, self._store, self._me = kept, store, me
        self._clock, self._randomness, self._wake = clock, randomness, wake
        self.document: D | None = None
        self.revision = ABSENT
        self.seen = False
        """The store has said what is in it since this agent started, and this agent could read it."""
        self.ok = False
        """It answers."""
        self.trouble = ""
        self.misfit = ""
        """What is wrong with the document in the store, when it is none that this cluster can go on with."""
        self._found = ABSENT
        """The revision that the store last told of."""

    # -- reading ------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keeps up with the store for ever."""
        async with aclosing(self._store.watch(self._kept.watched)) as events:
            async for event in events:
                match event:
                    case Lost(why):
                        self._lost(why)
                    case Synced():
                        self.ok, self.trouble = True, ""
                        if self.document is not None and self._found < self.revision:
                            self._misfits(self._kept.gone if self._found == ABSENT else self._kept.back)
                        self.seen = self.seen or not self.misfit
                    case Changed(key, value) if key == self._kept.key:
                        self._adopt(value)
                    case Changed(key, value):
                        self._others(key, value)
                self._wake()

    async def look(self) -> None:
        """Asks the store now and then, for ever: one that hangs while nothing is asked of it breaks no watch."""
        while True:
            await self._clock.sleep_ms(_LOOK_MS)
            was_ok = self.ok
            try:
                self._adopt(await self._store.read(self._kept.key))
                self.ok, self.trouble = True, ""
            except StoreUnavailable as error:
                self._lost(str(error))
            if self.ok != was_ok:
                self._wake()

    async def confirm(self) -> None:
        """Reads linearizably, now. Raises StoreUnavailable, PeerError for a document that is none of ours."""
        self._adopt(await self._store.read(self._kept.key))
        if self.misfit:
            raise PeerError(self.misfit)

    def _others(self, key: str, value: Versioned | None) -> None:
        """Another key under the watched prefix."""

    def _was_adopted(self, old: D, value: bytes) -> bool:  # noqa: ARG002 (for those that can tell)
        """Whether `value`, at no later a revision, is newer all the same: of a store that has gone back, so that its
        revisions begin anew, and that somebody has put right.
        """
        return False

    def _taken_over(self, old: D | None, new: D | None) -> None:
        """`new` stands in the store at a revision above that of `old`; called before anything of it is to be seen."""

    def _adopt(self, value: Versioned | None) -> None:
        """Takes a newer version over. What cannot be read, or is gone, changes nothing: it is a `misfit`."""
        revision = self._found = value.revision if value else ABSENT
        older = revision <= self.revision and not (
            value and self.document and self._was_adopted(self.document, value.value)
        )
        if self.document is not None and older:
            if revision in (self.revision, ABSENT):  # else late news of an older version: nothing to speak of
                self._misfits("" if revision == self.revision else self._kept.gone)
            return
        try:
            new = self._kept.decode(value.value) if value else None
        except PeerError as error:
            self._misfits(str(error))
            return
        self._misfits("")
        self._taken_over(self.document, new)
        self.document, self.revision = new, revision
        self.seen = True

    def _misfits(self, why: str) -> None:
        if why and why != self.misfit:
            log.error("%s", why)
        self.misfit = why

    def _lost(self, why: str) -> None:
        if self.ok:
            log.warning("lost contact with the store: %s", why)
        self.ok, self.trouble = False, why

    # -- changing -----------------------------------------------------------------------------------------------------

    def _nonce(self) -> str:
        return f"{self._me}:{self._randomness.token()}"

    async def _set(self, proposal: bytes, base: int) -> bool:
        """Tries one change and, when its outcome is unknown, settles it. False: it was unknown. What stands then is
        adopted. (A first document may still come when it is settled with nothing there to touch: who tries another one
        conflicts with it.)
        """
        match await self._store.compare_and_set(self._kept.key, proposal, base):
            case Applied(revision):
                self._adopt(Versioned(self._kept.key, proposal, revision))
            case Conflict(current):
                self._adopt(current)
            case Unknown(why):
                self._lost(why)
                await self._settle(base)
                self.ok, self.trouble = True, ""
                return False
        return True

    async def _settle(self, base: int) -> None:
        pause_ms = _FIRST_PAUSE_MS
        while self.revision == base:
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(pause_ms * 2, _LONGEST_PAUSE_MS)
            try:
                current = await self._store.read(self._kept.key)
                if current is None or current.revision != base:
                    self._adopt(current)
                    return
                await self._touch(current)
            except StoreUnavailable as error:
                self._lost(str(error))

    async def _touch(self, current: Versioned) -> None:
        same = self._kept.decode(current.value).written_as(self._nonce()).encode()
        match await self._store.compare_and_set(self._kept.key, same, current.revision):
            case Applied(revision):
                self._adopt(Versioned(self._kept.key, same, revision))
            case Conflict(now):
                self._adopt(now)
            case Unknown(why):
                self._lost(why)
