"""Traps for one safeguard each, of which seeds by themselves would have to be very many. They are not in the menu: only
a day on which that safeguard is looked for has them.
"""

from __future__ import annotations

from twinstar.model.effects import PromoteFor, Reason
from twinstar.model.register import Phase
from twinstar.rules.active_passive import operator
from twinstar.simulation.faults.people_menu import next_name
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage
from twinstar.simulation.plan import MEMBERS

_LATE_MS = 110.0
"""A guard may be scheduled late by less than the margin of the lease."""

_HANGING_STOP_MS = 15_000.0


async def _promotion_hangs(scene: Scene, _: str) -> None:
    """The disk of who is promoted hangs, so somebody asks for another leader; all seal for that, and then the disk goes
    on.
    """
    stage = Stage(scene)
    if not await stage.calm() or not stage.can_spare_the_leader:
        return
    old, epoch = stage.register.leader, stage.register.epoch
    await stage.kill([old])
    named = lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING  # noqa: E731
    if not await stage.seen(named, 3_000):
        return
    winner, won = stage.member(stage.register.leader), stage.register.epoch
    promoting = lambda: winner.agent is not None and isinstance(winner.agent.lane.effect, PromoteFor)  # noqa: E731
    if not await stage.seen(promoting, 500, look_ms=0.2):
        return
    winner.engine.troubles.hang_fsync()
    stage.start([old])
    await stage.pause(100, 500)
    other = stage.one_of(set(stage.cluster.names) - {winner.name, old})
    scene.ask(lambda view: operator.failover(view, None, accept_loss=False), other)
    bound = lambda: winner.agent is not None and winner.agent.body.sealed and winner.agent.memory.now.promise > won  # noqa: E731
    await stage.seen(bound, 2_000)
    winner.engine.mend()
    await stage.pause(300, 1_500)


async def _cut_off_awake(scene: Scene, _: str) -> None:
    """A leader by lease is cut off from everybody, and its agent is awake."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.lease_ms:
        return
    stage.cluster.isolate(stage.register.leader)
    await stage.pause(1.5 * stage.lease_ms + 500, 1.5 * stage.lease_ms + 1_500)


async def _named_too_late(scene: Scene, _: str) -> None:
    """An agent stops when the store has its word that it leads by a lease. It goes on when that lease is over, another
    one leads, and nobody tells it; its guard is late; and it stops again when its database takes writes.
    """
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.lease_ms:
        return
    old, epoch, lease_ms = stage.register.leader, stage.register.epoch, stage.lease_ms
    await stage.kill([old])
    named = lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING  # noqa: E731
    if not await stage.seen(named, 3_000 + 2 * lease_ms, look_ms=0.2):
        return
    winner, won = stage.register.leader, stage.register.epoch
    stage.stop_agent(winner)
    stage.cluster.isolate(winner)
    stage.start([old])
    if not await stage.seen(lambda: stage.register.epoch > won and stage.cluster.leader(), 3_000 + 2 * lease_ms):
        return
    guard, engine = stage.member(winner).guard_process, stage.member(winner).engine
    stage.thaw_agent(winner)
    if guard is not None:
        guard.gate.shut()
    await stage.seen(lambda: engine.primary_run, _LATE_MS, look_ms=0.2)
    stage.stop_agent(winner)
    if guard is not None:
        guard.gate.open()
    await stage.pause(300, 1_000)


async def _dead_and_slow(scene: Scene, _: str) -> None:
    """A main process dies; the others of its database live on, and their disk takes seconds. No agent is there."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.lease_ms:
        return
    leader = stage.register.leader
    stage.stop_agent(leader)
    engine = stage.member(leader).engine
    engine.troubles.fsync_factor = scene.chance.uniform(2_000, 4_000)
    await stage.pause(50, 150)
    engine.crash(others_for_ms=scene.chance.uniform(2_000, 4_000))
    await stage.pause(2_500, 4_500)
    engine.mend()


