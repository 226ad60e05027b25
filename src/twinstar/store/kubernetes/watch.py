"""A watch on the API: a listing, then a stream of changes from its revision on, told as one story.

**Beginning again.** The server ends each stream after some minutes, in good order; then the next one begins where this
one has come to, which the server's bookmarks move on also while nothing changes here. That is no loss of contact.
Whatever else ends a stream, a revision that the server has forgotten (410) among it, is one, and the next beginning is
a listing again: so a compacted history, a restart, a withdrawn right and a broken connection are one case.

**Silence.** After `silence_ms` without a message the cluster's objects are listed; sooner when an answer to somebody
here has told of a revision that the stream has not brought within `overdue_ms`. What the listing tells anew, the stream
has kept to itself: it has gone deaf, as a connection does whose other end is gone without a word, or whose API server
has lost its etcd, and is begun again. What was told by the listing is not told twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable

from twinstar.model.errors import StoreUnavailable
from twinstar.store.base import ABSENT, Changed, Lost, Synced, Versioned, WatchEvent
from twinstar.store.http import Ended, Lines
from twinstar.store.inbox import Inbox, slot_of
from twinstar.store.kubernetes.api import Api
from twinstar.store.kubernetes.records import Json, Strange, revision_of
from twinstar.store.race import Doubtful, Failed
from twinstar.store.story import Story

_FIRST_PAUSE_MS = 20.0
_LONGEST_PAUSE_MS = 1_000.0


class Deaf(Exception):
    """The stream does not bring what has changed."""


class Watch:
    """One consumer's watch."""

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = prefix
        self._story = Story()
        self._inbox: Inbox[WatchEvent] = Inbox()
        self._reached = ABSENT
        """The revision up to which the stream is complete; `ABSENT`: only a listing can tell."""
        self._lost = False
        self._pause_ms = _FIRST_PAUSE_MS

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        task = asyncio.create_task(self._follow())
        task.add_done_callback(lambda _: self._inbox.close())
        try:
            while events := await self._inbox.take():
                for event in events:
                    yield event
            await task  # it ends only by a bug: raise it
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._stream()
            except (Ended, Deaf):
                pass  # what has been told stands
            except (Failed, OSError, StoreUnavailable) as error:
                self._reached = ABSENT
                if not self._lost:
                    self._tell([Lost(str(error))])
                    self._lost = True
            await self._api.clock.sleep_ms(self._pause_ms)
            self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)

    async def _stream(self) -> None:
        """Tells what stands, if that is not known, and what changes, until that ends or fails."""
        listing = await self._api.list() if self._reached == ABSENT else None
        lines = await self._api.watch(listing.revision if listing else self._reached)
        try:
            if listing:
                self._tell([*self._story.restart(self._ours(listing.values), listing.revision), Synced()])
                self._reached, self._lost = listing.revision, False
            while True:
                self._take(await self._next(lines))
        finally:
            await lines.close()

    async def _next(self, lines: Lines) -> Json:
        """The stream's next message. Raises OSError (`Ended`), Deaf, Failed, StoreUnavailable."""
        patience, silent_ms, due = self._api.patience, 0.0, self._api.seen
        step_ms = min(patience.overdue_ms, patience.silence_ms)
        while True:
            try:
                async with self._api.clock.timeout_ms(step_ms):
                    message = json.loads(await lines.next())
            except TimeoutError:
                silent_ms += step_ms
                if silent_ms >= patience.silence_ms or self._reached < due:
                    await self._compare()
                    silent_ms = 0.0
                due = self._api.seen
            except ValueError as error:
                raise Doubtful(f"{self._api.url}: no JSON in a watch: {error}") from None
            else:
                return dict(message)

    async def _compare(self) -> None:
        """Raises Deaf when there is something that the stream has not brought."""
        listing = await self._api.list()
        news = self._story.listing(self._ours(listing.values), listing.revision)
        self._tell(news)
        if news:
            self._reached = listing.revision
            raise Deaf

    def _take(self, message: Json) -> None:
        kind, found = message.get("type"), message.get("object") or {}
        if kind == "ERROR":  # the revision is too old, the right was withdrawn …: begin again
            raise Doubtful(f"{self._api.url}: the watch was ended: {found.get('message') or found.get('reason')}")
        try:
            self._reached = revision_of(found)
            self._pause_ms = _FIRST_PAUSE_MS
            if kind == "BOOKMARK":
                return
            value = self._api.records.read(found)
        except Strange as error:
            raise self._api.strange(error) from None
        if value.key.startswith(self._prefix):
            gone = kind == "DELETED"
            self._tell(self._story.change(value.key, None if gone else value, value.revision))

    def _ours(self, values: Iterable[Versioned]) -> list[Versioned]:
        return [value for value in values if value.key.startswith(self._prefix)]

    def _tell(self, events: Iterable[WatchEvent] | Iterable[Changed]) -> None:
        for event in events:
            self._inbox.put(slot_of(event), event)
