"""Traps in which something comes late: a change of the register, a setting, an order that an agent had already begun
to carry out, a register that is not the newest any more.
"""

from __future__ import annotations

from collections.abc import Callable

from twinstar.model.effects import ChangeRegister, Follow, PromoteFor, SealFor
from twinstar.model.register import Phase
from twinstar.model.view import View
from twinstar.rules.active_passive import operator
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage
from twinstar.simulation.member import Member

_GUARD_LATE_MS = 110.0


def _to(member: str) -> Callable[[View], ChangeRegister]:
    return lambda view: operator.failover(view, member, accept_loss=False)


async def _in_doubt(scene: Scene, _: str) -> None:
    """A change that drops a voter is made seconds after it was given up. Meanwhile that voter is back, alone, and the
    leader's agent may have been started anew; then only the other voter is left.
    """
    stage = Stage(scene)
    if len(stage.cluster.names) != 3 or not await stage.calm():
        return
    leader, voters = stage.register.leader, stage.register.voters
    doubts = stage.member(leader).doubts
    if doubts is None or len(voters) != 2 or stage.register.required != 1:
        return
    back = stage.one_of(voters)
    stage.cut(leader, [back])
    doubts.late_request, doubts.late_ms = 1.0, (800.0, 1_800.0)
    agent = stage.member(leader).agent
    asked = lambda: agent is not None and agent.ledger.changing  # noqa: E731
    if not await stage.seen(asked, stage.cluster.files.settings.voter_removal_ms + 6_000):
        return
    await stage.pause(0, 200)
    if stage.chances(0.5):
        await stage.cluster.kill_agent(leader)
        stage.start([leader])
    stage.mend(leader, [back])
    stage.cut(leader, voters - {back})
    if not await stage.seen(lambda: back not in stage.register.copies, 4_000):
        return
    await stage.pause(0, 100)
    await stage.kill([leader])
    stage.cluster.wires.cut.clear()
    stage.cluster.isolate(back)
    await stage.pause(1_500, 3_000)


async def _setting_read_late(scene: Scene, _: str) -> None:
    """A leader that was alone takes a copy back, and its own database reads late that it is to wait for that. It goes
    on alone for a moment, and is lost; the copy goes on.
    """
    stage = Stage(scene)
    if stage.cluster.files.settings.policy != "degrade" or not await stage.calm():
        return
    leader, voters = stage.register.leader, stage.register.voters
    await stage.kill(voters)
    engine = stage.member(leader).engine
    alone = lambda: stage.register.required == 0 and engine.names.required == 0  # noqa: E731
    if not voters or not await stage.seen(alone, stage.cluster.files.settings.voter_removal_ms + 6_000):
        return
    await stage.pause(50, 500)
    back = stage.one_of(voters)
    engine.commits.checkpointer_is_stopped = True
    stage.start([back])
    if await stage.seen(lambda: back in stage.register.voters, 3_000, look_ms=0.2):
        stage.cut(leader, [back])
        await stage.pause(0, 300)
    await stage.kill([leader])
    await stage.pause(1_000, 3_000)


async def _more_must_confirm(scene: Scene, _: str) -> None:
    """Fewer are to confirm, in the database and not yet wholly in the register, when one comes back who falls behind at
    once: what is confirmed meanwhile is so by another one alone. The leader is lost, and that one with it.
    """
    stage = Stage(scene)
    if stage.cluster.files.settings.policy != "degrade" or len(stage.cluster.names) < 4 or not await stage.calm():
        return
    leader, voters = stage.register.leader, stage.register.voters
    if len(voters) < 3 or stage.register.required != 2:
        return
    stays = stage.one_of(voters)
    await stage.kill(voters - {stays})
    engine = stage.member(leader).engine
    fewer = lambda: stage.register.voters == voters and engine.names.required == 1  # noqa: E731
    if not await stage.seen(fewer, stage.cluster.files.settings.voter_removal_ms + 6_000, look_ms=0.2):
        return
    stage.stop_agent(leader)
    back = stage.one_of(voters - {stays})
    stage.start([back])
    if await stage.seen(lambda: stage.streams(back), 4_000):
        stage.cut(leader, [back])
        await stage.pause(50, 400)
        stage.thaw_agent(leader)
        await stage.seen(lambda: stage.register.required == 2, 1_200)
    await stage.kill([leader, stays])
    scene.ask(lambda view: operator.failover(view, None, accept_loss=False), back)
    await stage.pause(500, 2_000)


