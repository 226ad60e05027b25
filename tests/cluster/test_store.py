"""The store hangs, is missing, is empty, or says what nobody understands: writes go on, and nothing is invented."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.cluster.real import AGENT, RealCluster, engine_pids, member
from twinstar.config.secrets import Secrets
from twinstar.model.register import SCHEMA
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import Applied, Versioned
from twinstar.store.factory import open_store

pytestmark = [pytest.mark.slow]


def test_a_store_that_hangs_for_long_costs_no_write(cluster: RealCluster) -> None:
    before = cluster.whole()
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        with cluster.frozen(*cluster.runs("store")):
            cluster.until(lambda s: not s["store"]["reachable"], "the status says that the store is not reached")
            time.sleep(20)
        cluster.until(lambda s: s["store"]["reachable"], "the store is reached again")
    assert writers.longest_gap_ms() < 1_000
    assert cluster.whole().epoch == before.epoch
    assert engine_pids(cluster.status()) == pids


def test_agents_that_find_no_store_wait_and_say_so_and_go_on_when_it_comes(cluster: RealCluster) -> None:
    before = cluster.whole()
    cluster.power_loss()
    cluster.start(*cluster.names, "router")
    for name in cluster.names:
        status = cluster.until(lambda s: not s["store"]["reachable"], f"{name} says so", at=name)
        assert "store" in member(status, name)["note"].lower()
        assert not cluster.runs(name, "database"), "nobody starts a database because its directory says so"
    shown = cluster.cli("status")
    assert shown.returncode == 0
    assert "store" in shown.stdout.lower()
    cluster.start("store")
    assert cluster.whole().epoch > before.epoch
    with cluster.writing():
        pass


@pytest.fixture
def emptied(cluster: RealCluster) -> Iterator[RealCluster]:
    """A cluster whose store has lost its file; it is given back afterwards."""
    store = cluster.config.store.embedded
    assert store is not None
    cluster.kill("store")
    files = list(store.file.parent.glob(f"{store.file.name}*"))
    kept = {file: file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    cluster.start("store")
    try:
        yield cluster
    finally:
        cluster.kill("store")
        for file in store.file.parent.glob(f"{store.file.name}*"):
            file.unlink()
        for file, content in kept.items():
            file.write_bytes(content)


def test_an_empty_store_beside_data_is_refused_and_writes_go_on(emptied: RealCluster) -> None:
    before = emptied.until(lambda s: s["open"] and s["store"]["reachable"], "the store is there again, empty")
    pids = engine_pids(before)
    with psycopg.connect(before["endpoints"]["write"], autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS beside_an_empty_store (i int)")
        emptied.until(
            lambda s: "no entry" in member(s, s["leader"])["note"], "the leader says what is wrong with the store"
        )
        emptied.kill(before["leader"], AGENT)
        standby = next(name for name in emptied.names if name != before["leader"])
        emptied.kill(standby, AGENT)
        emptied.start(before["leader"], standby)
        for name in (before["leader"], standby):
            refused(emptied, name)
        time.sleep(3)
        session.execute("INSERT INTO beside_an_empty_store VALUES (1)")
    assert engine_pids(emptied.status()) == pids
    assert asyncio.run(read_register(emptied)) is None, "nobody has made a new register"


def refused(cluster: RealCluster, name: str) -> None:
    status = cluster.until(lambda s: member(s, name)["state"] == "refused", f"{name} refuses", at=name)
    assert "no entry" in member(status, name)["note"]


def test_a_register_of_another_version_is_refused(cluster: RealCluster) -> None:
    """What runs goes on with what it knows; an agent that starts anew does nothing, and says why."""
    before = cluster.whole()
    standby = before.standbys[0].name
    ours = asyncio.run(read_register(cluster))
    assert ours is not None
    newer = {**json.loads(ours.value), "schema": SCHEMA + 1, "leader": standby, "epoch": before.epoch + 1}
    with cluster.writing() as writers:
        written = asyncio.run(write_register(cluster, json.dumps(newer).encode(), ours.revision))
        writers.progress("under a register that nobody understands")
        cluster.until(lambda s: "version" in member(s, s["leader"])["note"], "the leader says what it found")
        cluster.kill(standby, AGENT)
        cluster.start(standby)
        status = cluster.until(lambda s: "version" in member(s, standby)["note"], "who starts says so too", at=standby)
        assert member(status, standby)["state"] in ("waiting", "refused")
        assert cluster.status()["epoch"] == before.epoch
        asyncio.run(write_register(cluster, ours.value, written))
        cluster.whole()
    assert cluster.whole().leader == before.leader


async def read_register(cluster: RealCluster) -> Versioned | None:
    config = cluster.config
    clock = SystemClock()
    store = open_store(config.store, config.cluster, clock, SystemNetwork(), Secrets(config.secrets), "n1")
    try:
        return await store.read("register")
    finally:
        await store.close()


async def write_register(cluster: RealCluster, value: bytes, revision: int) -> int:
    config = cluster.config
    clock = SystemClock()
    store = open_store(config.store, config.cluster, clock, SystemNetwork(), Secrets(config.secrets), "n1")
    try:
        outcome = await store.compare_and_set("register", value, revision)
        assert isinstance(outcome, Applied)
        return outcome.revision
    finally:
        await store.close()
