"""The part of the menu that people do to a cluster which is under fire, by the commands and the file that they have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twinstar.config.check import check
from twinstar.config.derive import copies
from twinstar.config.schema import Config, NodeTags
from twinstar.model.register import Durability
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.faults.stage import needed
from twinstar.simulation.people import without
from twinstar.simulation.plan import MEMBERS

Act = Callable[[Scene, str], Awaitable[None]]

# -- commands ----------------------------------------------------------------------------------------------------------


def _command(name: str, **fields: Any) -> Act:
    async def give(scene: Scene, _: str) -> None:
        scene.tell(name, **fields)

    return give


async def _restart(scene: Scene, name: str) -> None:
    scene.tell("restart", member=name)


async def _reinit(scene: Scene, name: str) -> None:
    scene.tell("reinit", member=name)


# -- members -----------------------------------------------------------------------------------------------------------


async def _add_member(scene: Scene, _: str) -> None:
    """One that is new, or one that was a member once, with what is on its disk."""
    cluster = scene.cluster
    if len(cluster.names) + 1 in MEMBERS and not cluster.people.leaving:
        name = scene.chance.choice([*sorted(cluster.members.keys() - set(cluster.names)), next_name(scene)])
        await _begun(scene, cluster.people.add(name))


async def _begun(scene: Scene, work: Coroutine[Any, Any, None]) -> None:
    """It goes on beside what happens next, which comes at once or when some of it is done."""
    scene.later(work)
    await scene.cluster.clock.sleep_ms(scene.chance.choice((0, scene.chance.uniform(0, 1_500))))


def next_name(scene: Scene) -> str:
    """Of a machine that never was one of the cluster's."""
    return f"n{1 + max(int(name[1:]) for name in scene.cluster.members)}"


async def _remove_member(scene: Scene, name: str) -> None:
    """Also the leader, which is asked to hand over before, or just stopped. Stopped, or only cut off: then it goes on
    when it hears the others again, and knows of nothing.
    """
    cluster, chance = scene.cluster, scene.chance
    if cluster.people.leaving or not _can_do_without(scene, name):
        return
    leads, leased = name == cluster.register.leader, bool(cluster.register.lease_ms)
    orderly, cut_off = leads and (leased or chance.random() < 0.5), chance.random() < 0.3

    async def stop() -> None:
        if orderly:
            scene.tell("remove", member=name)  # which is refused
            scene.tell("switchover")
            await cluster.clock.sleep_ms(chance.uniform(0, 3_000))
        if cut_off and not leads:
            cluster.isolate(name, store=chance.random() < 0.5)
        elif not leased or cluster.register.leader != name:
            await cluster.kill_node(name)

    await _begun(scene, cluster.people.remove(name, stop))


def _can_do_without(scene: Scene, name: str) -> bool:
    """Whether the others, who all have a copy, can elect and confirm without it for good."""
    cluster, register = scene.cluster, scene.cluster.register
    if len(cluster.names) < 3 or check(without(cluster.files.wanted, name)) is not None:
        return False
    left = register.copies - {name}
    required = max(register.required, cluster.files.settings.required)
    whole = all(cluster.members[each].has_copy for each in left)
    return whole and len(left) >= needed(len(register.copies), required)


# -- the file ----------------------------------------------------------------------------------------------------------


def _edit(reached: str, edited: Callable[[Scene, Config, str], dict[str, Any]]) -> Act:
    """The file is edited, and read by one machine after another."""

    async def strike(scene: Scene, name: str) -> None:
        if scene.cluster.people.leaving:
            return

        def edit(config: Config) -> Config:
            return config.model_copy(update=edited(scene, config, name))

        await _begun(scene, scene.cluster.people.change(edit, reached))

    return strike


def _required(scene: Scene, config: Config, _: str) -> dict[str, Any]:
    voters = len(copies(config)) - 1
    leased = config.durability is Durability.ASYNC
    return {"required": None if leased else scene.chance.choice([None, *range(1, voters + 1)])}


def _policy(_: Scene, config: Config, __: str) -> dict[str, Any]:
    return {"policy": "block" if config.policy == "degrade" else "degrade"}


def _tags(scene: Scene, config: Config, name: str) -> dict[str, Any]:
    """Who was a voter is none any more, or the other way round; priorities as well."""
    flip, priority = scene.chance.random() < 0.7, scene.chance.randint(-2, 2)

    def tagged(tags: NodeTags) -> NodeTags:
        return tags.model_copy(update={"nofailover": not tags.nofailover} if flip else {"priority": priority})

    nodes = tuple(
        each.model_copy(update={"tags": tagged(each.tags)}) if each.name == name else each for each in config.nodes
    )
    return {"nodes": nodes}


def _bounds(scene: Scene, config: Config, _: str) -> dict[str, Any]:
    timing = config.timing.model_copy(update={"voter_removal_ms": scene.chance.choice((1_500, 10_000))})
    lease_ms = scene.chance.choice((1_000, 2_000, 5_000))
    return {"timing": timing, "lease_ms": lease_ms, "maximum_lag_bytes": scene.chance.choice((640, 6_400, 1 << 20))}


def _durability(_: Scene, config: Config, __: str) -> dict[str, Any]:
    other = Durability.QUORUM if config.durability is Durability.ASYNC else Durability.ASYNC
    return {"durability": other, "required": None}


DURABILITY = Fault("change durability", _edit("durability changed", _durability), 6)
"""Only where the plan has it: what leases do not bear is no part of such a day."""

PEOPLE = (
    Fault("switchover", _command("switchover"), 1.5),
    Fault("failover", _command("failover")),
    Fault("pause", _command("pause"), 0.5),
    Fault("resume", _command("resume"), 0.5),
    Fault("restart command", _restart, 0.5),
    Fault("reinit", _reinit, 0.5),
    Fault("add member", _add_member),
    Fault("remove member", _remove_member),
    Fault("change required", _edit("required changed", _required)),
    Fault("change policy", _edit("policy changed", _policy), 0.5),
    Fault("change tags", _edit("tags changed", _tags)),
    Fault("change bounds", _edit("bounds changed", _bounds), 0.5),
)
