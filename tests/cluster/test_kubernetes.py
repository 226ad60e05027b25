"""A cluster whose register is in Kubernetes: what happens to the API server costs no write and moves no leader."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.between import interposed, slow_for_all_and_gone_for_one
from tests.cluster.real import AGENT, DATABASE, RealCluster, Writers, engine_pids
from tests.store import kube_server
from twinstar.cli.make_cluster import Wishes
from twinstar.cli.own_kubernetes import ACCOUNT, KUBERNETES, NAMESPACE, OwnKubernetes
from twinstar.config.secrets import write_private

pytestmark = pytest.mark.slow
ETCD, SERVER = KUBERNETES


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    kube_server.needed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{kube_server.program().parent}:{os.environ['PATH']}")
        made = RealCluster(tmp_path_factory.mktemp("kubernetes"), Wishes(store="kubernetes"))
        try:
            made.up()
            yield made
        finally:
            made.remove()


def own(cluster: RealCluster) -> OwnKubernetes:
    return OwnKubernetes(cluster.files.kubernetes)


def reached(cluster: RealCluster, what: str) -> None:
    cluster.until(lambda s: s["store"]["reachable"], f"the store is reached again after {what}")


def lost(cluster: RealCluster, what: str) -> None:
    cluster.until(lambda s: not s["store"]["reachable"], f"the status says that the store is not reached: {what}")


def test_nothing_that_happens_to_the_api_server_costs_a_write(cluster: RealCluster) -> None:
    before = cluster.whole()
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        for program in (SERVER, ETCD):
            is_killed(cluster, writers, program)
            hangs(cluster, writers, program)
        is_full(cluster, writers)
        the_rights_are_withdrawn(cluster, writers)
    assert writers.longest_gap_ms() < 1_000
    assert cluster.whole().epoch == before.epoch
    assert engine_pids(cluster.status()) == pids


def is_killed(cluster: RealCluster, writers: Writers, program: str) -> None:
    cluster.kill(program)
    lost(cluster, f"{program} is killed")
    writers.progress(f"without {program}")
    cluster.start("store")
    reached(cluster, f"the death of {program}")


def hangs(cluster: RealCluster, writers: Writers, program: str) -> None:
    """Longer than an answer is waited for; what was asked meanwhile may be done afterwards."""
    with cluster.frozen(*cluster.runs(program)):
        lost(cluster, f"{program} hangs")
        writers.progress(f"while {program} hangs")
        time.sleep(3)
    reached(cluster, f"{program} has hung")


def is_full(cluster: RealCluster, writers: Writers) -> None:
    """The register can be read and not changed, and nothing needs to change."""
    with kube_server.full(own(cluster).etcd_url):
        writers.progress("while etcd is full")
        assert cluster.status()["open"]


def the_rights_are_withdrawn(cluster: RealCluster, writers: Writers) -> None:
    with without_rights(own(cluster)):
        status = cluster.until(lambda s: not s["store"]["reachable"], "rights were withdrawn")
        assert status["open"]
        writers.progress("without rights in the store")
    reached(cluster, "the rights came back")


@contextmanager
def without_rights(server: OwnKubernetes) -> Iterator[None]:
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings/{ACCOUNT}"
    assert server.ask("DELETE", binding)[0] == 200
    try:
        yield
    finally:
        server.apply(NAMESPACE, ACCOUNT)


def test_a_slow_api_server_or_one_that_only_the_leader_lacks_moves_nothing(cluster: RealCluster) -> None:
    server = own(cluster)
    file = server.kubeconfig
    good = file.read_text()

    def redirect(url: str) -> None:
        other = file.with_name(f"kubeconfig.{url.rpartition(':')[2]}")
        write_private(other, good.replace(server.url, url))
        cluster.edit(lambda raw: raw["store"]["kubernetes"].update(kubeconfig=str(other)))

    with interposed(cluster, server.url, redirect) as between, cluster.writing() as writers:
        slow_for_all_and_gone_for_one(cluster, between, writers)
    assert writers.longest_gap_ms() < 1_000


def test_a_database_that_dies_while_the_api_server_is_away_waits_for_it_and_says_so(cluster: RealCluster) -> None:
    before = cluster.whole()
    leader, standby = before.leader, before.standbys[0].name
    with cluster.writing():
        with cluster.frozen(*cluster.runs(SERVER)):
            lost(cluster, "the API server hangs")
            cluster.kill(leader, AGENT, DATABASE)
            cluster.until(lambda s: "The store is not reached" in s["waiting_for"], "it is said", at=standby)
            time.sleep(2)
            assert cluster.status(standby)["epoch"] == before.epoch
        cluster.led_by(*(each.name for each in before.standbys))
        cluster.start(leader)
