"""What must not happen: small troubles that must not cost a leader, and failures that must not cost the service.

Each begins with a whole cluster and says what the protocol promises for just this trouble; a promise that is not kept
is a breach like any other. Its number is the one of the invariant, or N: no change without need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twinstar.model.effects import Reason
from twinstar.model.register import Durability, Phase
from twinstar.rules.active_passive import operator
from twinstar.rules.active_passive.local import author
from twinstar.simulation.database.senders import Sender
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage, needed
from twinstar.simulation.world.wires import Weather

_SERVICE_MS = 20_000.0
"""Within this a cluster with enough copies serves again."""
_HUNG_MS = 10_000.0
_WORD_MS = 900.0
"""Less than it takes until a leader is suspected because it does not lead."""
_IMPOSTOR_MS = 4_000.0


async def _bears(stage: Stage, what: str, trouble: Callable[[], Awaitable[object]], after_ms: float) -> None:
    """The trouble begins and ends, and nobody has taken the leader's place by then, or is about to, but by an order
    that was given before.
    """
    register = stage.register
    await trouble()
    await stage.cluster.clock.sleep_ms(after_ms)
    now = stage.register
    ordered = now.reason in {Reason.OPERATOR, Reason.FORCED, Reason.SWITCHOVER}
    if (now.epoch, now.phase, now.leader) != (register.epoch, register.phase, register.leader) and not ordered:
        stage.broken(f"N: {what}, and {register.leader} of epoch {register.epoch} was replaced ({now.evidence})")


async def _one_does_not_hear(scene: Scene, _: str) -> None:
    """One voter does not hear the leader, the others do. (Under a lease nobody votes.)"""
    stage = Stage(scene)
    if not await stage.calm() or len(stage.register.voters) < 2:
        return
    leader, voter = stage.register.leader, stage.one_of(stage.register.voters)

    async def trouble() -> None:
        stage.cut(leader, [voter])
        await stage.pause(500, 3_000)
        stage.mend(leader, [voter])

    await _bears(stage, f"{voter} alone did not hear {leader}", trouble, 1_000)


async def _all_stall(scene: Scene, _: str) -> None:
    """No process of any node runs for a while, as when the host of all of them has no time."""
    stage = Stage(scene)
    if not await stage.calm():
        return

    async def trouble() -> None:
        for name in stage.cluster.names:
            stage.cluster.freeze(name)
        await stage.pause(350, 3_000)
        for name in scene.chance.sample(stage.cluster.names, len(stage.cluster.names)):
            stage.cluster.thaw(name)
            await stage.pause(0, 150 / len(stage.cluster.names))

    await _bears(stage, "all nodes stood still together", trouble, 1_000)


async def _paused(scene: Scene, _: str) -> None:
    """While paused nobody replaces a leader that is gone."""
    stage = Stage(scene)
    if not await stage.calm():
        return
    scene.ask(lambda view: operator.pause(view, paused=True), stage.register.leader)
    if not await stage.seen(lambda: stage.register.paused, 2_000):
        return
    await stage.pause(300, 600)  # until all know of it
    if not stage.register.paused:  # an order to go on that was given before has come into effect
        return

    async def trouble() -> None:
        if stage.chances(0.5):
            await stage.kill([stage.register.leader])
        else:
            stage.member(stage.register.leader).engine.crash()

    await _bears(stage, "the cluster was paused", trouble, 3_000)


async def _as_many_as_it_bears(scene: Scene, _: str) -> None:
    """As many copies are dead as the protocol bears, and the leader changes: the others serve (invariant 5)."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.durability is not Durability.QUORUM:
        return
    register, copies = stage.register, len(stage.register.copies)
    spare = copies - needed(copies, register.required)
    dead = stage.scene.chance.sample(sorted(register.voters), min(spare, len(register.voters)))
    await stage.kill(dead)
    await stage.pause(0, 600)
    match scene.chance.randrange(4):
        case 0:
            stage.member(register.leader).engine.crash()
        case 1:
            scene.ask(lambda view: operator.failover(view, None, accept_loss=False), register.leader)
        case 2:
            await stage.kill([register.leader])
            stage.start([register.leader])
        case _:
            if not dead and copies > 2:
                await stage.kill([register.leader])
    if not await stage.serves(_SERVICE_MS):
        stage.broken(f"I5: {', '.join(dead) or 'nobody'} is dead, and the others do not serve")


async def _author_dies(scene: Scene, _: str) -> None:
    """Whoever has begun an election dies amid it: the others end it."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.required or not stage.can_spare_the_leader:
        return
    register = stage.register
    stage.member(register.leader).engine.crash()
    if not await stage.seen(lambda: stage.register.phase is Phase.ELECTING, 2_000, look_ms=0.5):
        return
    dead = author(stage.register)
    await stage.pause(0, 15)
    await stage.kill([dead])
    if not await stage.serves(_SERVICE_MS):
        stage.broken(f"I5: {dead} began an election and died, and the others do not serve")


async def _only_the_store_hears(scene: Scene, _: str) -> None:
    """A leader whom only the store hears does not stand in the way of the others."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.can_spare_the_leader:
        return
    leader = stage.register.leader
    stage.cluster.isolate(leader, store=False)
    if not await stage.serves(_SERVICE_MS):
        stage.broken(f"I5: {leader} hears the store alone, and the others do not serve")


