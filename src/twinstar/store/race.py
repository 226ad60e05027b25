"""A request on its way through several endpoints: a second one is tried before the first has given up.

A server that is stopped or cut off does not refuse, it is silent. Waiting for a time-out before trying the next one
makes the deadline a choice between slow and wrong; trying the next one *as well* after `patience_ms`, and then at
doubling intervals, costs a dead endpoint `patience_ms` and a slow one nothing. Endpoints that fail at once are followed
by the next one at once. The same request can thus be under way several times; that is harmless

* for reads, and for deletions of keys that safety does not rest on;
* for a compare-and-set, because the store carries out at most one of several that expect the same revision. Which
  answer may then be believed is told in `verdict`.

A failed request is either `NotDone` (nothing was sent, or the store itself refused it) or `Doubtful`. That difference
is what makes an unknown outcome honest, so whoever speaks to an endpoint draws it where the bytes leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import cycle
from typing import Any, Generic, Protocol, TypeVar

from twinstar.ports.clock import Clock
from twinstar.store.base import Applied, CasOutcome, Conflict, Unknown


class Failed(Exception):
    """No answer, or the store's word that something went wrong."""


class NotDone(Failed):
    """The request has not been carried out and will not be."""


class Doubtful(Failed):
    """The request may have been carried out, may still be, or may never be."""


class Attempt:
    """Whether a request has left this machine: asked by whoever gives up waiting for its answer."""

    sent = False


class Named(Protocol):
    @property
    def url(self) -> str:
        """The endpoint's name, for people."""
        ...


E = TypeVar("E", bound=Named)
T = TypeVar("T")
Request = Callable[[E, Attempt], Coroutine[Any, Any, T]]
"""How an endpoint is asked. Raises Failed alone; sets `sent` when something leaves that could have an effect."""


class Try(Generic[E, T]):
    """The request at one endpoint."""

    def __init__(self, endpoint: E, request: Request[E, T]) -> None:
        self.endpoint = endpoint
        self._attempt = Attempt()
        self.task = asyncio.create_task(request(endpoint, self._attempt))

    @property
    def answered(self) -> bool:
        return self.task.done() and self.failure is None

    @property
    def answer(self) -> T:
        """Of a try that was answered."""
        return self.task.result()

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


class Race(Generic[E, T]):
    """`async with Race(...) as race:`; at the end whatever is still under way is given up."""

    def __init__(self, endpoints: Sequence[E], request: Request[E, T], clock: Clock) -> None:
        self._endpoints = endpoints
        self._request = request
        self._clock = clock
        self.tries: list[Try[E, T]] = []

    async def __aenter__(self) -> Race[E, T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.tries:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in self.tries), return_exceptions=True)

    async def run(self, patience_ms: float, deadline_ms: float) -> Try[E, T] | None:
        """The first try that was answered; None if all failed or none was answered in time."""
        try:
            async with self._clock.timeout_ms(deadline_ms):
                for pause_ms, endpoint in zip(_doubling(patience_ms), cycle(self._endpoints), strict=False):
                    self.tries.append(Try(endpoint, self._request))
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
    def _pending(self) -> list[asyncio.Task[T]]:
        return [each.task for each in self.tries if not each.task.done()]

    @property
    def _answered(self) -> Try[E, T] | None:
        return next((each for each in self.tries if each.answered), None)


def verdict(tries: Sequence[Try[E, Applied | Conflict]]) -> CasOutcome:
    """What a compare-and-set that was tried several times has come to.

    * One was applied: then it was made exactly once, since the key's revision has moved past what the others expect.
    * One met a conflict and no other is in doubt: none was made. With one in doubt, that one may *be* the conflict.
    * Otherwise nobody knows.
    """
    answers = [each.answer for each in tries if each.answered]
    for outcome in answers:
        if isinstance(outcome, Applied):
            return outcome
    doubtful = [each for each in tries if each.doubtful]
    conflict = next((outcome for outcome in answers if isinstance(outcome, Conflict)), None)
    return Unknown(reasons(doubtful or tries)) if doubtful or conflict is None else conflict


def reasons(tries: Sequence[Try[E, T]]) -> str:
    """Why there was no answer, for people."""
    return "; ".join(dict.fromkeys(str(each.failure or f"{each.endpoint.url}: no answer in time") for each in tries))


def _doubling(pause_ms: float) -> Iterator[float]:
    while True:
        yield pause_ms
        pause_ms *= 2
