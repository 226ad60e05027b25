"""Traps around what people do: a loss that is accepted, and changes that are caught half-way."""

from __future__ import annotations

from twinstar.model.effects import Reason
from twinstar.model.register import Durability
from twinstar.simulation.faults.people_menu import next_name
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage
from twinstar.simulation.plan import MEMBERS

_REACHED_MS = 4_000.0


async def _set(scene: Scene) -> Stage | None:
    stage = Stage(scene)
    return stage if await stage.calm() else None


async def _accepted_loss(scene: Scene, _: str) -> None:
    """All but one are gone, or only cut off and at work; that one counts alone. Then the others are back."""
    stage = await _set(scene)
    if stage is None or len(stage.register.copies) < 2:
        return
    leader, all_copies, epoch = stage.register.leader, stage.register.copies, stage.register.epoch
    chosen = stage.one_of(all_copies)
    others = all_copies - {chosen}
    if stage.chances(0.6):
        stage.cut(chosen, others)  # it lacks the end of the log
        await stage.pause(20, 600)
    if stage.chances(0.7):
        await stage.kill(others)
    else:
        stage.cluster.isolate(chosen, store=False)
    for _again in range(12):
        scene.tell("failover", at=chosen, to=chosen, accept_loss=True)
        if await stage.seen(lambda: stage.register.reason == Reason.FORCED, 500):
            break
    if stage.chances(0.4):
        await stage.pause(0, 150)
        await stage.kill([chosen])
        await stage.pause(0, 500)
        stage.start([chosen])
    await stage.seen(stage.cluster.leader, _REACHED_MS + 2 * stage.lease_ms)
    await stage.pause(0, 1_000)
    stage.cluster.rejoin(chosen)
    stage.cluster.wires.cut.clear()
    if stage.chances(0.3):
        await stage.kill([chosen])
    stage.start(others)
    stage.tell(f"{chosen} counted alone after epoch {epoch} of {leader}")
    await stage.pause(0, 3_000)


async def _lease_in_doubt(scene: Scene, _: str) -> None:
    """A leader asks for its first lease and does not learn that it has it. Some of those who confirm stay with it,
    and know as little; the others see it run out.
    """
    stage = await _set(scene)
    cluster = stage.cluster if stage else scene.cluster
    if stage is None or not cluster.plan.turns or stage.register.durability is not Durability.QUORUM:
        return
    leader, voters = stage.register.leader, stage.register.voters
    doubts = stage.member(leader).doubts
    if doubts is not None:
        doubts.lose_answer = 1.0
    update = {"durability": Durability.ASYNC, "required": None}
    if not cluster.people.edit(lambda config: config.model_copy(update=update), "durability changed"):
        return
    scene.later(cluster.people.bring(leader))
    if not await stage.seen(lambda: stage.register.durability is Durability.ASYNC, 3_000, look_ms=0.2):
        return
    with_it = stage.some_of(voters, least=1)
    for each in sorted({leader} | with_it):
        cluster.cut_store(each)
        stage.cut(each, voters - with_it)
    if stage.chances(0.4):
        await cluster.kill_agent(leader)
        await stage.pause(0, 300)
        if stage.chances(0.5):
            stage.start([leader])
            cluster.cut_store(leader)
    await stage.pause(500, 3 * stage.lease_ms)


async def _another_number(scene: Scene, _: str) -> None:
    """While another number of confirmations is being asked for, some voters are cut off, and the leader is lost."""
    stage = await _set(scene)
    if stage is None or stage.register.durability is not Durability.QUORUM or len(stage.register.voters) < 2:
        return
    leader, voters, before = stage.register.leader, stage.register.voters, stage.register.required
    cluster, number = stage.cluster, scene.chance.randint(1, len(voters))
    if not cluster.people.edit(lambda config: config.model_copy(update={"required": number}), "required changed"):
        return
    stage.cut(leader, stage.some_of(voters))
    scene.later(cluster.people.bring(leader))
    await stage.seen(lambda: stage.register.required != before, 2_000)
    await stage.pause(0, 300)
    cluster.wires.cut.clear()
    stage.cut(leader, stage.some_of(voters))
    await stage.pause(0, 600)
    await stage.kill([leader])
    for each in sorted(stage.some_of(voters)):
        cluster.isolate(each)
    await stage.pause(500, 3_000)


async def _unknown_to_the_others(scene: Scene, _: str) -> None:
    """A new member leads before those who are to follow it have heard of it: they were off when it came."""
    stage = await _set(scene)
    cluster = scene.cluster
    if stage is None or len(cluster.names) + 1 not in MEMBERS or cluster.people.leaving:
        return
    name, leader, voters = next_name(scene), stage.register.leader, stage.register.voters
    if not cluster.people.begin_to_add(name):
        return
    if stage.chances(0.8):
        await stage.kill(voters)
    await cluster.people.bring(leader)
    if not await stage.seen(lambda: name in stage.register.copies, 10_000, look_ms=10):
        return
    stage.start(voters & set(cluster.names))
    await stage.pause(0, 1_500)
    asked = stage.register.leader
    if stage.chances(0.5):
        scene.tell("switchover", at=asked, to=name)
    else:
        scene.tell("failover", at=asked, to=name)
    if await stage.seen(lambda: stage.register.leader == name, 6_000, look_ms=10):
        scene.cluster.witness.sometimes["led by a stranger"] += 1
    await stage.pause(0, 2_000)


async def _late_words(scene: Scene, _: str) -> None:
    """Confirmations reach a database that stands still while it is replaced; then it goes on, and reads them."""
    stage = await _set(scene)
    if stage is None or stage.register.durability is not Durability.QUORUM or not stage.register.voters:
        return
    leader, epoch, voters = stage.register.leader, stage.register.epoch, stage.register.voters
    for each in sorted(voters):
        stage.member(each).engine.troubles.slow_fsync()
    await stage.pause(200, 500)
    stage.stop_agent(leader)
    stage.member(leader).engine.frozen = True
    await stage.pause(60, 200)
    for each in sorted(voters):
        stage.member(each).engine.troubles.mend()
    scene.tell("failover", at=stage.one_of(voters))
    await stage.seen(lambda: max(stage.cluster.witness.beginnings) > epoch, 3_000)
    await stage.pause(0, 300)
    stage.cluster.thaw(leader)
    await stage.pause(50, 500)


PEOPLE_TRAPS = (
    Fault("accepted loss", _accepted_loss, 3),
    Fault("a lease in doubt", _lease_in_doubt, 2),
    Fault("another number", _another_number, 2, with_lease=False),
    Fault("unknown to the others", _unknown_to_the_others, 1),
    Fault("late words", _late_words, 3, with_lease=False),
)
