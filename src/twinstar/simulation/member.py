"""One member of a simulated cluster: what is on its machine, and what runs there now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from twinstar.agent.agent import Agent
from twinstar.guard.core import Record
from twinstar.model.effects import ChangeRegister
from twinstar.model.view import View
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.guard import VirtualGuard
from twinstar.simulation.stores.memory import Doubts, MemoryStore
from twinstar.simulation.world.clocks import MachineClock
from twinstar.simulation.world.freezing import Gate


@dataclass(slots=True)
class Process:
    """One of our processes on a node."""

    task: asyncio.Task[None]
    gate: Gate

    async def kill(self) -> None:
        """Like SIGKILL: it takes no further step, not even to tidy up."""
        self.gate.kill()
        await asyncio.wait({self.task})


@dataclass(slots=True)
class Member:
    name: str
    host: str
    engine: VirtualEngine
    clock: MachineClock
    agent: Agent | None = None
    guard: VirtualGuard | None = None
    store: MemoryStore | None = None
    doubts: Doubts | None = None
    """What becomes of its agent's requests to the store, where the kind of store has such troubles."""
    agent_process: Process | None = None
    guard_process: Process | None = None
    record: Record = field(default_factory=Record)
    guard_boot: int = 0
    """With `record`: what a guard keeps on its disk."""

    @property
    def processes(self) -> list[Process]:
        return [p for p in (self.agent_process, self.guard_process) if p is not None]

    @property
    def has_copy(self) -> bool:
        """Whether a whole database is on its disk."""
        return self.engine.disk.exists and not self.engine.disk.incomplete

    def by_hand(self, ask: Callable[[View], ChangeRegister]) -> asyncio.Task[ChangeRegister | None]:
        """Asks its agent, which must run, for a change; `Agent.change_by_hand` says what becomes of it."""
        assert self.agent is not None
        assert self.agent_process is not None
        return self.agent_process.gate.spawn(self.agent.change_by_hand(ask))
