"""A store in memory, on any clock: what the simulator gives to agents, with the faults that real stores have.

It passes the same conformance suite as the real ones. Time passes only by its clock and chance comes only from its
randomness, so that on virtual time a run is decided by its seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TypeVar

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import (
    ABSENT,
    Applied,
    CasOutcome,
    Changed,
    Conflict,
    Lost,
    Synced,
    Unknown,
    Versioned,
    WatchEvent,
    check_size,
    root,
)
from twinstar.store.inbox import Inbox
from twinstar.store.story import Story

T = TypeVar("T")
_PAUSE_MS = 20.0


@dataclass(slots=True)
class Doubts:
    """What becomes of one client's requests; may be changed at any time. Chances are from 0 to 1."""

    lose_request: float = 0.0
    """A request is never carried out, its outcome unknown."""
    lose_answer: float = 0.0
    """A request is carried out, its outcome unknown."""
    late_request: float = 0.0
    """A change's outcome is unknown, and it is carried out `late_ms` after that has been told."""
    late_ms: tuple[float, float] = (10.0, 1_000.0)
    break_watch: float = 0.0
    """Instead of a change the watch's end arrives, and the present state after its reconnection."""

    def end(self) -> None:
        """All goes well again."""
        self.lose_answer = self.lose_request = self.late_request = self.break_watch = 0.0


@dataclass(slots=True)
class Faults(Doubts):
    """The same, and what lies between the client and the store."""

    latency_ms: tuple[float, float] = (0.2, 2.0)
    """One way, from and to."""
    cut_off: bool = False
    """Nothing arrives, in either direction, and nobody is told: requests end at their deadline."""
    watch_delay_ms: tuple[float, float] = (0.2, 2.0)
    """How late changes arrive; those that come meanwhile come together, of each key the newest."""


@dataclass(frozen=True, slots=True)
class Change:
    key: str
    value: Versioned | None
    revision: int