async def _late_order(scene: Scene, _: str) -> None:
    """An agent stops as it begins to follow the second leader, and its database streams from the first one, which leads
    again as the third. When it goes on, it hears of nobody but the second one, which is still there.
    """
    await _goes_on_late(scene, given_anew=False)


async def _order_given_anew(scene: Scene, _: str) -> None:
    """The same, and the order fails at first: what is to be done is decided anew."""
    await _goes_on_late(scene, given_anew=True)


async def _goes_on_late(scene: Scene, *, given_anew: bool) -> None:
    stage = Stage(scene)
    if len(stage.cluster.names) != 5 or not await stage.calm() or not _is_five(stage):
        return
    first, epoch = stage.register.leader, stage.register.epoch
    sleeper, second, confirming, last = scene.chance.sample(sorted(stage.register.voters), 4)
    stage.stop_agent(sleeper)
    scene.ask(lambda view: operator.switchover(view, second, 5_000), first)
    if not await _leads(stage, second, epoch):
        return
    asleep = stage.member(sleeper)
    stage.thaw_agent(sleeper)
    begun = lambda: (  # noqa: E731
        asleep.agent is not None and isinstance(asleep.agent.lane.effect, Follow) and asleep.engine.disk.upstream
    )
    if not await stage.seen(begun, 1_000, look_ms=0.05):
        return
    stage.stop_agent(sleeper)
    if not await stage.seen(lambda: all(map(stage.streams, (first, confirming, last))), 3_000):
        return
    stage.stop_agent(second)
    stage.cluster.isolate(second)
    scene.ask(_to(first), first)
    if not await _leads(stage, first, epoch + 1):
        return
    stage.cut(first, [last])
    if not await stage.seen(lambda: stage.streams(sleeper) and stage.streams(confirming), 3_000):
        return
    await stage.pause(50, 400)
    await stage.kill([first, confirming])
    stage.cluster.rejoin(second)
    for cut_off in (second, sleeper):
        stage.cluster.cut_store(cut_off)
        stage.cut(cut_off, [last])
    if given_anew:
        stage.cut(sleeper, [second])
    stage.thaw_agent(sleeper)
    if given_anew:
        await stage.pause(2_200, 2_600)
        stage.mend(sleeper, [second])
    await stage.seen(lambda: _follows(asleep, second), 5_000)
    await _without_the_rest(stage, second)


def _is_five(stage: Stage) -> bool:
    """Whether the leader and two of its voters confirm without the other two."""
    return len(stage.register.voters) == 4 and stage.register.required == 2


async def _leads(stage: Stage, member: str, after: int) -> bool:
    """Whether it opens an epoch after that one."""
    there = lambda: stage.register.epoch > after and (now := stage.cluster.leader()) and now.name == member  # noqa: E731
    return await stage.seen(there, 4_000)


async def _without_the_rest(stage: Stage, asleep: str) -> None:
    """Who is alive can talk again, and elects."""
    for name in stage.cluster.names:
        stage.cluster.cut_store(name, False)
    stage.cluster.wires.cut.clear()
    stage.thaw_agent(asleep)
    await stage.pause(2_000, 4_000)


def _follows(member: Member, leader: str) -> bool:
    upstream = member.engine.disk.upstream
    return upstream is not None and upstream.member == leader and member.engine.receiver.streaming


