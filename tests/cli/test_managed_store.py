"""Two data nodes and a witness, with the store that Twinstar runs: a whole cluster on this machine."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.local import Folder, until
from twinstar.cli.local_cluster import LocalCluster
from twinstar.config.managed import places
from twinstar.ports.procfs import kill_pids, kill_run, of_directory

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """Each test leaves it whole."""
    folder = Folder(tmp_path_factory.mktemp("managed"))
    try:
        done = folder.run(
            *("up", "--detach", "--json", "--store", "managed", "--nodes", "2", "--witnesses", "1"),
            *("--policy", "degrade"),
        )
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        folder.remove()
    assert folder.processes() == []


def status(folder: Folder) -> dict[str, Any]:
    done = folder.run("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(folder: Folder) -> dict[str, str]:
    return {member["name"]: member["state"] for member in status(folder)["store"]["members"]}


def store_that(folder: Folder, is_so: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """What the status says of the store once it is so. On a busy machine a member may be silent for one look."""
    store: dict[str, Any] = {}

    def look() -> bool:
        store.update(status(folder)["store"])
        return is_so(store)

    until(look, what)
    return store


def is_whole(folder: Folder) -> bool:
    """Every member votes and answers."""
    return sorted(states(folder).values()) == ["leader", "voter", "voter"]


def run_of(cluster: LocalCluster, program: str) -> str:
    state = cluster.state()
    found = state.program(program) if state else None
    assert found is not None
    return found.run


def test_the_status_shows_the_store_and_what_one_more_loss_does(running: Folder) -> None:
    store = store_that(running, lambda s: s["serves"] and s["spare"] == 1, "one member may be lost")
    assert (store["kind"], store["reachable"]) == ("managed", True)
    assert sorted(member["state"] for member in store["members"]) == ["leader", "voter", "voter"]
    words = "goes on when any one of its members is lost"
    until(lambda: words in running.run("status").stdout, "that is said")


def test_the_store_does_not_notice_the_end_of_an_agent(running: Folder) -> None:
    cluster = LocalCluster(running.path / "twinstar.yaml")
    before = cluster.store_runs()
    assert len(before) == 6, "three keepers, three etcd"
    kill_run(run_of(cluster, "n1 agent"), signal.SIGKILL)
    until(lambda: status(running)["store"]["serves"], "the store serves")
    assert cluster.store_runs() == before
    running.run("start", "n1")
    until(lambda: cluster.view().serving, "the cluster serves")


def test_a_witness_that_is_gone_is_said_and_comes_back(running: Folder) -> None:
    cluster = LocalCluster(running.path / "twinstar.yaml")
    until(lambda: cluster.view().serving, "the cluster serves")
    kill_run(run_of(cluster, "w1 store"), signal.SIGTERM)
    store = store_that(running, lambda s: s["serves"] and s["spare"] == 0, "no other member may be lost")
    assert [member["name"] for member in store["members"] if member["state"] == "silent"] == ["w1"]
    assert "With the loss of one more member the store stops" in store["one_more_loss"]
    with psycopg.connect(status(running)["endpoints"]["write"], autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS t (i int)")
    assert "w1 store" in running.run("start", "w1").stdout
    until(lambda: is_whole(running), "it votes again")


def test_who_is_replaced_comes_back_as_a_new_member(running: Folder) -> None:
    whole = store_that(running, lambda s: s["spare"] == 1, "every member votes")
    before = {member["name"]: member["id"] for member in whole["members"]}
    assert running.run("store", "replace", "n9", "--yes").returncode == 2
    done = running.run("store", "replace", "w1", "--yes")
    assert done.returncode == 0, done.stderr

    def replaced() -> bool:
        members = {member["name"]: member for member in status(running)["store"]["members"]}
        return members["w1"]["state"] in ("leader", "voter") and members["w1"]["id"] != before["w1"]

    until(replaced, "it votes again, as another member")


def test_a_store_whose_majority_is_lost_for_good_is_begun_anew_from_a_backup(running: Folder) -> None:
    """What runs goes on meanwhile, and nothing acknowledged is lost."""
    cluster = LocalCluster(running.path / "twinstar.yaml")
    until(lambda: cluster.view().serving and is_whole(running), "whole")
    saved = running.path / "saved.json"
    assert running.run("store", "backup", str(saved)).returncode == 0
    refused = running.run("store", "restore", str(saved), "--yes")
    assert (refused.returncode, "nothing is restored over it" in refused.stderr) == (2, True)
    refused = running.run("store", "adopt", "--yes")
    assert "nothing to adopt" in refused.stderr
    before = cluster.view()
    with psycopg.connect(before.write, autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept (i int)")
        for place in places(cluster.config)[1:]:
            kill_run(run_of(cluster, f"{place.name} store"), signal.SIGKILL)
            until(lambda p=place: not kill_etcd(p.directory), "its etcd is gone")  # type: ignore[misc]
            shutil.rmtree(place.directory)
            place.directory.mkdir()
        session.execute("INSERT INTO kept VALUES (1)")
    done = running.run("store", "restore", str(saved), "--begin", "n1", "--yes")
    assert done.returncode == 0, done.stderr + done.stdout
    for place in places(cluster.config)[1:]:
        running.run("start", place.name)
    until(lambda: cluster.view().serving and cluster.view().epoch > before.epoch, "it serves under a later epoch")
    until(lambda: is_whole(running), "the store is whole")
    with psycopg.connect(cluster.view().write) as session:
        assert session.execute("SELECT i FROM kept").fetchall() == [(1,)]


@pytest.mark.parametrize("fault", ["fill-store", "kill-witness"])
def test_what_happens_to_the_store_alone_moves_no_leader(running: Folder, fault: str) -> None:
    cluster = LocalCluster(running.path / "twinstar.yaml")
    until(lambda: cluster.view().serving and is_whole(running), "whole")
    file = running.path / f"{fault}.json"
    done = running.run("drill", fault, "--length-ms", "3000", "--pause-ms", "20", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())["summary"]
    assert (figures["survived"], figures["lost"], figures["changes_of_leader"]) == (True, 0, 0)
    until(lambda: is_whole(running), "the store is whole again")
    until(lambda: not any(member["full"] for member in status(running)["store"]["members"]), "and takes writes")


def kill_etcd(folder: Path) -> bool:
    """Whether there was one."""
    pids = [process.pid for process in of_directory(folder)]
    kill_pids(pids)
    return bool(pids)