class MemoryServer:
    """What all clients have in common. `history` keeps every change, for checks after the run."""

    def __init__(self) -> None:
        self.revision = ABSENT
        self.running = True
        self.history: list[Change] = []
        self.noticed: Callable[[str, bytes, bool], object] = lambda *_: None
        """Called for every compare-and-set that arrives: the key, the value, and whether it was applied."""
        self.reached: Callable[[str], object] = lambda _: None
        """Called with an interesting state (`coverage.py`)."""
        self._values: dict[str, Versioned] = {}
        self._watchers: dict[Inbox[Change], str] = {}
        self._late: set[asyncio.Task[None]] = set()

    def doubts_of(self, host: str) -> Doubts | None:  # noqa: ARG002 - for kinds that have some
        """What becomes of the requests that come from a machine; None: they are answered as they should."""
        return None

    def stop(self) -> None:
        """Ends every connection and refuses new ones; what is stored stays."""
        self.running = False
        for inbox in self._watchers:
            inbox.close()

    def start(self) -> None:
        self.running = True

    async def close(self) -> None:
        """Gives up the requests that are still on their way."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def read(self, key: str) -> Versioned | None:
        return self._values.get(key)

    def read_all(self, prefix: str) -> list[Versioned]:
        return [self._values[key] for key in sorted(self._values) if key.startswith(prefix)]

    def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> Applied | Conflict:
        current = self._values.get(key)
        if (current.revision if current else ABSENT) != expected_revision:
            self.noticed(key, value, False)
            return Conflict(current)
        self._values[key] = Versioned(key, value, self.revision + 1)
        self._note(key, self._values[key])
        self.noticed(key, value, True)
        return Applied(self.revision)

    def delete(self, key: str) -> None:
        if self._values.pop(key, None):
            self._note(key, None)

    def record(self, key: str, value: Versioned | None) -> None:
        """What a store that numbers its changes itself has made of a key (None: deleted)."""
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
        self._note(key, value)
        if value is not None:
            self.noticed(key, value.value, True)

    def attach(self, prefix: str, inbox: Inbox[Change]) -> tuple[list[Versioned], int]:
        """Everything under the prefix as of the returned revision; each later change goes into the inbox."""
        self._watchers[inbox] = prefix
        return self.read_all(prefix), self.revision

    def detach(self, inbox: Inbox[Change]) -> None:
        self._watchers.pop(inbox, None)

    def later(self, clock: Clock, delay_ms: float, act: Callable[[], object]) -> None:
        """Carries out a request whose sender has given up."""

        async def run() -> None:
            await clock.sleep_ms(delay_ms)
            act()

        task = Context().run(asyncio.create_task, run())  # on its way, whatever becomes of the sender's process
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _note(self, key: str, value: Versioned | None) -> None:
        self.revision += 1
        change = Change(key, value, self.revision)
        self.history.append(change)
        for inbox, prefix in self._watchers.items():
            if key.startswith(prefix):
                inbox.put(key, change)


class MemoryStore:
    """Implements `store.base.Store` for one client of a `MemoryServer`."""

    def __init__(
        self, server: MemoryServer, cluster: str, clock: Clock, randomness: Randomness, deadline_ms: float = 1_000
    ) -> None:
        self.faults = Faults()
        self._server = server
        self._root = root(cluster)
        self._clock = clock
        self._randomness = randomness
        self._deadline_ms = deadline_ms

    async def read(self, key: str) -> Versioned | None:
        return self._ours(await self._ask_safely(lambda: self._server.read(self._root + key)))

    async def read_all(self, prefix: str) -> list[Versioned]:
        found = await self._ask_safely(lambda: self._server.read_all(self._root + prefix))
        return [ours for each in found if (ours := self._ours(each))]

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)
        try:
            outcome = await self._change(
                lambda: self._server.compare_and_set(self._root + key, value, expected_revision)
            )
        except OSError as error:
            return Unknown(str(error))
        return Conflict(self._ours(outcome.current)) if isinstance(outcome, Conflict) else outcome

    async def delete(self, key: str) -> None:
        try:
            await self._change(lambda: self._server.delete(self._root + key))
        except OSError as error:
            raise _unavailable(error) from None

    async def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        story, lost = Story(), False
        while True:
            inbox: Inbox[Change] = Inbox()
            try:
                standing, revision = await self._ask(lambda: self._server.attach(self._root + prefix, inbox))  # noqa: B023
                for event in story.restart([ours for each in standing if (ours := self._ours(each))], revision):
                    yield event
                yield Synced()
                lost = False
                while True:
                    for event in await self._changes(inbox, story):
                        yield event
            except OSError as error:
                if not lost:
                    yield Lost(str(error))
                lost = True
            finally:
                self._server.detach(inbox)
            await self._clock.sleep_ms(_PAUSE_MS)

    async def close(self) -> None:
        """Nothing is held."""

    async def _changes(self, inbox: Inbox[Change], story: Story) -> list[Changed]:
        """What has arrived. Raises OSError when the watch has ended instead."""
        changes = await inbox.take()
        await self._clock.sleep_ms(self._randomness.between(*self.faults.watch_delay_ms))
        if not changes or self.faults.cut_off or self._happens(self.faults.break_watch):
            raise ConnectionResetError("the watch has ended")
        told: list[Changed] = []
        for change in changes:
            told += story.change(change.key.removeprefix(self._root), self._ours(change.value), change.revision)
        return told

    async def _ask_safely(self, act: Callable[[], T]) -> T:
        try:
            return await self._ask(act)
        except OSError as error:
            raise _unavailable(error) from None

    async def _change(self, act: Callable[[], T]) -> T:
        """A request that may also arrive after its sender has given up. Raises OSError."""
        if not self.faults.cut_off and self._happens(self.faults.late_request):
            late_ms = self._deadline_ms + self._randomness.between(*self.faults.late_ms)
            self._server.later(self._clock, late_ms, act)
            await self._give_up(self._clock.now_ms() + self._deadline_ms)
        return await self._ask(act)

    async def _ask(self, act: Callable[[], T]) -> T:
        """There and back. Raises OSError when either way fails."""
        gives_up_ms = self._clock.now_ms() + self._deadline_ms
        await self._travel(gives_up_ms, self.faults.lose_request)
        answer = act()
        await self._travel(gives_up_ms, self.faults.lose_answer)
        return answer

    async def _travel(self, gives_up_ms: float, chance_of_loss: float) -> None:
        await self._clock.sleep_ms(self._randomness.between(*self.faults.latency_ms))
        if self.faults.cut_off or self._happens(chance_of_loss):
            await self._give_up(gives_up_ms)
        if not self._server.running:
            raise ConnectionRefusedError("connection refused")

    async def _give_up(self, at_ms: float) -> None:
        await self._clock.sleep_ms(max(0.0, at_ms - self._clock.now_ms()))
        raise TimeoutError(f"no answer within {self._deadline_ms:.0f} ms")

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._randomness.between(0, 1) < chance

    def _ours(self, found: Versioned | None) -> Versioned | None:
        return found and Versioned(found.key.removeprefix(self._root), found.value, found.revision)


def _unavailable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"The store does not answer ({error}): see that it runs.")
