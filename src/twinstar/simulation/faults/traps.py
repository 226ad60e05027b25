"""Traps: faults in an order and at moments that go for one safeguard's weakness, at random within that.

Faults drawn one by one from the menu hardly ever meet the few milliseconds between two steps of the protocol in the
right roles; a trap waits for such a moment. None goes beyond what the protocol bears, so that a cluster with all its
safeguards comes out of each; `simulation.ablations` shows which safeguards it would not do without.
"""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister
from twinstar.model.register import Phase
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage


def _failover(view: View) -> ChangeRegister:
    return operator.failover(view, None, accept_loss=False)


def _switchover(view: View) -> ChangeRegister:
    return operator.switchover(view, None, 5_000)


async def _behind(scene: Scene, _: str) -> None:
    """One copy lacks the end of the log when the leader dies, and so does the next leader soon after; another one has
    it, and has not replayed it.
    """
    stage = Stage(scene)
    if not await stage.calm():
        return
    old, epoch = stage.register.leader, stage.register.epoch
    lacking = stage.some_of(stage.register.voters, least=1)
    stage.cut(old, lacking)
    slow = [stage.member(name).engine for name in sorted(stage.register.voters - lacking) if stage.chances(0.3)]
    for engine in slow:
        engine.hold_replay()
    await stage.pause(5, 300)
    await stage.kill([old])
    stage.cluster.wires.cut.clear()
    if not await stage.seen(lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING, 3_000):
        return
    await stage.pause(0, 250)
    await stage.kill([stage.register.leader])
    await stage.pause(0, 3_000)
    for engine in slow:
        engine.mend()
    stage.start([old])
    await stage.pause(0, 2_000)


async def _other_confirmers(scene: Scene, _: str) -> None:
    """While who must confirm is being changed, others than before confirm, something goes wrong with the change, and
    then the leader is lost with those that confirmed last.
    """
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader, register = stage.register.leader, stage.register
    away = stage.some_of(register.voters, least=1)
    stage.cut(leader, away)
    changed = lambda: stage.register.copies != register.copies or stage.is_being_told(leader)  # noqa: E731
    await stage.seen(changed, stage.cluster.files.settings.voter_removal_ms + 5_000)
    if stage.chances(0.5):  # the other way round: they come back
        await stage.pause(500, 1_500)
        stage.mend(leader, away)
        before = stage.register.copies
        await stage.seen(lambda: stage.register.copies != before or stage.is_being_told(leader), 3_000)
    await _trouble(stage, leader)
    confirming = stage.some_of(register.voters, least=1)
    stage.cluster.wires.cut.clear()
    stage.cut(leader, register.voters - confirming)
    await stage.pause(50, 2_500)
    await stage.kill([leader])
    for each in sorted(confirming):
        stage.cluster.isolate(each)
    await stage.pause(1_000, 4_000)


async def _trouble(stage: Stage, leader: str) -> None:
    doubts = stage.member(leader).doubts
    if doubts is None:
        return
    match stage.scene.chance.randrange(5):
        case 0:
            await stage.pause(0, 20)
            stage.stop_agent(leader)
        case 1:
            doubts.late_request, doubts.late_ms = 1.0, (1_000.0, 4_000.0)
        case 2:
            doubts.late_request, doubts.late_ms = 1.0, (1_000.0, 4_000.0)
            await stage.pause(0, 100)
            await stage.cluster.kill_agent(leader)
            stage.start([leader])
        case 3:
            stage.cluster.server.stop()
            await stage.pause(0, 2_000)
            stage.cluster.server.start()
        case _:
            doubts.lose_answer = 1.0


async def _arrives_and_hangs(scene: Scene, _: str) -> None:
    """A leader that was alone takes a copy back which hangs at once, and is then lost; the copy goes on."""
    stage = Stage(scene)
    if stage.cluster.files.settings.policy != "degrade" or not await stage.calm():
        return
    leader, voters = stage.register.leader, stage.register.voters
    await stage.kill(voters)
    alone = lambda: stage.register.required == 0 and stage.member(leader).engine.names.required == 0  # noqa: E731
    if not voters or not await stage.seen(alone, stage.cluster.files.settings.voter_removal_ms + 6_000):
        return
    await stage.pause(0, 1_000)
    back, engine = stage.one_of(voters), stage.member(leader).engine
    stage.start([back])
    if stage.chances(0.5):
        await stage.seen(lambda: any(s.member == back and s.streaming for s in engine.senders), 6_000, look_ms=0.2)
    else:
        await stage.seen(lambda: back in stage.register.copies, 8_000, look_ms=0.2)
    stage.member(back).engine.hung = True
    await stage.pause(0, 400)
    await stage.kill([leader])
    stage.member(back).engine.hung = False
    stage.member(back).engine.tell()
    await stage.pause(1_500, 4_000)


