"""The menu: what can be done to a simulated cluster, and how often it is."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from twinstar.model.effects import ChangeRegister
from twinstar.model.register import Durability
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.network import Weather


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


async def _cut_store(scene: Scene, name: str) -> None:
    scene.cluster.cut_store(name)


async def _bad_weather(scene: Scene, name: str) -> None:
    """Late, lost and doubled, between the node and all others."""
    uniform = scene.chance.uniform
    weather = Weather(late=uniform(0, 0.3), late_ms=(1, uniform(5, 300)), lost=uniform(0, 0.3), twice=uniform(0, 0.1))
    for other in scene.cluster.names:
        if other != name:
            scene.cluster.lossy(name, other, weather)


async def _flap(scene: Scene, name: str) -> None:
    other = scene.chance.choice([n for n in scene.cluster.names if n != name])
    scene.cluster.flap(name, other, scene.chance.uniform(20, 2_000), scene.chance.uniform(20, 2_000))


async def _suspend(scene: Scene, name: str) -> None:
    scene.cluster.suspend(name)


async def _pause_machine(scene: Scene, name: str) -> None:
    scene.cluster.pause_machine(name)


async def _steps(scene: Scene, name: str) -> None:
    """Something happens to a process in the midst of what it is doing."""
    cluster = scene.cluster
    what = scene.chance.choice((cluster.kill_agent_between_steps, cluster.freeze_agent_between_steps))
    what(name, scene.chance.randint(1, 200))


async def _freeze_amid(scene: Scene, name: str) -> None:
    scene.cluster.freeze_between_steps(name, scene.chance.randint(1, 200))


async def _set_clock(scene: Scene, name: str) -> None:
    scene.cluster.skew(name, scene.chance.uniform(-1, 1) * scene.chance.choice((300, 5_000, 4e6)))


async def _drift(scene: Scene, name: str) -> None:
    """Within what leases allow for, or far beyond it where nothing rests on clocks."""
    leased = scene.cluster.plan.durability is Durability.ASYNC
    scene.cluster.rate(name, scene.chance.uniform(0.996, 1.004) if leased else scene.chance.uniform(0.7, 1.4))


async def _kill_router(scene: Scene, _: str) -> None:
    """It is started again by whoever looks after it."""
    await scene.cluster.kill_router()
    scene.cluster.aside(_start_router_later(scene.cluster, scene.chance.uniform(50, 3_000)))


async def _start_router_later(cluster: Cluster, after_ms: float) -> None:
    await cluster.clock.sleep_ms(after_ms)
    cluster.start_router()


async def _freeze_router(scene: Scene, _: str) -> None:
    scene.cluster.freeze_router_between_steps(scene.chance.randint(1, 100))


async def _thaw_router(scene: Scene, _: str) -> None:
    scene.cluster.thaw_router()


async def _cut_router(scene: Scene, name: str) -> None:
    scene.cluster.cut_router(name)


async def _cut_router_from_store(scene: Scene, _: str) -> None:
    scene.cluster.cut_router_from_store()


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
    Fault("cut store", _cut_store),
    Fault("bad weather", _bad_weather),
    Fault("flap", _flap),
    Fault("suspend", _suspend, with_lease=False),
    Fault("pause machine", _pause_machine, with_lease=False),
    Fault("amid steps", _steps, weight=2),
    Fault("freeze amid steps", _freeze_amid, with_lease=False),
    Fault("set clock", _set_clock),
    Fault("drift", _drift),
    Fault("kill router", _kill_router),
    Fault("freeze router", _freeze_router, weight=0.5),
    Fault("thaw router", _thaw_router, weight=0.5),
    Fault("cut router", _cut_router),
    Fault("cut router from store", _cut_router_from_store, weight=0.5),
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
