"""How a cluster begins, is broken off while it begins, and is refused where it must not begin."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Make
from tests.cluster.real import AGENT, PATIENCE_S, RealCluster, member
from twinstar.cli.leftovers import marked_processes
from twinstar.cli.make_cluster import Wishes
from twinstar.ports import procfs

pytestmark = [pytest.mark.slow]

ALONE = Wishes(nodes=1, durability="async")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a cluster that is no more."""
    source = RealCluster(tmp_path_factory.mktemp("strange"), ALONE)
    try:
        source.up()
        source.down()
        yield source.data["n1"]
    finally:
        source.remove()


@contextlib.contextmanager
def when_said(cluster: RealCluster, program: str, words: str, then: str) -> Iterator[list[str]]:
    """Kills the parts in `then` (``n1 agent``, ``n1``) as soon as the program has said it; yields what was killed."""
    done, ended = [], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if cluster.said(program, words):
                cluster.kill(*then.split())
                done.append(then)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def test_crashes_before_the_first_entry_is_complete_are_resumed(make: Make) -> None:
    """One after another, each a little later than the one before; where the crash before came late enough for the
    database to be complete, the last one does not come.
    """
    cluster = make(ALONE)
    cluster.launch()
    moments = (
        ("making a new database", "n1 agent"),
        ("making a new database", "n1"),
        ("starting it for the first time", "n1 agent"),
        ("ms: Bootstrap", "n1 agent"),
        ("begins: Adopt", "n1"),
    )
    for words, then in moments:
        with when_said(cluster, "n1 agent", words, then) as killed:
            cluster.start("n1")
            deadline = time.monotonic() + PATIENCE_S
            while not killed and not cluster.said("n1 agent", "is open"):
                assert time.monotonic() < deadline, f"n1 has not said {words!r}"
                time.sleep(0.01)
        cluster.kill("n1", AGENT)
        cluster.log("n1 agent").unlink()
    cluster.start("n1")
    assert cluster.whole().leader == "n1"
    with cluster.writing():
        pass


def test_a_copy_that_is_broken_off_is_made_anew(cluster: RealCluster) -> None:
    before = cluster.whole()
    standby = before.standbys[0].name
    with cluster.writing():
        for then in (f"{standby} agent", standby):
            cluster.log(f"{standby} agent").write_bytes(b"")
            with when_said(cluster, f"{standby} agent", f"copying from {before.leader}", then) as killed:
                cluster.told("reinit", standby, "--yes")
                cluster.until(lambda _: bool(killed), "the copy is broken off")
            cluster.start(standby)
            cluster.whole()
    assert cluster.whole().epoch == before.epoch


def popen(cluster: RealCluster) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "twinstar.cli.main", "up"],
        cwd=cluster.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def left(cluster: RealCluster, mark: str) -> set[int]:
    standing = {each.pid for data in cluster.data.values() for each in procfs.of_directory(data)}
    return standing | marked_processes(mark)


def test_ctrl_c_while_it_begins_leaves_nothing_and_the_next_up_goes_on_from_there(make: Make) -> None:
    cluster = make()
    moments = [
        ("n1 agent", "making a new database"),
        ("n1 agent", "begins: Adopt"),
        ("n2 agent", "copying from n1"),
    ]
    for program, words in moments:
        if cluster.files.logs.exists():
            shutil.rmtree(cluster.files.logs)
        process = popen(cluster)
        mark = ""
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not cluster.said(program, words):
                assert process.poll() is None
                assert time.monotonic() < deadline, f"{program} has not said {words!r}"
                if state := cluster.files.read_state():
                    mark = state.mark
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert left(cluster, mark) == set(), f"after {words!r}"
    cluster.up()
    with cluster.writing():
        pass


def test_of_two_ups_at_once_one_is_refused(make: Make) -> None:
    cluster = make(ALONE)
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "twinstar.cli.main", "up", "--detach"],
            cwd=cluster.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        said = [start.communicate(timeout=PATIENCE_S)[1] for start in starts]
        statuses = [start.returncode for start in starts]
        assert sorted(statuses) == [0, 2], said
        assert "is up already" in said[statuses.index(2)]
        cluster.whole()
    finally:
        assert cluster.cli("down").returncode == 0


def test_a_port_that_is_taken_is_a_sentence_before_anything_is_started(make: Make) -> None:
    cluster = make()
    own = cluster.config.nodes[1]
    router = cluster.config.router
    assert router is not None
    for port, kind in (
        (own.port, socket.SOCK_STREAM),
        (own.guard_port, socket.SOCK_DGRAM),
        (router.write_port, socket.SOCK_STREAM),
    ):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind((own.host, port))
            if kind is socket.SOCK_STREAM:
                taken.listen()
            done = cluster.cli("up", "--detach")
        assert done.returncode == 1
        assert str(port) in done.stderr
        assert "taken" in done.stderr
        assert "Traceback" not in done.stderr
        assert not any(data.exists() for data in cluster.data.values())


def test_a_port_that_is_taken_while_a_database_is_down_is_said_and_waited_for(cluster: RealCluster) -> None:
    before = cluster.whole()
    standby = before.standbys[0].name
    own = next(each for each in cluster.config.nodes if each.name == standby)
    cluster.kill(standby)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((own.host, own.port))
        taken.listen()
        cluster.start(standby)
        cluster.until(lambda s: "taken" in member(s, standby)["note"], "the status says that the port is taken")
    assert cluster.whole().epoch == before.epoch


def test_a_data_directory_that_twinstar_did_not_make_is_left_alone(make: Make, strange: Path) -> None:
    cluster = make()
    data = cluster.data["n1"]
    data.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", strange, data], check=True)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in data.rglob("*"))
    done = cluster.cli("up", "--detach")
    assert done.returncode == 1
    assert "n1 refuses" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted((path.name, path.stat().st_mtime_ns) for path in data.rglob("*")) == before
    assert not any(cluster.data[name].exists() for name in ("n2", "n3")), "nobody else begins without it either"


def test_another_clusters_data_is_refused_and_the_others_are_unharmed(cluster: RealCluster, strange: Path) -> None:
    before = cluster.whole()
    standby = before.standbys[0].name
    data = cluster.data[standby]
    kept = data.with_name("kept")
    with cluster.writing() as writers:
        cluster.kill(standby)
        data.rename(kept)
        subprocess.run(["cp", "-a", strange, data], check=True)
        cluster.start(standby)
        status = cluster.until(lambda s: member(s, standby)["state"] == "refused", "the wrong data are refused")
        assert "another cluster" in member(status, standby)["note"]
        writers.progress("all the time")
        cluster.kill(standby, AGENT)
        shutil.rmtree(data)
        kept.rename(data)
        cluster.start(standby)
    assert cluster.whole().epoch == before.epoch


def test_a_lost_disk_is_copied_anew(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing() as writers:
        cluster.kill(before.leader)
        shutil.rmtree(cluster.data[before.leader].parent)
        cluster.led_by(*(each.name for each in before.standbys))
        writers.progress("under the next leader")
        _make_folder(cluster.data[before.leader].parent)
        cluster.start(before.leader)


def _make_folder(folder: Path) -> None:
    (folder / "state").mkdir(parents=True, mode=0o700)
