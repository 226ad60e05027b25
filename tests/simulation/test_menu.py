"""A fault never goes beyond what the protocol bears: what comes after one that was done may have to be left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, play, standbys_of
from twinstar.model.register import Durability
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.menu import MENU
from twinstar.simulation.faults.scene import Scene
from twinstar.simulation.plan import Plan

FAULTS = {fault.name: fault for fault in MENU}


async def strike(cluster: Cluster, fault: str, name: str) -> None:
    await Scene(cluster, random.Random(1)).strike(FAULTS[fault], name)


def test_nobody_is_removed_while_another_has_lost_its_disk(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        gone, kept = standbys_of(cluster)
        await cluster.lose_disk(gone.name)
        await strike(cluster, "remove member", kept.name)
        assert not cluster.people.leaving

    play(tmp_path, story, 0)


def test_a_second_disk_is_not_lost_with_the_first(tmp_path: Path) -> None:
    """The leader has not noticed yet: it sends to one who is no more."""

    async def story(cluster: Cluster) -> None:
        gone, kept = standbys_of(cluster)
        await cluster.lose_disk(gone.name)
        assert cluster.whole()
        await strike(cluster, "lose disk", kept.name)
        assert kept.has_copy

    play(tmp_path, story, 0)


@pytest.mark.parametrize("durability", Durability)
def test_what_is_on_a_leaders_disk_alone_is_not_lost_with_it(tmp_path: Path, durability: Durability) -> None:
    """Cut off, with nobody who must confirm, it goes on; with somebody it has told nobody of what it has alone."""

    async def story(cluster: Cluster) -> None:
        cluster.client()
        leader = leader_of(cluster)
        cluster.isolate(leader.name, store=False)
        await cluster.clock.sleep_ms(300)
        assert cluster.whole()
        await strike(cluster, "lose disk", leader.name)
        assert leader.has_copy == (durability is Durability.ASYNC)

    play(tmp_path, story, 0, Plan(durability=durability, lease_ms=5_000, maximum_lag_bytes=640))
