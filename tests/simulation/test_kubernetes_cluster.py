"""Whole clusters on Kubernetes, asked by the real client: what becomes of its parts costs no leader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.files import CLUSTER
from twinstar.simulation.plan import Plan, StoreKind
from twinstar.simulation.stores.kubernetes_machines import KubernetesStorage
from twinstar.store.base import root

PLAN = Plan(store=StoreKind.KUBERNETES)
REGISTER = root(CLUSTER) + "register"
Act = Callable[[KubernetesStorage, int], None]


def storage(cluster: Cluster) -> KubernetesStorage:
    assert isinstance(cluster.server, KubernetesStorage)
    return cluster.server


async def fails_over(cluster: Cluster, within_ms: float = 15_000) -> None:
    epoch = cluster.register.epoch
    old = leader_of(cluster).name
    await cluster.kill_node(old)
    await led_anew(cluster, epoch, within_ms)
    cluster.start(old)
    await cluster.until("whole", cluster.whole)


@pytest.mark.parametrize("act", [KubernetesStorage.kill, KubernetesStorage.freeze_api, KubernetesStorage.freeze_etcd])
def test_a_failover_with_one_of_three_machines(tmp_path: Path, act: Act) -> None:
    async def story(cluster: Cluster) -> None:
        act(storage(cluster), cluster.seed % 3)
        await fails_over(cluster)

    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        play(tmp_path / str(seed), story, seed, PLAN)


def test_a_failover_while_others_write_notes_beside_the_register(tmp_path: Path) -> None:
    """Each moves its revision; the value that was read is still what stands."""

    async def story(cluster: Cluster) -> None:
        async def notes() -> None:
            while True:
                storage(cluster).note(REGISTER)
                await cluster.clock.sleep_ms(20)

        cluster.aside(notes())
        await fails_over(cluster)
        assert cluster.witness.sometimes["a note beside the register"] > 10

    play(tmp_path, story, 0, PLAN)


def test_an_upgrade_of_the_api_servers_concerns_nobody(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, epoch = leader_of(cluster), cluster.register.epoch
        for number in range(3):
            storage(cluster).restart_api(number)
            await cluster.clock.sleep_ms(3_000)
        cluster.compact_store()
        await cluster.clock.sleep_ms(15_000)
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
        await fails_over(cluster)

    play(tmp_path, story, 0, PLAN)


def test_without_etcds_majority_the_leader_goes_on_and_nobody_takes_over(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        client = cluster.client()
        leader, epoch = leader_of(cluster), cluster.register.epoch
        for number in range(2):
            storage(cluster).kill_etcd(number)
        await cluster.clock.sleep_ms(10_000)
        known = len(client.acknowledged)
        await cluster.clock.sleep_ms(2_000)
        assert len(client.acknowledged) > known + 50
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
        await cluster.kill_node(leader.name)
        await cluster.clock.sleep_ms(10_000)
        assert cluster.register.epoch == epoch
        cluster.heal()
        await led_anew(cluster, epoch, 20_000)

    play(tmp_path, story, 0, PLAN)
