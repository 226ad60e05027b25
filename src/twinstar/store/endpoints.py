"""All endpoints of one store, the one that answered last first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.base import Applied, CasOutcome, Conflict
from twinstar.store.race import E, Race, Request, T, Try, reasons, verdict


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a store, in milliseconds.

    `next_ms`: for one endpoint before the next is tried as well; higher than a healthy answer takes, since each extra
    try is work for the store. `deadline_ms`: for an answer from any of them; then the outcome is unknown. `silence_ms`:
    for a message from a watch before its endpoint is asked whether there should have been one.
    """

    next_ms: float = 100
    deadline_ms: float = 2_000
    silence_ms: float = 5_000


DEFAULT_PATIENCE = Patience()


class Endpoints(Generic[E]):
    def __init__(self, store: str, endpoints: Sequence[E], clock: Clock, patience: Patience) -> None:
        """`store`: its name, for people."""
        self.all = tuple(endpoints)
        self.deadline_ms = patience.deadline_ms
        self._store = store
        self._clock = clock
        self._next_ms = patience.next_ms
        self._first = self.all[0]

    async def ask(self, request: Request[E, T]) -> T:
        """A request that may be made more than once. Raises StoreUnavailable."""
        async with Race(self._in_order(), request, self._clock) as race:
            winner = await race.run(self._next_ms, self.deadline_ms)
            if winner is None:
                raise StoreUnavailable(
                    f"{self._store} does not answer ({reasons(race.tries)}): see that a majority of its members runs."
                )
            self._remember(winner)
            return winner.answer

    async def compare_and_set(self, request: Request[E, Applied | Conflict]) -> CasOutcome:
        async with Race(self._in_order(), request, self._clock) as race:
            winner = await race.run(self._next_ms, self.deadline_ms)
            if winner is not None:
                self._remember(winner)
            outcome = verdict(race.tries)
            if winner is None or isinstance(outcome, Applied):
                return outcome
            await race.linger(self._next_ms)  # a conflict, and perhaps another try that knows more
            return verdict(race.tries)

    def _in_order(self) -> tuple[E, ...]:
        at = self.all.index(self._first)
        return self.all[at:] + self.all[:at]

    def _remember(self, winner: Try[E, T]) -> None:
        self._first = winner.endpoint
