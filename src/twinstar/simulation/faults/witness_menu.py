"""The part of the menu for days on which there is a witness: what happens to it, and what it is there for."""

from __future__ import annotations

from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import Stage
from twinstar.simulation.witness_node import HOST, WitnessNode
from twinstar.simulation.world.wires import Weather


def _node(scene: Scene) -> WitnessNode:
    node = scene.cluster.witness_node
    assert node is not None
    return node


async def _kill(scene: Scene, _: str) -> None:
    await _node(scene).kill()


async def _restart(scene: Scene, _: str) -> None:
    await _node(scene).kill()
    await scene.cluster.clock.sleep_ms(scene.chance.uniform(0, 1_000))
    scene.cluster.start_witness()


async def _freeze(scene: Scene, _: str) -> None:
    _node(scene).freeze(agent_alone=scene.chance.random() < 0.5)


async def _alone(scene: Scene, _: str) -> None:
    scene.cluster.wires.silent.add(HOST)


async def _cut(scene: Scene, name: str) -> None:
    """From one member, in one direction or in both."""
    host = scene.cluster.members[name].host
    pairs = [(HOST, host), (host, HOST)]
    scene.cluster.wires.cut |= set(scene.chance.sample(pairs, scene.chance.randint(1, 2)))


async def _bad_weather(scene: Scene, name: str) -> None:
    host, late_ms = scene.cluster.members[name].host, scene.chance.uniform(5, 600)
    weather = Weather(late=0.3, late_ms=(1.0, late_ms), lost=scene.chance.uniform(0, 0.5))
    scene.cluster.wires.between[HOST, host] = scene.cluster.wires.between[host, HOST] = weather


async def _broken_link(scene: Scene, _: str) -> None:
    """Two copies do not hear each other, and the witness hears both: nobody changes places (N)."""
    stage = Stage(scene)
    if not await stage.calm() or len(stage.register.copies) != 2 or not stage.register.required:
        return
    register = stage.register
    (voter,) = register.voters
    await stage.pause(500, 500)  # until the witness hears both again
    stage.cut(register.leader, [voter])
    await stage.pause(600, 1_200)
    stage.mend(register.leader, [voter])
    await stage.pause(1_000, 1_000)
    if (now := stage.register).epoch != register.epoch:
        stage.broken(f"N: the link between two copies broke, a witness hears both, and {now.leader} was named")
    scene.cluster.witness.sometimes["a witness told a broken link from a dead leader"] += 1


async def _dead_leader(scene: Scene, _: str) -> None:
    """Of two copies the leader's machine goes dark, and the witness says so too: the other one does not wait (I5)."""
    stage = Stage(scene)
    if not await stage.calm() or len(stage.register.copies) != 2 or stage.register.required != 1:
        return
    await stage.pause(500, 500)  # until a copy that has just been started has heard the leader: else it waits for it
    if not await stage.calm():
        return
    leader, epoch = stage.register.leader, stage.register.epoch
    await stage.kill([leader])
    if not await stage.seen(lambda: stage.register.epoch > epoch, _DARK_MS):
        stage.broken(f"I5: {leader} is dark to the other copy and to the witness, and nobody stands")


_DARK_MS = 3_000.0
"""Far less than a witness may hold an accusation back."""

WITNESS_MENU = (
    Fault("kill witness", _kill, 2),
    Fault("restart witness", _restart, 2),
    Fault("freeze witness", _freeze, 2),
    Fault("witness alone", _alone),
    Fault("cut witness", _cut, 2),
    Fault("bad weather at the witness", _bad_weather),
)
WITNESS_STAGED = (
    Fault("broken link beside a witness", _broken_link, 20, with_lease=False),
    Fault("dead leader beside a witness", _dead_leader, 10, with_lease=False),
)
