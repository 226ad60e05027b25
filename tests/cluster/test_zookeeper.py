"""A cluster on ZooKeeper: what happens to the ensemble costs no write and moves no leader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.cluster.between import interposed, slow_for_all_and_gone_for_one
from tests.cluster.real import AGENT, DATABASE, PATIENCE_S, RealCluster, Writers, engine_pids
from tests.store.zookeeper import four_letters, server_at, set_acl
from twinstar.cli.make_cluster import Wishes
from twinstar.cli.own_zookeeper import ZOOKEEPER, jars
from twinstar.store.race import Failed
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Login, Server
from twinstar.store.zookeeper.znodes import Znodes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(jars() is None, reason="no ZooKeeper: install Debian's zookeeper")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path_factory.mktemp("zookeeper"), Wishes(store="zookeeper"))
    try:
        made.up()
        yield made
    finally:
        made.remove()


def hosts(cluster: RealCluster) -> tuple[str, ...]:
    assert cluster.config.store.zookeeper is not None
    return cluster.config.store.zookeeper.hosts


def leading(cluster: RealCluster) -> str:
    said = {name: asyncio.run(four_letters(host, "srvr")) for name, host in zip(ZOOKEEPER, hosts(cluster), strict=True)}
    return next(name for name, text in said.items() if "Mode: leader" in text)


def reached(cluster: RealCluster, what: str) -> None:
    cluster.until(lambda s: s["store"]["reachable"], f"the store is reached again after {what}")


def lost(cluster: RealCluster, what: str) -> None:
    cluster.until(lambda s: not s["store"]["reachable"], f"the status says that the store is not reached: {what}")


def test_nothing_that_happens_to_the_ensemble_costs_a_write(cluster: RealCluster) -> None:
    before = cluster.whole()
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        the_leader_is_killed(cluster, writers)
        the_majority_is_killed(cluster, writers)
        all_hang(cluster, writers)
        the_rights_are_withdrawn(cluster, writers)
    assert writers.longest_gap_ms() < 1_000
    assert cluster.whole().epoch == before.epoch
    assert engine_pids(cluster.status()) == pids


def the_leader_is_killed(cluster: RealCluster, writers: Writers) -> None:
    cluster.kill(leading(cluster))
    writers.progress("without the ensemble's leader")
    cluster.start("store")
    reached(cluster, "the leader's death")


def the_majority_is_killed(cluster: RealCluster, writers: Writers) -> None:
    for name in ZOOKEEPER[:2]:
        cluster.kill(name)
    lost(cluster, "one of three is left")
    writers.progress("without a majority")
    cluster.start("store")
    reached(cluster, "the majority's death")


def all_hang(cluster: RealCluster, writers: Writers) -> None:
    """Longer than an answer is waited for, and than a session lives without a word here."""
    with cluster.frozen(*(run for name in ZOOKEEPER for run in cluster.runs(name))):
        lost(cluster, "all hang")
        writers.progress("while all hang")
        time.sleep(3)
    reached(cluster, "all have hung")


def the_rights_are_withdrawn(cluster: RealCluster, writers: Writers) -> None:
    """The operator takes them away and gives them back; nobody is told anything else than no meanwhile."""
    operator = Login("operator", lambda: "swordfish-71")
    znodes, operators = Znodes("", cluster.config.cluster, None), Znodes("", "nobody", operator)._own()
    assert operators is not None

    async def grant(*to: wire.Grant) -> None:
        server = server_at(hosts(cluster)[0], login=operator)
        connection = await connected(server)
        for path in (znodes.path, znodes.path_of("register")):
            for each in to:
                await set_acl(connection, path, each)
        await server.close()

    asyncio.run(grant(operators))
    status = cluster.until(lambda s: not s["store"]["reachable"], "rights were withdrawn")
    assert status["open"]
    writers.progress("without rights in the store")
    asyncio.run(grant(wire.Grant(wire.ALL, "world", "anyone")))
    reached(cluster, "the rights came back")


async def connected(server: Server) -> Connection:
    """The ensemble serves already when two of three do."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await server.connection()
            except Failed:
                await asyncio.sleep(0.05)


def test_a_slow_ensemble_or_one_that_only_the_leader_lacks_moves_nothing(cluster: RealCluster) -> None:
    def redirect(url: str) -> None:
        cluster.edit(lambda raw: raw["store"]["zookeeper"].update(hosts=[url.removeprefix("tcp://")]))

    with interposed(cluster, f"tcp://{hosts(cluster)[0]}", redirect) as between, cluster.writing() as writers:
        slow_for_all_and_gone_for_one(cluster, between, writers)
    assert writers.longest_gap_ms() < 1_000


def test_a_database_that_dies_while_the_ensemble_is_away_waits_for_it_and_says_so(cluster: RealCluster) -> None:
    before = cluster.whole()
    leader = before.leader
    with cluster.writing():
        with cluster.frozen(*(run for name in ZOOKEEPER[:2] for run in cluster.runs(name))):
            lost(cluster, "two of three hang")
            cluster.kill(leader, AGENT, DATABASE)
            standby = before.standbys[0].name
            cluster.until(lambda s: "The store is not reached" in s["waiting_for"], "it is said", at=standby)
            time.sleep(2)
            assert cluster.status(standby)["epoch"] == before.epoch
        cluster.led_by(*(each.name for each in before.standbys))
        cluster.start(leader)
