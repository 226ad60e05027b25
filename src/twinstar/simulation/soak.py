"""Invented disasters: faults drawn from a menu by a seed, then everything is healed, and the cluster must serve again.

A fault never goes beyond what the protocol bears (a disk is lost only while the cluster is whole); otherwise they come
when they come, two within a second or many at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from twinstar.model.effects import ChangeRegister
from twinstar.model.register import Durability
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.database import VirtualEngine

Act = Callable[["Disaster", str], Awaitable[None]]

RECOVERY_MS = 60_000.0
"""Within this after the last fault the cluster must serve."""
_CLIENT_PAUSE_MS = 40.0
_PAUSES_MS = (5.0, 60.0, 800.0, 4_000.0, 15_000.0)


@dataclass
class Disaster:
    """One cluster's bad day. `log` says what was done, for whoever has to understand it."""

    cluster: Cluster
    log: list[str]

    def pick(self, choices: list[str]) -> str:
        return choices[int(self.cluster.randomness.between(0, len(choices) - 0.001))]

    async def run(self, faults: int) -> None:
        """Raises AssertionError when an invariant breaks, or the cluster does not serve in time after the end."""
        cluster = self.cluster
        for choose in (cluster.any_primary, cluster.any_primary, None):
            cluster.client(choose, pause_ms=_CLIENT_PAUSE_MS)
        for _ in range(faults):
            await self._one()
            await cluster.clock.sleep_ms(self._pause_ms())
            cluster.check()
        await self._heal_and_serve()

    @property
    def _leased(self) -> bool:
        return self.cluster.plan.durability is Durability.ASYNC

    def _pause_ms(self) -> float:
        randomness = self.cluster.randomness
        longest = _PAUSES_MS[int(randomness.between(0, len(_PAUSES_MS) - 0.001))]
        return randomness.between(0, longest)

    async def _one(self) -> None:
        cluster = self.cluster
        what = self.pick(sorted(MENU.keys() - (_NOT_FOR_LEASES if self._leased else set())))
        leader = cluster.register.leader
        target = leader if cluster.fleet.chance(0.5) else self.pick(list(cluster.names))
        self.log.append(f"{cluster.clock.now_ms():9.0f} {what} {target} (leader {leader}, {cluster.register.epoch})")
        await MENU[what](self, target)

    async def _heal_and_serve(self) -> None:
        cluster = self.cluster
        cluster.heal()
        for name in cluster.names:
            cluster.start(name)
        self.log.append(f"{cluster.clock.now_ms():9.0f} healed")
        probe = cluster.client(pause_ms=_CLIENT_PAUSE_MS)
        await cluster.until("serving", lambda: _resumed(cluster) and probe.acknowledged, RECOVERY_MS)
        await cluster.until("whole", lambda: _resumed(cluster) and cluster.whole(), RECOVERY_MS)
        cluster.check()
        if cluster.plan.durability is Durability.QUORUM:
            leader = cluster.leader()
            assert leader is not None
            lost = cluster.witness.acknowledged.keys() - leader.engine.numbers()
            assert not lost, f"acknowledged and gone: {sorted(lost)[:5]}"


def _resumed(cluster: Cluster) -> bool:
    """Asks for it as long as the cluster is paused: what was asked of a frozen agent is done when it goes on."""
    for member in cluster.members.values():
        agent = member.agent
        if agent is not None and agent.ledger.ok and agent.ledger.register and agent.ledger.register.paused:
            cluster.aside(_unless_refused(agent.change_by_hand(lambda view: operator.pause(view, False))))
            break
    return not cluster.register.paused


# -- the menu ----------------------------------------------------------------------------------------------------------


async def _kill_node(disaster: Disaster, name: str) -> None:
    await disaster.cluster.kill_node(name)


async def _kill_database(disaster: Disaster, name: str) -> None:
    disaster.cluster.members[name].engine.crash()


async def _kill_agent(disaster: Disaster, name: str) -> None:
    await disaster.cluster.kill_agent(name)


async def _kill_guard(disaster: Disaster, name: str) -> None:
    await disaster.cluster.kill_guard(name)


async def _kill_all(disaster: Disaster, name: str) -> None:
    """Power fails, and all but one come back."""
    for each in disaster.cluster.names:
        await disaster.cluster.kill_node(each)
    for each in disaster.cluster.names:
        if each != name:
            disaster.cluster.start(each)


