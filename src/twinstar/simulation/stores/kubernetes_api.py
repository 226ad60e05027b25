"""The API of Kubernetes over HTTP, as far as our client (the real code) asks it, in front of the model's servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from twinstar.simulation.stores.http_serving import Asked, HttpServing
from twinstar.simulation.stores.kubernetes import Answer, ApiServer, Json, failure, not_found, served
from twinstar.simulation.stores.memory import Doubts
from twinstar.simulation.world.freezing import Gate

T = TypeVar("T")
_DEFAULT_TIMEOUT_MS = 60_000.0
_WATCHES_MS = (2_000.0, 40_000.0)
_SHORT_WATCH = 0.3
"""So many watches the server ends after so long, the others when they have asked for it."""
_BOOKMARKS_MS = (5_000.0, 60_000.0)

_TIMED_OUT = failure(504, "Timeout", "request did not complete within requested timeout")
_NO_LEADER = failure(500, "InternalError", "etcdserver: leader changed")
_TOO_MANY = failure(429, "TooManyRequests", "too many requests, please try again later")
_FILLING = failure(429, "TooManyRequests", "storage is (re)initializing")
_STARTING = (
    failure(503, "ServiceUnavailable", "the request has been made before all known HTTP paths have been installed"),
    failure(403, "Forbidden", "clusterrole not found"),
    failure(404, "NotFound", "page not found"),
)
_GONE = failure(410, "Expired", "too old resource version")


class Connection(HttpServing):
    def __init__(self, server: ApiServer, gate: Gate, doubts_of: Callable[[str], Doubts]) -> None:
        """`doubts_of`: what goes wrong with what a host asks."""
        super().__init__(gate)
        self._server, self._doubts_of = server, doubts_of
        self._wires, self._clock = server.kubernetes.wires, server.kubernetes.clock

    def left(self) -> None:
        self._server.cache.tell()

    async def respond(self, asked: Asked) -> None:
        options = dict(parse_qsl(asked.query))
        if not self._server.is_ready:
            self._say(self._one_of(*_STARTING))
        elif "watch" in options:
            await self._watch(asked.path, options)
        else:
            self._say(await self._carried_out(asked, options))

    def _say(self, answer: Answer | None) -> None:
        """Nothing: the connection breaks."""
        if answer is None:
            self.close()
        else:
            self.answer(answer.status, json.dumps(answer.document).encode())

    # -- one answer ----------------------------------------------------------------------------------------------------

    async def _carried_out(self, asked: Asked, options: dict[str, str]) -> Answer | None:
        doubts = self._doubts_of(self.client)
        timeout_ms = float(options.get("timeout", f"{_DEFAULT_TIMEOUT_MS}ms").removesuffix("ms"))
        if self._wires.happens(doubts.lose_request):
            return await self._nothing_done(asked, timeout_ms)
        if asked.method == "GET":
            found = self._list(asked.path, options) if "labelSelector" in options else self._get(asked.path)
            return await self._within(timeout_ms, found)
        make = self._change(asked)
        if self._wires.happens(doubts.late_request):
            kubernetes, late_ms = self._server.kubernetes, timeout_ms + self._between(doubts.late_ms)
            kubernetes.objects.later(self._clock, late_ms, lambda: kubernetes.pass_on(make))
            await self._clock.sleep_ms(timeout_ms)
            return _TIMED_OUT
        answer = await self._within(timeout_ms, self._server.change(make))
        return self._one_of(_TIMED_OUT, _NO_LEADER, None) if self._wires.happens(doubts.lose_answer) else answer

    def _change(self, asked: Asked) -> Callable[[], Answer]:
        objects = self._server.kubernetes.objects
        if asked.method == "DELETE":
            return lambda: objects.remove(asked.path)
        document: Json = json.loads(asked.body)
        if asked.method == "PUT":
            return lambda: objects.update(asked.path, document)
        return lambda: objects.create(f"{asked.path}/{document['metadata']['name']}", document)

    async def _nothing_done(self, asked: Asked, timeout_ms: float) -> Answer | None:
        nothing_new = failure(409, "Conflict", "please try again", name=asked.path)
        answer = self._one_of(
            _TIMED_OUT, _NO_LEADER, _TOO_MANY, None, *([nothing_new] if asked.method == "PUT" else [])
        )
        if answer is _TIMED_OUT:
            await self._clock.sleep_ms(timeout_ms)
        return answer

    async def _within(self, timeout_ms: float, work: Coroutine[Any, Any, Answer]) -> Answer:
        """When it gives up waiting it may have passed it on to etcd, or not."""
        asked = self.spawn(work)
        try:
            async with self._clock.timeout_ms(timeout_ms):
                return await asyncio.shield(asked)
        except TimeoutError:
            if self._wires.happens(0.5):
                asked.cancel()
            return self._one_of(_TIMED_OUT, _NO_LEADER)

    async def _get(self, path: str) -> Answer:
        found = await self._server.get(path)
        return Answer(200, served(found)) if found else not_found(path)

    async def _list(self, collection: str, options: dict[str, str]) -> Answer:
        oldest = int(options["resourceVersion"]) if "resourceVersion" in options else None
        found, revision = await self._server.list(collection, oldest)
        items = [document for each in found if _selected(document := served(each), options["labelSelector"])]
        return Answer(200, {"kind": "List", "metadata": {"resourceVersion": str(revision)}, "items": items})

    # -- a watch -------------------------------------------------------------------------------------------------------

    async def _watch(self, collection: str, options: dict[str, str]) -> None:
        """Tells what the cache learns, until the client leaves, the cache is begun anew or the time is over."""
        cache, told = self._server.cache, int(options["resourceVersion"])
        if not cache.filled:
            self._say(_FILLING)
            return
        self.begin()
        if told < cache.first:
            self._server.kubernetes.objects.reached("history gone")
            self._line("ERROR", _GONE.document)
            self.end()
            return
        of_this_filling, now = cache.fillings, self._clock.now_ms()
        ends_ms = now + self._longest_ms(float(options["timeoutSeconds"]))
        bookmark_ms = now + self._between(_BOOKMARKS_MS)
        while not self.over and cache.is_filled(of_this_filling):
            news = cache.news
            if not self._tell(collection, options["labelSelector"], told):
                return
            told, now = max(told, cache.revision), self._clock.now_ms()
            if now >= min(bookmark_ms, ends_ms) and cache.revision == told:
                self._line("BOOKMARK", {"metadata": {"resourceVersion": str(told)}})
                bookmark_ms = now + self._between(_BOOKMARKS_MS)
            if now >= ends_ms:
                break
            await self._news(news, min(bookmark_ms, ends_ms) - now)
        self.end()

    def _longest_ms(self, wanted_s: float) -> float:
        return self._between(_WATCHES_MS) if self._wires.happens(_SHORT_WATCH) else wanted_s * 1_000

    async def _news(self, news: asyncio.Event, within_ms: float) -> None:
        try:
            async with self._clock.timeout_ms(within_ms):
                await news.wait()
        except TimeoutError:
            pass

    def _tell(self, collection: str, selector: str, told: int) -> bool:
        """The changes after `told`. False: the watch has broken instead."""
        for event in self._server.cache.after(told):
            if not event.value.key.startswith(collection + "/"):
                continue
            document = served(event.value)
            if not _selected(document, selector):
                continue
            if self._wires.happens(self._doubts_of(self.client).break_watch):
                self._break()
                return False
            self._line(event.kind, document)
        return True

    def _break(self) -> None:
        """In one of the ways in which they do."""
        answer = self._one_of(_GONE, _NO_LEADER, None)
        if answer is None:
            self.close()
        else:
            self._line("ERROR", answer.document)
            self.end()

    def _line(self, kind: str, document: Json) -> None:
        self.part(json.dumps({"type": kind, "object": document}).encode() + b"\n")

    def _between(self, bounds: tuple[float, float]) -> float:
        return self._wires.randomness.between(*bounds)

    def _one_of(self, *answers: T) -> T:
        return answers[int(self._wires.randomness.between(0, len(answers) - 0.001))]


def _selected(document: Json, selector: str) -> bool:
    label, _, value = selector.partition("=")
    return bool(document["metadata"]["labels"].get(label) == value)
