"""Traps for leadership by lease (durability `async`): whoever has led must have ended before another one leads."""

from __future__ import annotations

from twinstar.guard.core import Record
from twinstar.model.effects import ChangeRegister
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage

_LATE_MS, _ON_TIME_MS = 110.0, 30.0
"""A guard may be scheduled late by less than the margin of the lease."""
_SLOW_DISK = 1_000.0
"""So many times slower than usual: a flush takes a good second at worst."""


def _failover(view: View) -> ChangeRegister:
    return operator.failover(view, None, accept_loss=False)


async def _set(scene: Scene) -> Stage | None:
    """The stage, when the cluster is led by a lease and whole."""
    stage = Stage(scene)
    leased = stage.cluster.plan.leased and await stage.calm()
    return stage if leased and stage.register.lease_ms else None


async def _cut_off(scene: Scene, _: str) -> None:
    """A leader is cut off from everybody; its clock is slow, its guard late; its store may have answered slowly, its
    agent may hang.
    """
    stage = await _set(scene)
    if stage is None:
        return
    leader, lease_ms = stage.register.leader, stage.lease_ms
    for name in stage.cluster.names:
        stage.cluster.rate(name, 0.998 if name == leader else 1.002)
    store, guard = stage.member(leader).store, stage.member(leader).guard_process
    if store is None or guard is None:
        return
    usual = store.faults.latency_ms
    if stage.chances(0.5):
        store.faults.latency_ms = (0.2, 450.0)
    await stage.pause(lease_ms, 2 * lease_ms)
    if stage.chances(0.6):
        stage.stop_agent(leader)
    stage.cluster.isolate(leader)
    store.faults.latency_ms = usual
    ends = stage.cluster.clock.now_ms() + 1.5 * lease_ms + 500
    while stage.cluster.clock.now_ms() < ends and stage.member(leader).guard_process is guard:
        guard.gate.shut()
        await stage.cluster.clock.sleep_ms(_LATE_MS)
        guard.gate.open()
        await stage.cluster.clock.sleep_ms(_ON_TIME_MS)


async def _by_hand(scene: Scene, _: str) -> None:
    """A failover by hand over a leader that does not hear of it."""
    stage = await _set(scene)
    if stage is None:
        return
    leader = stage.register.leader
    if stage.chances(0.5):
        stage.stop_agent(leader)
    else:
        stage.cluster.cut_store(leader)
    scene.ask(_failover, stage.one_of(set(stage.cluster.names) - {leader}))
    await stage.pause(500, 2 * stage.lease_ms + 500)


async def _not_gone(scene: Scene, _: str) -> None:
    """A main process dies whose others live on and, their disk being slow, answer their clients late; no agent is
    there.
    """
    stage = await _set(scene)
    if stage is None:
        return
    leader = stage.register.leader
    stage.stop_agent(leader)
    await stage.pause(0, 200)
    engine = stage.member(leader).engine
    engine.troubles.fsync_factor = scene.chance.uniform(300, _SLOW_DISK)
    await stage.pause(50, 150)
    engine.crash(others_for_ms=scene.chance.uniform(300, 1_500))
    await stage.pause(500, 2 * stage.lease_ms)
    engine.mend()


async def _without_guard(scene: Scene, _: str) -> None:
    """A leader's guard dies; long afterwards its agent hangs, and it is cut off."""
    stage = await _set(scene)
    if stage is None:
        return
    leader = stage.register.leader
    await stage.cluster.kill_guard(leader)
    await stage.pause(1.3 * stage.lease_ms + 500, 2 * stage.lease_ms + 500)
    stage.stop_agent(leader)
    stage.cluster.isolate(leader)
    await stage.pause(1_000, 2 * stage.lease_ms)


async def _guard_alone(scene: Scene, _: str) -> None:
    """A guard is started beside a database of which it remembers nothing and for which no agent speaks."""
    stage = await _set(scene)
    if stage is None:
        return
    leader = stage.register.leader
    await stage.kill(set(stage.cluster.names) - {leader})
    await stage.cluster.kill_agent(leader)
    await stage.cluster.kill_guard(leader)
    member = stage.member(leader)
    member.record = Record()
    stage.cluster.start_guard(leader)
    if not await stage.seen(lambda: not member.engine.has_processes, stage.lease_ms + 1_500, look_ms=10):
        stage.broken(f"F: nobody explains the database of {leader}, and its guard leaves it alone")


async def _without_store(scene: Scene, _: str) -> None:
    """A leader's agent is started anew, and cannot read the register."""
    stage = await _set(scene)
    if stage is None:
        return
    leader = stage.register.leader
    await stage.cluster.kill_agent(leader)
    stage.cluster.cut_store(leader)
    await stage.pause(0, 300)
    stage.start([leader])
    await stage.pause(stage.lease_ms + 500, 2 * stage.lease_ms + 500)


async def _all_behind(scene: Scene, _: str) -> None:
    """A leader goes on without anybody following, and dies; it comes back."""
    stage = await _set(scene)
    if stage is None:
        return
    leader, lease_ms = stage.register.leader, stage.lease_ms
    stage.cut(leader, set(stage.cluster.names) - {leader})
    await stage.pause(lease_ms / 2, lease_ms + 500)
    await stage.kill([leader])
    stage.cluster.wires.cut.clear()
    await stage.pause(1.2 * lease_ms, 2 * lease_ms + 500)
    stage.start([leader])
    await stage.pause(0, 500)


LEASE_TRAPS = (
    Fault("cut off with a lease", _cut_off, 2),
    Fault("by hand against a lease", _by_hand, 2),
    Fault("dead and not gone", _not_gone, 2),
    Fault("a leader without a guard", _without_guard, 2),
    Fault("started without the store", _without_store, 1),
    Fault("all fall behind", _all_behind, 1),
    Fault("a guard alone", _guard_alone, 2),
)
