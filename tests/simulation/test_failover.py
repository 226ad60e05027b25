"""A leader fails, in one way or another: another one leads, soon, and nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play, standbys_of
from twinstar.model.register import Durability, Phase
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.plan import Plan

Break = Callable[[Cluster, str], Awaitable[None]]
SEEDS = range(4)


async def kill_node(cluster: Cluster, name: str) -> None:
    await cluster.kill_node(name)


async def kill_database(cluster: Cluster, name: str) -> None:
    cluster.members[name].engine.crash()


async def freeze(cluster: Cluster, name: str) -> None:
    cluster.freeze(name)


async def isolate(cluster: Cluster, name: str) -> None:
    cluster.isolate(name)


async def only_the_store_hears_it(cluster: Cluster, name: str) -> None:
    cluster.isolate(name, store=False)


async def hang_database(cluster: Cluster, name: str) -> None:
    cluster.members[name].engine.hung = True


async def kill_agent_then_database(cluster: Cluster, name: str) -> None:
    await cluster.kill_agent(name)
    await cluster.clock.sleep_ms(300)
    cluster.members[name].engine.crash()


async def freeze_agent_then_kill_database(cluster: Cluster, name: str) -> None:
    process = cluster.members[name].agent_process
    assert process is not None
    process.gate.shut()
    await cluster.clock.sleep_ms(500)
    cluster.members[name].engine.crash()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("break_it", "bound_ms"),
    [
        (kill_node, 2_000),
        (kill_database, 1_500),
        (freeze, 2_000),
        (isolate, 2_000),
        (only_the_store_hears_it, 3_000),
        (hang_database, 8_000),
        (kill_agent_then_database, 1_500),
        (freeze_agent_then_kill_database, 1_500),
    ],
)
def test_a_failed_leader_is_replaced_and_comes_back(
    tmp_path: Path, seed: int, break_it: Break, bound_ms: float
) -> None:
    async def story(cluster: Cluster) -> None:
        client = cluster.client()
        cluster.client(cluster.any_primary)
        await cluster.clock.sleep_ms(1_000)
        old, before = leader_of(cluster), cluster.register.epoch
        await break_it(cluster, old.name)
        new = await led_anew(cluster, before)
        await cluster.clock.sleep_ms(1_000)
        assert client.longest_gap_ms() <= bound_ms
        assert client.numbers() <= new.engine.numbers()
        cluster.heal()
        cluster.start(old.name)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


def test_two_agents_make_a_cluster(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        assert (cluster.register.phase, cluster.register.required) == (Phase.LEADING, 1)
        assert standbys_of(cluster)[0].engine.disk.upstream is not None

    play(tmp_path, story, 1, Plan(size=2))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lease_runs_out_in_async(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.client(cluster.any_primary)
        await cluster.clock.sleep_ms(1_000)
        old, before = leader_of(cluster), cluster.register.epoch
        cluster.isolate(old.name)
        took = await cluster.until("named", lambda: cluster.register.epoch > before)
        assert took >= 1_500, "nobody takes over before the lease has run out"
        assert not old.engine.run or not old.engine.primary_run, "the lease's end has ended the old leader"
        await led_anew(cluster, before)

    play(tmp_path, story, seed, Plan(durability=Durability.ASYNC))