async def _deaf(scene: Scene, _: str) -> None:
    """A leader whom all hear, and who hears nobody, cannot have anything confirmed: it makes room."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.required or not stage.can_spare_the_leader:
        return
    leader = stage.register.leader
    stage.cluster.deafen(leader)
    await stage.pause(100, 200)
    if not await stage.serves(_SERVICE_MS):
        stage.broken(f"I5: {leader} is heard and hears nobody, and the others do not serve")


async def _hangs(scene: Scene, _: str) -> None:
    """A leader's database hangs: its agent finds out."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.can_spare_the_leader:
        return
    stage.member(stage.register.leader).engine.hung = True
    if not await stage.serves(_HUNG_MS):
        stage.broken("I5: a leader's database hangs, and nobody does anything about it")


async def _apart(scene: Scene, _: str) -> None:
    """Nobody hears anybody, all hear the store: with the policy `degrade` one goes on alone."""
    stage = Stage(scene)
    if stage.cluster.files.settings.policy != "degrade" or not await stage.calm():
        return
    names = stage.cluster.names
    if stage.chances(0.5):
        await stage.kill([stage.register.leader])
    for name in names:
        stage.cut(name, set(names) - {name})
    await stage.pause(0, 300)
    stage.start(names)
    if not await stage.serves(3 * stage.cluster.files.settings.voter_removal_ms + 60_000):
        stage.broken("I5: nobody hears anybody, all hear the store, and nobody serves")


async def _no_heartbeats(scene: Scene, _: str) -> None:
    """The leader's datagrams are lost, its log arrives and its database answers."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.durability is not Durability.QUORUM:
        return
    leader, between = stage.register.leader, stage.cluster.wires.between
    host = stage.member(leader).host
    others = [stage.member(name).host for name in stage.cluster.names if name != leader]

    async def trouble() -> None:
        between.update({(host, other): Weather(lost=1.0) for other in others})
        await stage.pause(600, 2_500)
        for other in others:
            between.pop((host, other), None)

    await _bears(stage, f"only the datagrams of {leader} were lost", trouble, 500)


async def _guards_word(scene: Scene, _: str) -> None:
    """The leader's agent is gone, and then its database dies: the others act on its guard's word, at once."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.durability is not Durability.QUORUM:
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    if not stage.register.voters or stage.register.required == 0:
        return
    await stage.cluster.kill_agent(leader)
    await stage.pause(100, 600)
    if stage.register.epoch != epoch:
        return
    stage.member(leader).engine.crash()
    if not await stage.seen(lambda: stage.register.epoch > epoch, _WORD_MS):
        stage.broken(f"I5: the guard of {leader} says that its database is dead, and nobody acts on it")


async def _impostor(scene: Scene, _: str) -> None:
    """Somebody who is no member streams under a member's name: it is ended before it can confirm anything."""
    stage = Stage(scene)
    if not await stage.calm() or not stage.register.voters:
        return
    leader = stage.member(stage.register.leader)
    impostor = Sender(stage.one_of(stage.register.voters), stage.register.epoch, True, flushed=1, genuine=False)
    leader.engine.senders.take(impostor)
    if not await stage.seen(lambda: impostor not in leader.engine.senders, _IMPOSTOR_MS, look_ms=10):
        stage.broken(f"F: somebody streams from {leader.name} under the name of {impostor.member}, and goes on")


async def _former_leader_ends(scene: Scene, _: str) -> None:
    """The agent of a leader that is replaced hangs: its guard ends the database."""
    stage = Stage(scene)
    if not await stage.calm() or stage.register.durability is not Durability.QUORUM:
        return
    old, epoch, others = stage.register.leader, stage.register.epoch, stage.register.voters
    if not others:
        return
    stage.stop_agent(old)
    scene.ask(lambda view: operator.failover(view, None, accept_loss=False), stage.one_of(others))
    if not await stage.seen(lambda: stage.register.epoch > epoch, 2_000):
        return
    engine = stage.member(old).engine
    if not await stage.seen(lambda: not engine.run or not engine.primary_run, 6_000, look_ms=10):
        stage.broken(f"F: {old} was replaced and its agent hangs, and its database is still there")


PEACE = (
    Fault("one does not hear", _one_does_not_hear, 2, with_lease=False),
    Fault("all stall", _all_stall, 2, with_lease=False),
    Fault("gone while paused", _paused, 2),
    Fault("as many as it bears", _as_many_as_it_bears, 4),
    Fault("an election's author dies", _author_dies, 2, with_lease=False),
    Fault("only the store hears", _only_the_store_hears, 2),
    Fault("the leader is deaf", _deaf, 2, with_lease=False),
    Fault("the leader hangs", _hangs, 2),
    Fault("all apart", _apart, 2),
    Fault("no heartbeats", _no_heartbeats, 2, with_lease=False),
    Fault("a guard's word", _guards_word, 2, with_lease=False),
    Fault("an impostor", _impostor, 1),
    Fault("a former leader ends", _former_leader_ends, 2),
)
