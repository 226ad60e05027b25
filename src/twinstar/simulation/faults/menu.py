"""The menu: what can be done to a simulated cluster, and how often it is."""

from __future__ import annotations

from twinstar.simulation.faults.database_menu import DATABASES
from twinstar.simulation.faults.people_menu import PEOPLE
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.world.wires import Weather

# -- processes and machines --------------------------------------------------------------------------------------------


async def _kill_node(scene: Scene, name: str) -> None:
    await scene.cluster.kill_node(name)


async def _restart_node(scene: Scene, name: str) -> None:
    await scene.cluster.kill_node(name)
    await _back(scene, name)


async def _kill_database(scene: Scene, name: str) -> None:
    scene.cluster.members[name].engine.crash()


async def _kill_agent(scene: Scene, name: str) -> None:
    await scene.cluster.kill_agent(name)


async def _restart_agent(scene: Scene, name: str) -> None:
    await scene.cluster.kill_agent(name)
    await _back(scene, name)


async def _kill_guard(scene: Scene, name: str) -> None:
    await scene.cluster.kill_guard(name)


async def _restart_guard(scene: Scene, name: str) -> None:
    await scene.cluster.kill_guard(name)
    await _back(scene, name)


async def _power_failure(scene: Scene, name: str) -> None:
    """All come back, one after another; perhaps one does not."""
    cluster = scene.cluster
    missing = name if scene.chance.random() < 0.5 else None
    for each in cluster.names:
        await cluster.kill_node(each)
    for each in scene.chance.sample(cluster.names, len(cluster.names)):
        if each != missing:
            await _back(scene, each)


async def _back(scene: Scene, name: str) -> None:
    """Whoever starts processes again does so at once, or a moment later."""
    await scene.cluster.clock.sleep_ms(scene.chance.choice((0, scene.chance.uniform(0, 300))))
    scene.cluster.start(name)


async def _start(scene: Scene, name: str) -> None:
    scene.cluster.start(name)


async def _start_all(scene: Scene, _: str) -> None:
    for each in scene.cluster.names:
        scene.cluster.start(each)


async def _freeze(scene: Scene, name: str) -> None:
    scene.cluster.freeze(name)


async def _freeze_briefly(scene: Scene, name: str) -> None:
    """Long enough to be replaced, or not."""
    scene.cluster.freeze(name)
    pause_ms = scene.chance.uniform(50, scene.chance.choice((300, 1_500)))

    async def thaw() -> None:
        await scene.cluster.clock.sleep_ms(pause_ms)
        scene.cluster.thaw(name)

    scene.later(thaw())


async def _freeze_agent(scene: Scene, name: str) -> None:
    process = scene.cluster.members[name].agent_process
    if process is not None:
        process.gate.shut()


async def _hang_database(scene: Scene, name: str) -> None:
    engine = scene.cluster.members[name].engine
    engine.hung = bool(engine.run)


async def _thaw(scene: Scene, name: str) -> None:
    scene.cluster.thaw(name)


async def _suspend(scene: Scene, name: str) -> None:
    scene.cluster.suspend(name)


async def _pause_machine(scene: Scene, name: str) -> None:
    scene.cluster.pause_machine(name)


async def _amid_steps(scene: Scene, name: str) -> None:
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
    leased = scene.cluster.plan.leased
    scene.cluster.rate(name, scene.chance.uniform(0.996, 1.004) if leased else scene.chance.uniform(0.7, 1.4))


async def _lose_disk(scene: Scene, name: str) -> None:
    """While the cluster is whole, one disk may go."""
    if scene.cluster.whole() and _others_have_it(scene, name):
        await scene.cluster.lose_disk(name)
        scene.cluster.start(name)


def _others_have_it(scene: Scene, name: str) -> bool:
    """Whether the other copies can go on with what they have. Streams break late, so a cluster that has just been cut
    apart, or has just lost a disk, looks whole; and where nobody confirms, what a leader has may be on its disk alone.
    """
    cluster, register = scene.cluster, scene.cluster.register
    others = [cluster.members[each] for each in register.copies - {name}]
    if not all(each.has_copy for each in others):
        return False
    if name != register.leader or not register.lease_ms:
        return True
    end_lsn = cluster.members[name].engine.disk.position.lsn
    near_lsn = end_lsn - cluster.files.settings.maximum_lag_bytes
    return any(each.engine.disk.position.lsn >= near_lsn for each in others)


# -- the network -------------------------------------------------------------------------------------------------------


async def _isolate(scene: Scene, name: str) -> None:
    scene.cluster.isolate(name, store=scene.chance.random() < 0.5)


async def _false_alarm(scene: Scene, name: str) -> None:
    """Agent and guard stand still while the database lives."""
    for process in scene.cluster.members[name].processes:
        process.gate.shut()
    pause_ms = scene.chance.uniform(300, scene.chance.choice((550, 1_200)))

    async def go_on() -> None:
        await scene.cluster.clock.sleep_ms(pause_ms)
        for process in scene.cluster.members[name].processes:
            process.gate.open()

    scene.later(go_on())


async def _cut(scene: Scene, name: str) -> None:
    scene.cluster.cut(name, scene.another(name))


async def _one_way(scene: Scene, name: str) -> None:
    """It is not heard by some that it hears, or the other way round."""
    outwards = scene.chance.random() < 0.5
    others = [each for each in scene.cluster.names if each != name]
    for other in scene.chance.sample(others, scene.chance.randint(1, len(others))):
        scene.cluster.cut_one_way(*((name, other) if outwards else (other, name)))


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
    scene.cluster.flap(name, scene.another(name), scene.chance.uniform(20, 2_000), scene.chance.uniform(20, 2_000))