async def _late_change(scene: Scene, _: str) -> None:
    """A change of voters is given up and made seconds later. In between others than before confirm; then the leader is
    lost with them.
    """
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader, voters = stage.register.leader, stage.register.voters
    doubts = stage.member(leader).doubts
    away = stage.some_of(voters, least=1)
    if doubts is None or not away:
        return
    doubts.late_request, doubts.late_ms = 1.0, (1_000.0, 6_000.0)
    stage.cut(leader, away)
    if not await stage.seen(lambda: stage.is_being_told(leader), stage.cluster.files.settings.voter_removal_ms + 5_000):
        return
    await stage.pause(0, 2_500)
    if stage.chances(0.4):
        await stage.cluster.kill_agent(leader)
        stage.start([leader])
    stage.mend(leader, away)
    stage.cut(leader, voters - away)
    await stage.pause(200, 3_000)
    doubts.late_request = 0.0
    await stage.pause(0, 3_000)
    await stage.kill([leader])
    for each in sorted(away):
        stage.cluster.isolate(each)
    await stage.pause(1_500, 4_000)


async def _while_it_writes(scene: Scene, _: str) -> None:
    """An election by hand over a leader that cannot know of it and goes on writing."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    stage.stop_agent(stage.register.leader)
    for _again in range(scene.chance.randint(1, 3)):
        scene.ask(_failover, stage.one_of(stage.register.voters))
        await stage.pause(100, 800)


async def _leader_first(scene: Scene, _: str) -> None:
    """Power fails while the leader holds what nobody has confirmed. It is back first, and then gone when the others
    are back.
    """
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    stage.cut(leader, stage.register.voters)
    await stage.pause(20, 200)
    await stage.kill(stage.cluster.names)
    stage.start([leader])
    await stage.seen(lambda: stage.register.epoch > epoch and stage.member(leader).engine.primary_run, 8_000)
    await stage.pause(0, 300)
    if stage.chances(0.5):
        await stage.kill([leader])
    stage.cluster.wires.cut.clear()
    stage.cluster.isolate(leader)
    stage.start(stage.cluster.names)
    await stage.pause(2_000, 6_000)


async def _rapid(scene: Scene, _: str) -> None:
    """One election after another, begun by hand at whatever point the last one has reached; promotions may be slow."""
    stage = Stage(scene)
    if not await stage.calm():
        return
    slow = [each.engine for each in stage.cluster.members.values() if stage.chances(0.3)]
    for engine in slow:
        engine.troubles.slow_fsync()
    if stage.chances(0.5):
        await stage.kill([stage.register.leader])
    for _again in range(scene.chance.randint(2, 4)):
        scene.ask(_failover, stage.one_of(stage.cluster.names))
        await stage.pause(0, 250)
        if stage.chances(0.3):
            await stage.kill([stage.one_of(stage.cluster.names)])
        if stage.chances(0.3):
            stage.stop_agent(stage.one_of(stage.cluster.names))
    await stage.pause(0, 1_000)
    for engine in slow:
        engine.mend()


async def _handing_over(scene: Scene, _: str) -> None:
    """A switchover whose successor does not get the end of the log, or one side of which fails."""
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader = stage.register.leader
    scene.ask(_switchover, leader)
    if not await stage.seen(lambda: stage.register.switchover is not None, 1_000):
        return
    planned = stage.register.switchover
    engine = stage.member(leader).engine
    if stage.chances(0.5):
        await stage.pause(0, 60)
    else:
        await stage.seen(lambda: engine.stopping or not engine.run, 6_000)
    stage.cut(leader, stage.register.voters)
    await stage.pause(0, 800)
    fails = scene.chance.choice((leader, planned.to if planned else leader, ""))
    if fails:
        await stage.kill([fails])
    stage.cluster.wires.cut.clear()
    await stage.pause(0, 2_000)


async def _handing_over_slowly(scene: Scene, _: str) -> None:
    """A switchover with slow checkpoints, whose successor is cut off meanwhile for so long that nobody waits for it."""
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader, engine = stage.register.leader, stage.member(stage.register.leader).engine
    engine.troubles.checkpoint_ms = scene.chance.uniform(700, 1_000)
    scene.ask(_switchover, leader)
    await stage.seen(lambda: stage.register.switchover is not None, 1_000)
    planned = stage.register.switchover
    if planned is not None:
        await stage.pause(0, 100)
        stage.cut(leader, [planned.to])
        await stage.seen(lambda: not engine.run, 5_000)
    engine.mend()
    await stage.pause(0, 500)
    stage.cluster.wires.cut.clear()
    await stage.pause(0, 2_000)


async def _sleeper(scene: Scene, _: str) -> None:
    """A standby whose agent sleeps through a change of leader, with log that only it and the old leader have; then the
    old leader leads again, at its old address.
    """
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    old, epoch = stage.register.leader, stage.register.epoch
    sleeper = stage.one_of(stage.register.voters)
    stage.stop_agent(sleeper)
    if stage.chances(0.7):
        stage.cut(old, stage.register.voters - {sleeper})
        await stage.pause(20, 300)
    await stage.kill([old])
    stage.cluster.wires.cut.clear()
    if not await stage.seen(lambda: stage.register.epoch > epoch and stage.cluster.leader(), 5_000):
        return
    stage.start([old])
    await stage.seen(lambda: stage.streams(old), 6_000)
    scene.ask(lambda view: operator.switchover(view, old, 5_000), stage.register.leader)
    if not await stage.seen(lambda: (now := stage.cluster.leader()) and now.name == old, 6_000):
        return
    awake = sorted(stage.register.voters - {sleeper})
    confirming = set(scene.chance.sample(awake, min(len(awake), max(0, stage.register.required - 1))))
    stage.cut(old, set(awake) - confirming)
    await stage.pause(20, 300)
    await stage.kill({old} | confirming)
    stage.cluster.wires.cut.clear()
    stage.cluster.thaw(sleeper)
    await stage.pause(1_000, 4_000)


async def _disk_too_early(scene: Scene, _: str) -> None:
    """The new leader's disk is lost while the old leader's copy is being brought onto its branch."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.required < 1:
        return
    old, epoch = stage.register.leader, stage.register.epoch
    stage.cut(old, stage.some_of(stage.register.voters))
    await stage.pause(10, 200)
    await stage.kill([old])
    stage.cluster.wires.cut.clear()
    if not await stage.seen(lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING, 3_000):
        return
    new = stage.register.leader
    stage.cut(new, set(stage.cluster.names) - {old, new})
    stage.start([old])
    if await stage.seen(lambda: stage.member(old).engine.disk.incomplete, 3_000):
        await stage.pause(0, 100)
    agent = stage.member(new).agent
    opened = agent is not None and agent.body.opened >= stage.register.epoch
    # With none required what is acknowledged is on that disk alone. And once the epoch is open, which another fault's
    # healing can bring about, the old copy may go: then this would be the second of three.
    if stage.register.required >= 1 and not opened:
        await stage.cluster.lose_disk(new)
    stage.cluster.wires.cut.clear()
    stage.start(stage.cluster.names)
    await stage.pause(1_000, 4_000)