async def _restart(disaster: Disaster, name: str) -> None:
    disaster.cluster.start(name)


async def _restart_all(disaster: Disaster, _: str) -> None:
    for each in disaster.cluster.names:
        disaster.cluster.start(each)


async def _freeze(disaster: Disaster, name: str) -> None:
    disaster.cluster.freeze(name)


async def _freeze_agent(disaster: Disaster, name: str) -> None:
    process = disaster.cluster.members[name].agent_process
    if process is not None:
        process.gate.shut()


async def _hang_database(disaster: Disaster, name: str) -> None:
    engine: VirtualEngine = disaster.cluster.members[name].engine
    engine.hung = bool(engine.run)


async def _thaw(disaster: Disaster, name: str) -> None:
    disaster.cluster.thaw(name)


async def _isolate(disaster: Disaster, name: str) -> None:
    disaster.cluster.isolate(name, store=disaster.cluster.fleet.chance(0.5))


async def _cut(disaster: Disaster, name: str) -> None:
    disaster.cluster.cut(name, disaster.pick([n for n in disaster.cluster.names if n != name]))


async def _heal(disaster: Disaster, _: str) -> None:
    disaster.cluster.heal()


async def _stop_store(disaster: Disaster, _: str) -> None:
    disaster.cluster.server.stop()


async def _start_store(disaster: Disaster, _: str) -> None:
    disaster.cluster.server.start()


async def _doubt(disaster: Disaster, name: str) -> None:
    """From now on many of the member's requests have an unknown outcome."""
    store = disaster.cluster.members[name].store
    if store is not None:
        between = disaster.cluster.randomness.between
        store.faults.lose_answer, store.faults.lose_request = between(0, 0.4), between(0, 0.2)
        store.faults.late_request, store.faults.break_watch = between(0, 0.4), between(0, 0.2)


async def _switchover(disaster: Disaster, _: str) -> None:
    await _by_hand(disaster, lambda view: operator.switchover(view, None, 5_000))


async def _failover(disaster: Disaster, _: str) -> None:
    await _by_hand(disaster, lambda view: operator.failover(view, None, accept_loss=False))


async def _pause(disaster: Disaster, _: str) -> None:
    await _by_hand(disaster, lambda view: operator.pause(view, paused=True))


async def _resume_by_hand(disaster: Disaster, _: str) -> None:
    await _by_hand(disaster, lambda view: operator.pause(view, paused=False))


async def _lose_disk(disaster: Disaster, name: str) -> None:
    """While the cluster is whole, one disk may go."""
    if disaster.cluster.whole():
        await disaster.cluster.lose_disk(name)
        disaster.cluster.start(name)


async def _by_hand(disaster: Disaster, ask: Callable[[View], ChangeRegister]) -> None:
    """Asks the leader's agent; what it refuses is not done."""
    cluster = disaster.cluster
    agent = cluster.members[cluster.register.leader].agent
    if agent is None:
        return
    cluster.aside(_unless_refused(agent.change_by_hand(ask)))


async def _unless_refused(change: Awaitable[ChangeRegister | None]) -> None:
    with suppress(operator.Refused):
        await change


_NOT_FOR_LEASES = {"freeze", "kill guard"}
"""A machine that is suspended with its guard, and an agent and its guard that die while the database lives: durability
`async` does not protect against them (`docs/protocol.md`)."""

MENU: dict[str, Act] = {
    "kill node": _kill_node,
    "kill database": _kill_database,
    "kill agent": _kill_agent,
    "kill guard": _kill_guard,
    "kill all but": _kill_all,
    "restart": _restart,
    "restart again": _restart,
    "restart all": _restart_all,
    "freeze": _freeze,
    "freeze agent": _freeze_agent,
    "hang database": _hang_database,
    "thaw": _thaw,
    "isolate": _isolate,
    "cut": _cut,
    "heal": _heal,
    "heal again": _heal,
    "stop store": _stop_store,
    "start store": _start_store,
    "doubt": _doubt,
    "switchover": _switchover,
    "failover": _failover,
    "pause": _pause,
    "resume": _resume_by_hand,
    "lose disk": _lose_disk,
}
