"""Machines that come back with nothing, and with clocks that are behind: the others listen to them all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play, standbys_of
from twinstar.model.register import Durability
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.member import Member
from twinstar.simulation.plan import Plan

HOUR_MS = 3_600_000


async def start_an_hour_ahead(cluster: Cluster, name: str) -> None:
    """Its agent and its guard have begun when somebody had set the clock an hour ahead."""
    cluster.skew(name, HOUR_MS)
    await cluster.kill_agent(name)
    await cluster.kill_guard(name)
    cluster.start(name)


def is_ahead(member: Member) -> bool:
    """Its agent and its guard go on as later starts than its clock gave them."""
    assert member.agent is not None
    assert member.guard is not None
    return min(member.agent.memory.now.boot, member.guard.boot) > member.clock.wall_ms() + HOUR_MS / 2


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "standby"])
def test_a_machine_is_replaced_and_its_clock_is_behind(
    tmp_path: Path, leads: bool, durability: Durability, seed: int
) -> None:
    """Nobody waits an hour for its word, without which the next leader could not be replaced; nor does the router."""

    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(pause_ms=20)
        for name in cluster.names:
            await start_an_hour_ahead(cluster, name)
        await cluster.clock.sleep_ms(5_000)
        await cluster.until("whole", cluster.whole)
        name = leader_of(cluster).name if leads else standbys_of(cluster)[0].name
        epoch = cluster.register.epoch
        await cluster.lose_disk(name)
        if leads:
            await led_anew(cluster, epoch)
        cluster.start(name)
        await cluster.until("heard", lambda: is_ahead(cluster.members[name]), within_ms=5_000)
        await cluster.until("whole again", lambda: cluster.members[name].engine.run and cluster.whole())
        before = cluster.register.epoch
        await cluster.kill_node(leader_of(cluster).name)
        await led_anew(cluster, before)
        answered = [client.answered for client in service.clients]
        await cluster.until("served", lambda: service.served_all_since(answered))

    play(tmp_path, story, seed, Plan(durability=durability))
