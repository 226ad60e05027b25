"""The register moves to another store while clients write: no leader changes, nothing is lost, and from then on the new
store is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.cluster.conftest import Make
from tests.cluster.real import AGENT, DATABASE, RealCluster, engine_pids
from tests.store.servers import EtcdCluster

pytestmark = [pytest.mark.slow]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    if which("etcd") is None:
        pytest.skip("no etcd: install Debian's etcd-server")
    servers = EtcdCluster(tmp_path)
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


def restart_agents(cluster: RealCluster) -> None:
    for name in cluster.names:
        cluster.kill(name, AGENT)
        cluster.start(name)


def test_a_register_moves_from_the_embedded_store_to_etcd_under_load(make: Make, etcd: EtcdCluster) -> None:
    cluster = make()
    before = cluster.up()
    there = {"etcd": {"endpoints": etcd.urls}}
    with cluster.writing() as writers:
        refused = cluster.cli("store", "migrate")
        assert refused.returncode == 2
        assert "next_store" in refused.stderr
        cluster.edit(lambda raw: raw.update(next_store=there))
        early = cluster.cli("store", "migrate", "--dry-run")
        assert early.returncode == 1
        assert "restart its agent" in early.stderr
        restart_agents(cluster)
        cluster.whole()
        pids = engine_pids(cluster.status())
        assert cluster.told("store", "migrate", "--dry-run")["details"]["plan"]
        assert cluster.cli("store", "migrate", "--to", "zookeeper").returncode == 2
        writers.progress("before the move")
        moved = cluster.told("store", "migrate", "--to", "etcd")
        assert "etcd" in moved["message"]
        after = cluster.whole()
        assert (after.epoch, after.leader) == (before.epoch, before.leader)
        assert engine_pids(cluster.status()) == pids
        again = cluster.cli("store", "migrate")
        assert again.returncode == 0, again.stderr

        cluster.kill("store")
        serves_without_the_old_store(cluster)

        def done(raw: dict[str, Any]) -> None:
            raw.pop("next_store")
            raw["store"] = there

        cluster.edit(done)
        restart_agents(cluster)
        cluster.kill("router")
        cluster.start("router")
        cluster.whole()
        writers.progress("with the new store alone in the file")
    assert cluster.whole().epoch == before.epoch + 1


def serves_without_the_old_store(cluster: RealCluster) -> None:
    """A leader is replaced through the new store, also by an agent that has just been started."""
    leader = cluster.status()["leader"]
    standby = next(name for name in cluster.names if name != leader)
    cluster.kill(standby, AGENT)
    cluster.start(standby)
    cluster.whole()
    cluster.kill(leader, DATABASE)
    cluster.until(lambda s: s["open"] and s["leader"] != leader, "another one leads")
    cluster.start(leader)
    cluster.whole()