async def _old_news(scene: Scene, _: str) -> None:
    """A copy that was asleep during a change of leader confirms for the new one, which is lost then; its agent is
    started anew, and hears of nobody but the former leader, which is still there.
    """
    stage = Stage(scene)
    if len(stage.cluster.names) != 5 or not await stage.calm() or not _is_five(stage):
        return
    old, epoch = stage.register.leader, stage.register.epoch
    late, new, confirming, last = scene.chance.sample(sorted(stage.register.voters), 4)
    stage.stop_agent(late)
    stage.stop_agent(old)
    stage.cluster.isolate(old)
    scene.ask(_to(new), new)
    if not await _leads(stage, new, epoch):
        return
    stage.thaw_agent(late)
    if not await stage.seen(lambda: stage.streams(late) and stage.streams(confirming), 3_000):
        return
    stage.cut(new, [last])
    await stage.pause(50, 400)
    await stage.kill([new, confirming])
    await stage.cluster.kill_agent(late)
    stage.cluster.rejoin(old)
    stage.cluster.cut_store(old)
    stage.cut(last, [late, old])
    stage.start([late])
    await stage.seen(lambda: _follows(stage.member(late), old), 5_000)
    await _without_the_rest(stage, old)


async def _dies_promoting(scene: Scene, _: str) -> None:
    """The agent of who is about to be promoted stops, at any point of that; its node may be cut off. When it goes on,
    its guard is late, by less than a lease's margin.
    """
    stage = Stage(scene)
    if not await stage.calm():
        return
    old, epoch, lease_ms = stage.register.leader, stage.register.epoch, stage.lease_ms
    await stage.kill([old])
    named = lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING  # noqa: E731
    if not await stage.seen(named, 3_000 + 2 * lease_ms):
        return
    winner, won = stage.register.leader, stage.register.epoch
    if stage.chances(0.3):
        await stage.pause(0, 80)
        await stage.cluster.kill_agent(winner)
    else:
        await stage.seen(lambda: _is_on_its_way(stage, winner), 500, look_ms=0.2)
        await stage.pause(0, 25)
        stage.stop_agent(winner)
    if stage.chances(0.6):
        stage.cluster.isolate(winner)
    stage.start([old])
    if stage.chances(0.6):
        await stage.seen(lambda: stage.register.epoch > won, 3_000 + 2 * lease_ms)
        await stage.pause(0, 600)
    else:
        await stage.pause(0, 3_000)
    stage.cluster.thaw(winner)
    guard = stage.member(winner).guard_process
    if guard is not None:
        guard.gate.shut()
        await stage.pause(_GUARD_LATE_MS, _GUARD_LATE_MS)
        guard.gate.open()
    await stage.pause(0, 500)


def _is_on_its_way(stage: Stage, name: str) -> bool:
    """Whether its agent seals, or promotes."""
    agent = stage.member(name).agent
    return agent is not None and isinstance(agent.lane.effect, SealFor | PromoteFor)


async def _slow_naming(scene: Scene, _: str) -> None:
    """Two sealed copies do not hear each other, and see late what the register says: each finds that it wins."""
    stage = Stage(scene)
    if len(stage.cluster.names) < 4 or not await stage.calm() or len(stage.register.voters) < 3:
        return
    epoch = stage.register.epoch
    one, other = scene.chance.sample(sorted(stage.register.voters), 2)
    stage.cut(one, [other])
    await stage.pause(600, 1_000)
    stage.cluster.slow_store((30.0, 150.0))
    await stage.kill([stage.register.leader])
    await stage.seen(lambda: stage.register.epoch > epoch and stage.register.phase is Phase.LEADING, 4_000)
    await stage.pause(300, 1_500)


async def _former_clients(scene: Scene, _: str) -> None:
    """A leader is cut off from the members and from the store; its clients and their router still reach it."""
    stage = Stage(scene)
    if len(stage.cluster.names) < 3 or not await stage.calm():
        return
    leader = stage.register.leader
    stage.cut(leader, set(stage.cluster.names) - {leader})
    stage.cluster.cut_store(leader)
    await stage.pause(1_000, 3_500)


LATE_TRAPS = (
    Fault("a change in doubt", _in_doubt, 2, with_lease=False),
    Fault("a setting read late", _setting_read_late, 2, with_lease=False),
    Fault("more must confirm", _more_must_confirm, 1, with_lease=False),
    Fault("a late order", _late_order, 1, with_lease=False),
    Fault("an order given anew", _order_given_anew, 1, with_lease=False),
    Fault("old news", _old_news, 1, with_lease=False),
    Fault("a former leader's clients", _former_clients, 1),
    Fault("dies promoting", _dies_promoting, 2),
    Fault("a slow naming", _slow_naming, 1, with_lease=False),
)
