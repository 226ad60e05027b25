"""Where faults happen: a cluster, the chance that draws their details, and what goes on until everything heals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twinstar.model.effects import ChangeRegister
from twinstar.model.register import Phase
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    act: Callable[[Scene, str], Awaitable[None]]
    """Does it, to the member that is named."""
    weight: float = 1.0
    deadly: bool = False
    """A leader that it is done to leads no more."""
    with_lease: bool = True
    """Durability `async` protects against it (`docs/protocol.md`)."""


class Scene:
    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster, self.chance = cluster, chance
        self._going_on: list[asyncio.Task[object]] = []
        self._turn = asyncio.Lock()

    async def strike(self, fault: Fault, target: str, why: str = "") -> None:
        """Does one fault, when the one before it is done."""
        async with self._turn:
            cluster = self.cluster
            cluster.chronicle.tell(f"FAULT {fault.name}: {target}{why}")
            cluster.chronicle.faults[fault.name] += 1
            self._look_before(fault, target)
            await fault.act(self, target)

    def anybody(self, leader: float) -> str:
        """A member; this often the one that the register names."""
        cluster = self.cluster
        return cluster.register.leader if self.chance.random() < leader else self.chance.choice(cluster.names)

    def another(self, than: str) -> str:
        return self.chance.choice([name for name in self.cluster.names if name != than])

    def later(self, work: Coroutine[Any, Any, object]) -> None:
        """Goes on beside the story, until everything heals."""
        self._going_on.append(asyncio.create_task(work))

    async def calm(self) -> None:
        """Ends what goes on, and heals everything. Raises what went wrong in it."""
        async with self._turn:
            await self.calm_amid_fault()

    async def calm_amid_fault(self) -> None:
        """The same, for a fault that has its turn already."""
        for task in self._going_on:
            task.cancel()
        for task in self._going_on:
            with suppress(asyncio.CancelledError):
                await task
        self._going_on.clear()
        self.cluster.heal()
        for name in self.cluster.names:
            self.cluster.start(name)
        self.cluster.start_witness()
        self.cluster.people.finish()

    def tell(self, command: str, at: str = "", **fields: Any) -> None:
        """Somebody gives a command, to the leader unless a member is named; what it is answered, nobody looks at."""
        people = self.cluster.people
        self.later(people.tell_one(at, command, **fields) if at else people.tell(command, **fields))

    def ask(self, change: Callable[[View], ChangeRegister], whom: str = "") -> None:
        """Asks a member's agent, the leader's unless another is named, for a change by hand; what it refuses is not
        done.
        """
        member = self.cluster.members[whom or self.cluster.register.leader]
        if member.agent is not None:
            self.cluster.aside(unless_refused(member.by_hand(change)))

    def _look_before(self, fault: Fault, target: str) -> None:
        """What the fault hits."""
        cluster, register = self.cluster, self.cluster.register
        seen = cluster.witness.sometimes
        if fault.deadly and target == register.leader and register.phase is Phase.LEADING and register.epoch > 1:
            agent = cluster.members[target].agent
            if agent is not None and agent.body.opened < register.epoch:
                seen["leader dead during promotion"] += 1
        if fault.name in {"stop store", "restart store"} and cluster.server.running and cluster.leader() is None:
            seen["store down during failover"] += 1


def resumed(cluster: Cluster) -> bool:
    """Whether it is not paused. Asks for that as long as it is: what was asked of a frozen agent is done when it goes
    on.
    """
    for member in cluster.members.values():
        agent = member.agent
        if agent is not None and agent.ledger.ok and agent.ledger.register and agent.ledger.register.paused:
            cluster.aside(unless_refused(member.by_hand(lambda view: operator.pause(view, False))))
            break
    return not cluster.register.paused


async def unless_refused(change: Awaitable[ChangeRegister | None]) -> None:
    with suppress(operator.Refused):
        await change
