"""Watching this member's own database: its end, its state, whether it hangs; and the slots it keeps for the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from twinstar.agent.body import Body
from twinstar.agent.errands import Paces, aside
from twinstar.agent.lane import Lane
from twinstar.engine.base import Engine
from twinstar.model.effects import Bootstrap, EngineEffect, Kill, Start, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.timing import Timings
from twinstar.ports.clock import Clock

log = logging.getLogger(__name__)

_LOOK_MS = 1_000
_LOOK_CLOSELY_MS = 10
_SLOTS_MS = 10_000
_STOPPING_MS = 10_000
"""For so long a database may be stopping without anybody waiting for it: longer than an agent's own stops."""
_FRESH_EVERY = 10
"""A fresh connection is tried every so many of its deadlines while all is well."""
_RUNNING = frozenset({EngineStatus.STANDBY, EngineStatus.PRIMARY})

_ENDING = (Bootstrap, Kill, Start, Stop)
"""Effects during which a database may well not answer. Those that end or start it on their way are not among them: then
it is not seen running, and while it is, they would wait for one that hangs."""


class Watching:
    """Keeps `body` up to date; `on_news` is called when a decision may change by it.

    `others` says for whom slots are kept, None while that is not known.
    """

    def __init__(
        self,
        engine: Engine,
        body: Body,
        lane: Lane[EngineEffect],
        timings: Timings,
        clock: Clock,
        on_news: Callable[[], None],
        others: Callable[[], frozenset[str] | None],
    ) -> None:
        self._engine, self._body, self._lane, self._timings, self._clock = engine, body, lane, timings, clock
        self._on_news, self._others = on_news, others
        self._attention = asyncio.Event()
        self._doubt = asyncio.Event()
        """The running database has not answered on its warm connection."""
        self._closely = False
        self.paused = False
        """Nothing is done about a database that hangs."""
        self._paces = Paces()
        self._impostors: frozenset[int] = frozenset()
        self._stopping_since_ms: float | None = None

    @property
    def closely(self) -> bool:
        """Something is under way: look every 10 ms. Becoming true, it makes for a look at once."""
        return self._closely

    @closely.setter
    def closely(self, closely: bool) -> None:
        if closely and not self._closely:
            self._attention.set()
        self._closely = closely

    def others_changed(self) -> None:
        """Slots are kept for other members from now on."""
        self._paces.at_once("slots")

    def tasks(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What must run for ever."""
        return self._watch_end(), self._look_for_ever(), self._watch_hang()

    async def _watch_end(self) -> None:
        """Notices the end of the running database at once."""
        while True:
            if self._body.state.status not in _RUNNING:
                await self._clock.sleep_ms(_LOOK_CLOSELY_MS)
                continue
            await self._body.ended()
            log.warning("the database has ended (%s)", "as asked" if self._body.stopping else "by itself")
            self._on_news()

    async def _look_for_ever(self) -> None:
        """Looks at the database at a pace that fits: what the plan waits for is looked for often."""
        while True:
            await self._attention_within(_LOOK_CLOSELY_MS if self._closely or self._lane.effect else _LOOK_MS)
            self._attention.clear()
            await self._body.observe()
            if self._body.state.status in _RUNNING and self._body.state.position is None:
                self._doubt.set()
            if self._closely:
                self._on_news()
            self._end_lasting_stop()
            self._end_impostors()
            self._keep_slots()

    def _end_lasting_stop(self) -> None:
        """A stop that the agent waits for is followed by a kill. One that it does not wait for (it was broken off, or
        begun by an earlier run of this agent, or by hand) may hang: then it answers nobody, and is not seen to hang.
        """
        status, now = self._body.state.status, self._clock.now_ms()
        if status is not EngineStatus.STOPPING or self._lane.effect is not None or self.paused:
            self._stopping_since_ms = None
            return
        self._stopping_since_ms = self._stopping_since_ms or now
        if now - self._stopping_since_ms >= _STOPPING_MS:
            log.error("the database has been stopping for %d ms: killing it", now - self._stopping_since_ms)
            self._lane.want(Kill())

    def _end_impostors(self) -> None:
        """Ends who confirms under a member's name without being that member: PostgreSQL would count it.

        At the second look: a standby's connection and its slot are not read in the same instant.
        """
        here = self._body.primary.attachments if self._body.primary else ()
        found = frozenset(each.pid for each in here if not each.genuine and each.flush_lsn)
        if proved := found & self._impostors:
            log.error("somebody streams under a member's name: ending log senders %s", sorted(proved))
            aside(self._engine.end_walsenders(proved))
        self._impostors = found

    async def _attention_within(self, pace_ms: float) -> None:
        try:
            async with self._clock.timeout_ms(pace_ms):
                await self._attention.wait()
        except TimeoutError:
            pass

    def _keep_slots(self) -> None:
        others = self._others()
        idle = self._lane.effect is None and self._body.state.status in _RUNNING
        if others is not None and idle and self._paces.is_due("slots", self._clock.now_ms(), _SLOTS_MS):
            aside(self._engine.keep_slots(others))

    async def _watch_hang(self) -> None:
        """A hung database is found by a real query on a fresh connection, and then killed.

        A fresh connection costs the database a process, so it is tried seldom; but at once, and again and again, when
        the warm connection has not answered; also while it is asked in vain to seal, to follow, to hand over or to
        change who must confirm.
        """
        strikes = 0
        deadline_ms = self._timings.hung_query_ms
        while True:
            if strikes:
                await self._clock.sleep_ms(deadline_ms / 4)
            else:
                await self._doubt_within(deadline_ms * _FRESH_EVERY)
            if self._body.state.status not in _RUNNING or isinstance(self._lane.effect, _ENDING) or self.paused:
                strikes = 0
                continue
            strikes = 0 if await self._engine.answers(deadline_ms) else strikes + 1
            if strikes >= self._timings.hung_strikes:
                log.error("the database does not answer %d queries on fresh connections: killing it", strikes)
                strikes = 0
                self._lane.want(Kill())

    async def _doubt_within(self, pace_ms: float) -> None:
        self._doubt.clear()
        try:
            async with self._clock.timeout_ms(pace_ms):
                await self._doubt.wait()
        except TimeoutError:
            pass