async def _not_ready(scene: Scene, _: str) -> None:
    """A session holds up replay on the successor when the leader stops: who is named must be able to begin."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    to = stage.one_of(stage.register.voters)
    scene.ask(lambda view: operator.switchover(view, to, 5_000), leader)
    engine, successor = stage.member(leader).engine, stage.member(to).engine
    if not await stage.seen(lambda: engine.stopping or not engine.run, 5_000, look_ms=0.2):
        return
    successor.hold_replay()
    if await stage.seen(lambda: stage.register.epoch > epoch, 6_000, look_ms=0.2):
        register = stage.register
        if (register.leader, register.reason) == (to, Reason.SWITCHOVER.value) and not successor.replay.is_done:
            stage.broken(f"F: {to} was named in a switchover, and had not replayed its log")
    successor.mend()


async def _too_late(scene: Scene, _: str) -> None:
    """A switchover whose checkpoints take longer than it may: nobody takes over any more, so the leader stays."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    to, engine = stage.one_of(stage.register.voters), stage.member(leader).engine
    engine.troubles.checkpoint_ms = scene.chance.uniform(700, 1_500)
    scene.ask(lambda view: operator.switchover(view, to, 500), leader)
    await stage.pause(4_000, 5_000)
    engine.mend()
    if stage.register.epoch > epoch:
        stage.broken(f"N: the time of a switchover was over before {leader} was ready, and it stopped in vain")


async def _stranger(scene: Scene, _: str) -> None:
    """A new member of which only the leader has been told is asked to lead, if it counts by then."""
    stage, people = Stage(scene), scene.cluster.people
    if not await stage.calm() or len(stage.cluster.names) + 1 not in MEMBERS or people.leaving:
        return
    name, leader, voters = next_name(scene), stage.register.leader, stage.register.voters
    if not stage.register.required or not people.begin_to_add(name):
        return
    await people.bring(leader)
    if not await stage.seen(lambda: name in stage.register.copies, 3_000, look_ms=10):
        return
    scene.tell("switchover", at=leader, to=name)
    if await stage.seen(lambda: stage.register.leader == name, 6_000, look_ms=10) and not await stage.serves(5_000):
        stage.broken(f"I5: {name} leads, and is a stranger to {', '.join(sorted(voters))}")


async def _nobody_could(scene: Scene, _: str) -> None:
    """A leader is not heard for a moment, and there are too few copies that could seal: it is left alone."""
    stage = Stage(scene)
    if not await stage.calm() or len(stage.register.voters) != 2 or stage.register.required != 1:
        return
    leader, epoch, voters = stage.register.leader, stage.register.epoch, stage.register.voters
    all_copies, engine = stage.register.copies, stage.member(stage.one_of(voters)).engine
    engine.troubles.fill_disk()
    engine.crash()
    await stage.pause(1_200, 2_000)  # the others have heard of it
    stage.cut(leader, voters)
    await stage.pause(900, 1_500)
    stage.mend(leader, voters)
    await stage.pause(1_000, 1_500)
    engine.mend()
    if stage.register.epoch > epoch and stage.register.copies == all_copies:
        stage.broken(f"N: too few could seal, and {leader} of epoch {epoch} was replaced ({stage.register.evidence})")


async def _needless_loss(scene: Scene, _: str) -> None:
    """Somebody accepts a loss while everybody is there."""
    stage = Stage(scene)
    if not await stage.calm() or len(stage.register.copies) < 2 or not stage.register.required:
        return
    chosen = stage.one_of(stage.register.copies)
    scene.tell("failover", at=chosen, to=chosen, accept_loss=True)
    if await stage.seen(lambda: stage.register.reason == Reason.FORCED, 1_500):
        stage.broken(f"N: a loss was accepted for {chosen}, and all copies were there")


async def _hanging_stop(scene: Scene, _: str) -> None:
    """A standby's database hangs while it stops, and the agent that began that is killed: another one sees to it."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    member = stage.member(stage.one_of(stage.register.voters))
    engine, run = member.engine, member.engine.run
    engine.hung = True
    stage.cluster.aside(engine.shut_down())
    await stage.cluster.kill_agent(member.name)
    stage.start([member.name])
    if not await stage.seen(lambda: engine.run != run, _HANGING_STOP_MS, look_ms=10):
        stage.broken(f"F: the database of {member.name} hangs in its stop, and nobody ends it")


DIRECTED = (
    Fault("a stop that hangs", _hanging_stop),
    Fault("nobody could replace it", _nobody_could, with_lease=False),
    Fault("a needless loss", _needless_loss),
    Fault("a stranger leads", _stranger, with_lease=False),
    Fault("a switchover too late", _too_late),
    Fault("a successor that is not ready", _not_ready, with_lease=False),
    Fault("a promotion that hangs", _promotion_hangs, with_lease=False),
    Fault("cut off and awake", _cut_off_awake),
    Fault("named too late", _named_too_late),
    Fault("dead and slow", _dead_and_slow),
)
