"""A request on its way through several endpoints: a second one is tried before the first has given up.

A member of etcd that is stopped or cut off does not refuse, it is silent. Waiting for a time-out before trying the next
one makes the deadline a choice between slow and wrong; trying the next one *as well* after `patience_ms`, and then at
doubling intervals, costs a dead endpoint `patience_ms` and a slow one nothing. Endpoints that fail at once are followed
by the next one at once. The same request can thus be under way several times; that is harmless

* for reads, and for deletions of keys that safety does not rest on;
* for a compare-and-set, because etcd carries out at most one of several that expect the same revision. Which answer
  may then be believed is told in `verdict`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import cycle

from twinstar.ports.clock import Clock
from twinstar.store.base import Applied, CasOutcome, Conflict, Unknown
from twinstar.store.etcd.endpoint import Attempt, Doubtful, Endpoint, Failed
from twinstar.store.etcd.messages import Json, Keys


class Try:
    """The request at one endpoint."""

    def __init__(self, endpoint: Endpoint, path: str, request: Json) -> None:
        self.endpoint = endpoint
        self._attempt = Attempt()
        self.task = asyncio.create_task(endpoint.ask(path, request, self._attempt))

    @property
    def answer(self) -> Json | None:
        return self.task.result() if self.task.done() and self.failure is None else None

    @property
    def failure(self) -> Failed | None:
        """Raises whatever else than Failed the try ended in: a bug."""
        error = self.task.exception() if self.task.done() else None
        if error is not None and not isinstance(error, Failed):
            raise error
        return error

    @property
    def doubtful(self) -> bool:
        """Whether it may have been carried out, or may still be, without our knowing."""
        return isinstance(self.failure, Doubtful) if self.task.done() else self._attempt.sent


class Race:
    """`async with Race(...) as race:`; at the end whatever is still under way is given up."""

    def __init__(self, endpoints: Sequence[Endpoint], path: str, request: Json, clock: Clock) -> None:
        self._endpoints = endpoints
        self._path = path
        self._request = request
        self._clock = clock
        self.tries: list[Try] = []

    async def __aenter__(self) -> Race:
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.tries:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in self.tries), return_exceptions=True)

    async def run(self, patience_ms: float, deadline_ms: float) -> Try | None:
        """The first try that was answered; None if all failed or none was answered in time."""
        try:
            async with self._clock.timeout_ms(deadline_ms):
                for pause_ms, endpoint in zip(_doubling(patience_ms), cycle(self._endpoints), strict=False):
                    self.tries.append(Try(endpoint, self._path, self._request))
                    untried = len(self.tries) < len(self._endpoints)
                    await self._news(pause_ms, any_news=untried)
                    if self._answered or not (untried or self._pending):
                        break
        except TimeoutError:
            pass
        return self._answered

    async def linger(self, patience_ms: float) -> None:
        """Gives the tries that are still under way a moment to end."""
        try:
            async with self._clock.timeout_ms(patience_ms):
                while self._pending:
                    await asyncio.wait(self._pending)
        except TimeoutError:
            pass

    async def _news(self, pause_ms: float, any_news: bool) -> None:
        """Returns when a try was answered or the pause is over; with `any_news` also when one has failed."""
        try:
            async with self._clock.timeout_ms(pause_ms):
                while self._pending and not self._answered:
                    await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
                    if any_news:
                        return
        except TimeoutError:
            pass

    @property
    def _pending(self) -> list[asyncio.Task[Json]]:
        return [each.task for each in self.tries if not each.task.done()]

    @property
    def _answered(self) -> Try | None:
        return next((each for each in self.tries if each.answer is not None), None)


def verdict(tries: Sequence[Try], keys: Keys) -> CasOutcome:
    """What a compare-and-set that was tried several times has come to.

    * One was applied: then it was made exactly once, since the key's revision has moved past what the others expect.
    * One met a conflict and no other is in doubt: none was made. With one in doubt, that one may *be* the conflict.
    * Otherwise nobody knows.
    """
    answers = [keys.outcome(each.answer) for each in tries if each.answer is not None]
    for outcome in answers:
        if isinstance(outcome, Applied):
            return outcome
    doubtful = [each for each in tries if each.doubtful]
    conflict = next((outcome for outcome in answers if isinstance(outcome, Conflict)), None)
    return Unknown(reasons(doubtful or tries)) if doubtful or conflict is None else conflict


def reasons(tries: Sequence[Try]) -> str:
    """Why there was no answer, for people."""
    return "; ".join(dict.fromkeys(str(each.failure or f"{each.endpoint.url}: no answer in time") for each in tries))


def _doubling(pause_ms: float) -> Iterator[float]:
    while True:
        yield pause_ms
        pause_ms *= 2
