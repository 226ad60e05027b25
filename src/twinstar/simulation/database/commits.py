"""Commits of a simulated primary: who must confirm them, as each of its processes has read it, and who still waits.

The checkpointer decides whether commits wait at all, each log sender when those that wait may return: while the setting
is being changed some go by the new names and some by the old ones. Who has left without an answer goes on waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from twinstar.model.engine import BLOCKED, Names
from twinstar.model.errors import EngineError
from twinstar.simulation.database.disk import RECORD_BYTES
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.database.senders import Sender, Senders


@dataclass(slots=True)
class _Waiting:
    """A session whose commit has not returned."""

    answer: asyncio.Future[int]
    """The epoch of the names that let it return."""
    flushed: bool = False


class Commits:
    """Of one run of the server. `when_able`: does it when the processes run."""

    def __init__(self, fleet: Fleet, senders: Senders, when_able: Callable[[Callable[[], None]], None]) -> None:
        self._fleet, self._senders, self._when_able = fleet, senders, when_able
        self.names = self.names_of_main = self.names_of_checkpointer = BLOCKED
        """As set, as the main process has read them (and with it whoever begins later), as the checkpointer has."""
        self.checkpointer_is_stopped = False
        """It reads nothing, for as long as a story wants."""
        self._waiting: dict[int, _Waiting] = {}
        """By the place in the log, in that order."""
        self._released, self._released_by = 0, 0

    # -- the names ----------------------------------------------------------------------------------------------------

    def set_names(self, names: Names) -> None:
        """Writes the setting and has the server read it: the main process first, then the others, each in its time."""
        self.names = names
        self._soon(0.2, 2, self._main_reads)

    def _soon(self, low_ms: float, high_ms: float, act: Callable[[], None]) -> None:
        self._fleet.later(self._fleet.duration_ms(low_ms, high_ms), lambda: self._when_able(act))

    def _main_reads(self) -> None:
        self.names_of_main = self.names
        for sender in self._senders:
            self._soon(0.1, 5, lambda each=sender: self._sender_reads(each))  # type: ignore[misc]
        if not self.checkpointer_is_stopped:
            self._soon(0.1, 8, self._checkpointer_reads)

    def _sender_reads(self, sender: Sender) -> None:
        sender.names = self.names
        self.release(sender)

    def _checkpointer_reads(self) -> None:
        self.names_of_checkpointer = self.names
        if not self.names.required:
            for place in [place for place, waiting in self._waiting.items() if waiting.flushed]:
                self._answer(place, self.names.epoch)

    # -- the sessions -------------------------------------------------------------------------------------------------

    def begin(self, place: int) -> asyncio.Future[int]:
        """A session has written its commit there; what comes back is the epoch in which it is acknowledged."""
        self._waiting[place] = _Waiting(asyncio.get_running_loop().create_future())
        return self._waiting[place].answer

    def flushed(self, place: int) -> None:
        """The log up to there is on this disk: now they wait for others, or do not. In the order of the log."""
        for each in [each for each in self._waiting if each <= place]:
            self._waiting[each].flushed = True
            if not self.names_of_checkpointer.required:
                self._answer(each, self.names_of_checkpointer.epoch)
            elif each <= self._released:
                self._answer(each, self._released_by)

    def release(self, sender: Sender) -> None:
        """What a log sender does at each report: it goes by the names that it has read, if it is among them."""
        names = sender.names
        if not names.required or not sender.counts_under(names):
            return
        confirmed = self._senders.confirmed(names) // RECORD_BYTES
        if confirmed > self._released:
            self._released, self._released_by = confirmed, names.epoch
        free = []
        for place, waiting in self._waiting.items():
            if place > confirmed:
                break
            if waiting.flushed:
                free.append(place)
        for place in free:
            self._answer(place, names.epoch)

    def _answer(self, place: int, epoch: int) -> None:
        answer = self._waiting.pop(place).answer
        if not answer.done():
            answer.set_result(epoch)

    def hides(self, place: int) -> bool:
        """Whether the record there is not shown yet: who wrote it still waits."""
        return place in self._waiting

    def end(self, member: str) -> None:
        """Every session ends, without an answer."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.answer.done():
                each.answer.set_exception(EngineError(f"{member} ended before the commit was confirmed."))