# -- the router --------------------------------------------------------------------------------------------------------


async def _kill_router(scene: Scene, _: str) -> None:
    """It is started again by whoever looks after it."""
    await scene.cluster.kill_router()
    after_ms = scene.chance.uniform(50, 3_000)

    async def start() -> None:
        await scene.cluster.clock.sleep_ms(after_ms)
        scene.cluster.start_router()

    scene.later(start())


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


# -- the store ---------------------------------------------------------------------------------------------------------


async def _stop_store(scene: Scene, _: str) -> None:
    scene.cluster.server.stop()


async def _start_store(scene: Scene, _: str) -> None:
    scene.cluster.server.start()


async def _restart_store(scene: Scene, _: str) -> None:
    """As an election of the store's own, or an upgrade."""
    scene.cluster.server.stop()
    pause_ms = scene.chance.uniform(5, scene.chance.choice((200, 2_500)))

    async def start() -> None:
        await scene.cluster.clock.sleep_ms(pause_ms)
        scene.cluster.server.start()

    scene.later(start())


async def _elect_store_leader(scene: Scene, _: str) -> None:
    scene.cluster.elect_store_leader()


async def _store_server(scene: Scene, _: str) -> None:
    """One of the store's servers dies, stands still, or is cut off from the other two; a compaction comes with it."""
    cluster = scene.cluster
    what = scene.chance.choice((cluster.kill_store_server, cluster.freeze_store_server, cluster.cut_store_server))
    what(scene.chance.randrange(3))
    cluster.compact_store()


async def _slow_store(scene: Scene, _: str) -> None:
    longest_ms = scene.chance.choice((30.0, 150.0, 600.0))
    scene.cluster.slow_store((longest_ms / 5, longest_ms))


async def _doubt(scene: Scene, name: str) -> None:
    """From now on many of the member's requests have an unknown outcome."""
    doubts = scene.cluster.members[name].doubts
    if doubts is not None:
        between = scene.chance.uniform
        doubts.lose_answer, doubts.lose_request = between(0, 0.4), between(0, 0.2)
        doubts.late_request, doubts.break_watch = between(0, 0.4), between(0, 0.2)


# -- at the worst moment -----------------------------------------------------------------------------------------------


async def _ambush(scene: Scene, _: str) -> None:
    """Waits for the register's next version while somebody is being chosen or not open yet, and strikes right then or
    a few steps later."""
    scene.later(_strike_at_next(scene))


async def _strike_at_next(scene: Scene) -> None:
    cluster, chance = scene.cluster, scene.chance
    while True:
        await cluster.changed.wait()
        if cluster.leader() is None or cluster.register.switchover is not None:
            break
    await cluster.clock.sleep_ms(chance.uniform(0, chance.choice((2, 20, 100, 400))))
    leased = cluster.plan.leased
    choices = [fault for fault in AMBUSHES if fault.with_lease or not leased]
    (fault,) = chance.choices(choices, [each.weight for each in choices])
    cluster.witness.sometimes["ambushed"] += 1
    await scene.strike(fault, scene.anybody(leader=0.6), " (from an ambush)")


LEADER_FAILS = (
    Fault("kill node", _kill_node, 3, deadly=True),
    Fault("restart node", _restart_node, deadly=True),
    Fault("kill database", _kill_database, 2, deadly=True),
    Fault("hang database", _hang_database, deadly=True),
    Fault("freeze", _freeze, deadly=True, with_lease=False),
    Fault("isolate", _isolate, 2),
)
"""What makes another member lead, when it is done to the leader."""

AMBUSHES = (
    *LEADER_FAILS,
    Fault("kill agent", _kill_agent, deadly=True),
    Fault("restart agent", _restart_agent, deadly=True),
    Fault("restart guard", _restart_guard),
    Fault("restart store", _restart_store, 2),
    Fault("elect store leader", _elect_store_leader),
    Fault("stop store", _stop_store, 0.5),
    Fault("freeze briefly", _freeze_briefly, with_lease=False),
)

MENU = (
    *AMBUSHES,
    *DATABASES,
    *PEOPLE,
    Fault("ambush", _ambush, 5),
    Fault("kill guard", _kill_guard, 0.5, with_lease=False),
    Fault("power failure", _power_failure, 1.5),
    Fault("start", _start, 2),
    Fault("start all", _start_all, 1.5),
    Fault("freeze agent", _freeze_agent),
    Fault("thaw", _thaw),
    Fault("lose disk", _lose_disk),
    Fault("false alarm", _false_alarm, 2, with_lease=False),
    Fault("suspend", _suspend, with_lease=False),
    Fault("pause machine", _pause_machine, with_lease=False),
    Fault("amid steps", _amid_steps, 2),
    Fault("freeze amid steps", _freeze_amid, with_lease=False),
    Fault("set clock", _set_clock),
    Fault("drift", _drift),
    Fault("kill router", _kill_router),
    Fault("freeze router", _freeze_router, weight=0.5),
    Fault("thaw router", _thaw_router, weight=0.5),
    Fault("cut router", _cut_router),
    Fault("cut router from store", _cut_router_from_store, weight=0.5),
    Fault("cut", _cut),
    Fault("one way", _one_way, 1.5),
    Fault("cut store", _cut_store),
    Fault("flap", _flap),
    Fault("bad weather", _bad_weather),
    Fault("heal", _heal, 2),
    Fault("start store", _start_store),
    Fault("slow store", _slow_store),
    Fault("elect store leader", _elect_store_leader),
    Fault("store server", _store_server),
    Fault("doubt", _doubt, 1.5),
)
