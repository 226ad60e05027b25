"""The menu: what can be done to a simulated cluster, and how often it is."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from twinstar.model.effects import ChangeRegister
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault happens, and by what chance its details are drawn."""

    cluster: Cluster
    chance: random.Random


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    act: Callable[[Scene, str], Awaitable[None]]
    """Does it, to the member that is named."""
    weight: float = 1.0
    with_lease: bool = True
    """Durability `async` protects against it (`docs/protocol.md`)."""


def resumed(cluster: Cluster) -> bool:
    """Whether it is not paused. Asks for that as long as it is: what was asked of a frozen agent is done when it goes
    on.
    """
    for member in cluster.members.values():
        agent = member.agent
        if agent is not None and agent.ledger.ok and agent.ledger.register and agent.ledger.register.paused:
            cluster.aside(_unless_refused(member.by_hand(lambda view: operator.pause(view, False))))
            break
    return not cluster.register.paused


async def _kill_node(scene: Scene, name: str) -> None:
    await scene.cluster.kill_node(name)


async def _kill_database(scene: Scene, name: str) -> None:
    scene.cluster.members[name].engine.crash()


async def _kill_agent(scene: Scene, name: str) -> None:
    await scene.cluster.kill_agent(name)


async def _kill_guard(scene: Scene, name: str) -> None:
    await scene.cluster.kill_guard(name)


async def _kill_all(scene: Scene, name: str) -> None:
    """Power fails, and all but one come back."""
    for each in scene.cluster.names:
        await scene.cluster.kill_node(each)
    for each in scene.cluster.names:
        if each != name:
            scene.cluster.start(each)


async def _restart(scene: Scene, name: str) -> None:
    scene.cluster.start(name)


async def _restart_all(scene: Scene, _: str) -> None:
    for each in scene.cluster.names:
        scene.cluster.start(each)


async def _freeze(scene: Scene, name: str) -> None:
    scene.cluster.freeze(name)


async def _freeze_agent(scene: Scene, name: str) -> None:
    process = scene.cluster.members[name].agent_process
    if process is not None:
        process.gate.shut()


async def _hang_database(scene: Scene, name: str) -> None:
    engine = scene.cluster.members[name].engine
    engine.hung = bool(engine.run)


async def _thaw(scene: Scene, name: str) -> None:
    scene.cluster.thaw(name)


async def _isolate(scene: Scene, name: str) -> None:
    scene.cluster.isolate(name, store=scene.chance.random() < 0.5)


async def _cut(scene: Scene, name: str) -> None:
    scene.cluster.cut(name, scene.chance.choice([n for n in scene.cluster.names if n != name]))


async def _one_way(scene: Scene, name: str) -> None:
    scene.chance.choice((scene.cluster.deafen, scene.cluster.mute))(name)


async def _heal(scene: Scene, _: str) -> None:
    scene.cluster.heal()


async def _stop_store(scene: Scene, _: str) -> None:
    scene.cluster.server.stop()


async def _start_store(scene: Scene, _: str) -> None:
    scene.cluster.server.start()


async def _doubt(scene: Scene, name: str) -> None:
    """From now on many of the member's requests have an unknown outcome."""
    store = scene.cluster.members[name].store
    if store is not None:
        between = scene.chance.uniform
        store.faults.lose_answer, store.faults.lose_request = between(0, 0.4), between(0, 0.2)
        store.faults.late_request, store.faults.break_watch = between(0, 0.4), between(0, 0.2)


async def _switchover(scene: Scene, _: str) -> None:
    await _by_hand(scene, lambda view: operator.switchover(view, None, 5_000))


async def _failover(scene: Scene, _: str) -> None:
    await _by_hand(scene, lambda view: operator.failover(view, None, accept_loss=False))


async def _pause(scene: Scene, _: str) -> None:
    await _by_hand(scene, lambda view: operator.pause(view, paused=True))


async def _resume_by_hand(scene: Scene, _: str) -> None:
    await _by_hand(scene, lambda view: operator.pause(view, paused=False))


async def _lose_disk(scene: Scene, name: str) -> None:
    """While the cluster is whole, one disk may go."""
    if scene.cluster.whole():
        await scene.cluster.lose_disk(name)
        scene.cluster.start(name)


async def _by_hand(scene: Scene, ask: Callable[[View], ChangeRegister]) -> None:
    """Asks the leader's agent; what it refuses is not done."""
    cluster = scene.cluster
    leader = cluster.members[cluster.register.leader]
    if leader.agent is not None:
        cluster.aside(_unless_refused(leader.by_hand(ask)))


async def _unless_refused(change: Awaitable[ChangeRegister | None]) -> None:
    with suppress(operator.Refused):
        await change


MENU = (
    Fault("kill node", _kill_node),
    Fault("kill database", _kill_database),
    Fault("kill agent", _kill_agent),
    Fault("kill guard", _kill_guard, with_lease=False),
    Fault("kill all but", _kill_all),
    Fault("restart", _restart, weight=2),
    Fault("restart all", _restart_all),
    Fault("freeze", _freeze, with_lease=False),
    Fault("freeze agent", _freeze_agent),
    Fault("hang database", _hang_database),
    Fault("thaw", _thaw),
    Fault("isolate", _isolate),
    Fault("cut", _cut),
    Fault("one way", _one_way),
    Fault("heal", _heal, weight=2),
    Fault("stop store", _stop_store),
    Fault("start store", _start_store),
    Fault("doubt", _doubt),
    Fault("switchover", _switchover),
    Fault("failover", _failover),
    Fault("pause", _pause),
    Fault("resume", _resume_by_hand),
    Fault("lose disk", _lose_disk),
)