async def _disk_of_a_voter(scene: Scene, _: str) -> None:
    """A voter that has sealed loses its disk, its promise with it, while the old leader cannot be told."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.required < 1:
        return
    old, epoch = stage.register.leader, stage.register.epoch
    victim = stage.one_of(stage.register.voters)
    unaware = stage.chances(0.5)
    if unaware:
        stage.stop_agent(old)
    stage.cluster.isolate(old)
    await stage.seen(lambda: stage.register.epoch > epoch, 3_000)
    await stage.pause(0, 150)
    if stage.register.required >= 1:
        await stage.cluster.lose_disk(victim)
    stage.cluster.rejoin(old)
    stage.cluster.cut_store(old, unaware)
    stage.start([victim])
    stage.cut(old, set(stage.cluster.names) - {old, victim})
    await stage.pause(500, 3_000)


async def _false_alarm(scene: Scene, _: str) -> None:
    """The leader is cut off, and back at the moment at which it is accused."""
    stage = Stage(scene)
    if not await stage.calm():
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    stage.cluster.isolate(leader, store=stage.chances(0.3))
    await stage.seen(lambda: stage.register.epoch > epoch, 2_000)
    await stage.pause(0, 10)
    stage.cluster.rejoin(leader)
    await stage.pause(0, 2_000)


TRAPS = (
    Fault("a copy behind", _behind, 2),
    Fault("other confirmers", _other_confirmers, 4, with_lease=False),
    Fault("arrives and hangs", _arrives_and_hangs, 2, with_lease=False),
    Fault("a late change", _late_change, 2, with_lease=False),
    Fault("elected while it writes", _while_it_writes, 2, with_lease=False),
    Fault("the leader first", _leader_first, 2, with_lease=False),
    Fault("one election after another", _rapid, 2),
    Fault("handing over badly", _handing_over, 2),
    Fault("handing over slowly", _handing_over_slowly, 1),
    Fault("a sleeper", _sleeper, 2, with_lease=False),
    Fault("a disk too early", _disk_too_early, 2, with_lease=False),
    Fault("a voter's disk", _disk_of_a_voter, 2, with_lease=False),
    Fault("a false alarm", _false_alarm, 2),
)
