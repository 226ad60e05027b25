"""All endpoints of one etcd, the one that answered last first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.base import Applied, CasOutcome
from twinstar.store.etcd.endpoint import Endpoint
from twinstar.store.etcd.messages import Json, Keys
from twinstar.store.etcd.race import Race, Try, reasons, verdict


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for etcd, in milliseconds.

    `next_ms`: for one endpoint before the next is tried as well; higher than a healthy answer takes, since each extra
    try is work for etcd. `deadline_ms`: for an answer from any of them; then the outcome is unknown. `silence_ms`: for
    a message from a watch before its endpoint is asked whether there should have been one.
    """

    next_ms: float = 100
    deadline_ms: float = 2_000
    silence_ms: float = 5_000


DEFAULT_PATIENCE = Patience()


class Endpoints:
    def __init__(self, endpoints: Sequence[Endpoint], clock: Clock, patience: Patience) -> None:
        self.all = tuple(endpoints)
        self.deadline_ms = patience.deadline_ms
        self._clock = clock
        self._next_ms = patience.next_ms
        self._first = self.all[0]

    async def ask(self, path: str, request: Json) -> Json:
        """A request that may be made more than once. Raises StoreUnavailable."""
        async with Race(self._in_order(), path, request, self._clock) as race:
            winner = await race.run(self._next_ms, self.deadline_ms)
            if winner is None or winner.answer is None:
                raise StoreUnavailable(
                    f"etcd does not answer ({reasons(race.tries)}): see that a majority of its members runs."
                )
            self._remember(winner)
            return winner.answer

    async def compare_and_set(self, request: Json, keys: Keys) -> CasOutcome:
        async with Race(self._in_order(), "/kv/txn", request, self._clock) as race:
            winner = await race.run(self._next_ms, self.deadline_ms)
            if winner is not None:
                self._remember(winner)
            outcome = verdict(race.tries, keys)
            if winner is None or isinstance(outcome, Applied):
                return outcome
            await race.linger(self._next_ms)  # a conflict, and perhaps another try that knows more
            return verdict(race.tries, keys)

    async def close(self) -> None:
        for endpoint in self.all:
            await endpoint.close()

    def _in_order(self) -> tuple[Endpoint, ...]:
        at = self.all.index(self._first)
        return self.all[at:] + self.all[:at]

    def _remember(self, winner: Try) -> None:
        self._first = winner.endpoint
