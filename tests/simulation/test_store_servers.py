"""Whole clusters on a store of three servers, asked by the real client: what becomes of the store costs no leader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.plan import Plan, StoreKind

seeds = pytest.mark.parametrize("seed", range(2))
kinds = pytest.mark.parametrize("kind", [StoreKind.ETCD, StoreKind.ZOOKEEPER])


async def fails_over(cluster: Cluster, within_ms: float = 15_000) -> None:
    epoch = cluster.register.epoch
    old = leader_of(cluster).name
    await cluster.kill_node(old)
    await led_anew(cluster, epoch, within_ms)
    cluster.start(old)
    await cluster.until("whole", cluster.whole)


@kinds
@seeds
@pytest.mark.parametrize("server", range(3))
def test_a_failover_with_one_server_dead_and_one_frozen_and_back(
    tmp_path: Path, kind: StoreKind, seed: int, server: int
) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.kill_store_server(server)
        await fails_over(cluster)
        cluster.server.start()
        await cluster.clock.sleep_ms(3_000)
        cluster.freeze_store_server((server + 1) % 3)
        await fails_over(cluster)

    play(tmp_path, story, seed, Plan(store=kind))


@kinds
@seeds
def test_an_election_of_the_stores_own_delays_a_failover_and_no_more(
    tmp_path: Path, kind: StoreKind, seed: int
) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.elect_store_leader()
        cluster.compact_store()
        await fails_over(cluster)

    play(tmp_path, story, seed, Plan(store=kind))


@kinds
@seeds
def test_a_member_that_reaches_only_a_server_cut_off_from_the_others_changes_nothing(
    tmp_path: Path, kind: StoreKind, seed: int
) -> None:
    async def story(cluster: Cluster) -> None:
        leader, epoch = leader_of(cluster), cluster.register.epoch
        cluster.cut_store_server(0)
        cluster.cut_store(leader.name)
        await cluster.clock.sleep_ms(10_000)
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
        cluster.heal()
        await cluster.until("store", lambda: leader.agent is not None and leader.agent.ledger.ok)
        await fails_over(cluster)

    play(tmp_path, story, seed, Plan(store=kind))


@kinds
@seeds
def test_without_the_store_the_leader_goes_on(tmp_path: Path, kind: StoreKind, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = cluster.client()
        leader, epoch = leader_of(cluster), cluster.register.epoch
        for server in range(2):
            cluster.kill_store_server(server)
        await cluster.clock.sleep_ms(10_000)
        known = len(client.acknowledged)
        await cluster.clock.sleep_ms(2_000)
        assert len(client.acknowledged) > known + 50
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)

    play(tmp_path, story, seed, Plan(store=kind))
