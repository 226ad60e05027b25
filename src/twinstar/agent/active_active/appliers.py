"""The processes that apply other nodes' logs here, one for each sender: started, watched, started again, ended.

An applier may be killed at any moment: what it has applied and how far it has come are one transaction. So it is never
waited for longer than it takes to end it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from twinstar.model.errors import EnvironmentTrouble
from twinstar.model.position import parse_lsn
from twinstar.ports.clock import Clock
from twinstar.ports.processes import Finished, Processes

_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 100.0, 5_000.0
_STEADY_MS = 10_000.0
_GAP = 3
"""Exit status of an applier that has found one."""
_SILENT_MS = 3_000.0
"""An applier that has said nothing for so long does not get on."""

log = logging.getLogger(__name__)


class Duty(StrEnum):
    """What an applier does."""

    APPLY = "apply"
    """What has come is confirmed when it is applied."""
    SPOOL = "spool"
    """With `quorum`: when it is on disk."""
    DRAIN = "drain"
    """Nothing more comes. It ends when all that was confirmed is applied."""


@dataclass(frozen=True, slots=True)
class Order:
    """One applier to run. Its files are of one pair of numbers: what an earlier life wrote says nothing of this. What
    it says of itself is of one duty: what has come to one that applies would not outlive a crash.
    """

    settings: str
    """Its text."""
    file: Path
    """Where that is written."""
    state_file: Path
    duty: Duty = Duty.APPLY


@dataclass(frozen=True, slots=True)
class Told:
    """What an applier last said of itself. Positions are bytes of the sender's log."""

    applied: int = 0
    """Everything of the sender's up to there is applied here."""
    here: int = 0
    """The same, or it is on disk, to be applied."""
    at_ms: float = -1e12
    """When it said so, on the clock that never goes back."""
    lag_ms: float = 0.0
    trouble: str = ""
    """One sentence, while it cannot go on."""


def spool_folder(state: Path, number: int, sender: int) -> Path:
    """For what node `number` has received of the sender's log and not applied yet."""
    return state / f"{_spools_of(number)}{sender}"


def spooled(state: Path, number: int) -> frozenset[int]:
    """The senders for whom node `number` has such a folder: it goes when all in it is durably applied."""
    prefix = _spools_of(number)
    return frozenset(int(each.name.removeprefix(prefix)) for each in state.glob(f"{prefix}*"))


def _spools_of(number: int) -> str:
    return f"spool-{number}-"


class Appliers:
    """`command` gives the program of one settings file."""

    def __init__(
        self,
        command: Callable[[Path], list[str]],
        environment: Mapping[str, str],
        clock: Clock,
        processes: Processes,
    ) -> None:
        self._command, self._environment = command, environment
        self._clock, self._processes = clock, processes
        self._running: dict[int, asyncio.Task[None]] = {}
        self._orders: dict[int, Order] = {}
        """Also of those that have ended: what they said last stays true."""
        self._troubles: dict[int, str] = {}
        self.gaps: set[int] = set()
        """Senders whose log is not here and not there either: reading on would skip it."""

    def is_as(self, orders: Mapping[int, Order]) -> bool:
        """Whether exactly these run, or are being started again."""
        return self._running.keys() == orders.keys() and all(self._orders[n] == order for n, order in orders.items())

    async def want(self, orders: Mapping[int, Order]) -> None:
        """Sees that exactly these senders' logs are applied; `orders`: by the sender's number. Returns when those that
        are wanted no more have ended.
        """
        for number in [number for number in self._running if orders.get(number) != self._orders[number]]:
            await self._end(number)
        for number, order in orders.items():
            if number not in self._running:
                self.gaps.discard(number)
                self._orders[number] = order
                self._running[number] = asyncio.create_task(self._keep(number, order), name=f"applier of node {number}")

    @property
    def senders(self) -> frozenset[int]:
        """Whose logs are applied now."""
        return frozenset(number for number, task in self._running.items() if not task.done())

    @property
    def spooling(self) -> frozenset[int]:
        """Those of them that confirm what is on disk."""
        return frozenset(number for number in self.senders if self._orders[number].duty is Duty.SPOOL)

    async def close(self) -> None:
        for number in list(self._running):
            await self._end(number)

    def told(self, number: int) -> Told:
        """How the applier of this sender is; a trouble when it does not run."""
        try:
            raw: dict[str, Any] = json.loads(self._orders[number].state_file.read_text())
            received, lag_ms = parse_lsn(raw["received"]), raw["lag_ms"]
            # Without lag nothing that has come waits: the log is here as far as it is known, whatever was in it for us.
            applied = received if lag_ms == 0 else parse_lsn(raw["applied"])
            here = received if self._orders[number].duty is Duty.SPOOL else applied
            silent_ms = self._clock.wall_ms() - raw["at_ms"]
            lag_ms = max(lag_ms or 0.0, silent_ms if silent_ms > _SILENT_MS else 0.0)
            told = Told(applied, here, self._clock.now_ms() - silent_ms, lag_ms, str(raw["error"]))
        except (OSError, ValueError, KeyError, TypeError):
            told = Told()
        return replace(told, trouble=self._troubles.get(number, told.trouble))

    async def _end(self, number: int) -> None:
        task = self._running.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, number: int, order: Order) -> None:
        """Runs one applier for ever, with growing pauses when it ends at once."""
        pause_ms = _FIRST_PAUSE_MS
        while True:
            began = self._clock.now_ms()
            try:
                done = await self._once(number, order)
            except (EnvironmentTrouble, OSError) as error:
                said = str(error)
            else:
                if done.code == 0 and order.duty is Duty.DRAIN:
                    return
                said = (done.err.splitlines() or [f"exit status {done.code}"])[-1]
                if done.code == _GAP:
                    self.gaps.add(number)
            self._troubles[number] = said
            log.error("the applier of node %d has ended: %s", number, said)
            if self._clock.now_ms() - began > _STEADY_MS:
                pause_ms = _FIRST_PAUSE_MS
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
            del self._troubles[number]

    async def _once(self, number: int, order: Order) -> Finished:
        """Raises EnvironmentTrouble, OSError when it cannot be started, as with a full disk."""
        order.file.write_text(order.settings, encoding="utf-8")
        order.file.chmod(0o600)
        return await self._processes.run(
            self._command(order.file),
            account=None,
            environment=self._environment,
            on_line=lambda line: log.info("applier of node %d: %s", number, line),
        )
