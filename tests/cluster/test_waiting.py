"""Too few are left to confirm: what writes do, what the status says of it, and that nothing is lost either way."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.cluster.conftest import Make
from tests.cluster.real import RealCluster, member
from twinstar.cli.make_cluster import Wishes

pytestmark = [pytest.mark.slow]


def test_with_policy_block_writes_wait_for_the_last_standby(cluster: RealCluster) -> None:
    before = cluster.whole()
    first, last = (each.name for each in before.standbys)
    with cluster.writing(deadline_ms=30_000) as writers:
        cluster.kill(first)
        cluster.until(lambda s: first not in s["copies"], "the first standby is no longer waited for")
        writers.progress("with one standby")
        cluster.kill(last)
        status = cluster.until(lambda s: last in s["waiting_for"], "the status names who is waited for")
        assert (status["leader"], status["required"]) == (before.leader, 1)
        writers.stand_still(for_s=2.5)  # longer than voter_removal_ms
        assert cluster.status()["required"] == 1
        cluster.start(last)
        writers.progress("the last standby is back")
        cluster.until(lambda s: s["waiting_for"] == "", "nobody is waited for any more")
        cluster.start(first)
    assert cluster.whole().epoch == before.epoch


def test_with_policy_degrade_a_leader_goes_on_alone_and_says_so(make: Make) -> None:
    cluster = make(Wishes(nodes=2, policy="degrade"))
    before = cluster.up()
    (standby,) = (each.name for each in before.standbys)
    with cluster.writing(deadline_ms=30_000) as writers:
        cluster.kill(standby)
        status = cluster.until(lambda s: s["required"] == 0, "the leader goes on alone")
        assert status["copies"] == [before.leader]
        assert "Alone" in member(status, before.leader)["note"]
        writers.progress("alone")
        cluster.start(standby)
        status = cluster.until(lambda s: s["required"] == 1, "back from alone")
        assert status["copies"] == sorted(cluster.names)
        cluster.until(lambda s: member(s, before.leader)["note"] == "", "it is not said to be alone any more")
        writers.progress("with both")
        # And now the standby is as good as any: it holds everything.
        cluster.kill(before.leader)
        cluster.led_by(standby)
        cluster.until(lambda s: s["required"] == 0, "the other one leads alone")
        writers.progress("under the other one")
        cluster.start(before.leader)


@pytest.fixture
def small_disk(cluster: RealCluster) -> Iterator[Path]:
    """A new leader with all it has on a small disk. Its copy is made anew afterwards."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    name = cluster.whole().standbys[0].name
    own = cluster.data[name].parent
    kept = own.with_name(f"{name}.kept")
    cluster.kill(name)
    own.rename(kept)
    own.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", own], capture_output=True)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", own], check=True)
        if mounted.returncode:
            pytest.skip("mounting is not allowed here")
        cluster.heal()
        cluster.told("switchover", "--to", name)
        yield own
    finally:
        cluster.kill(name)
        subprocess.run(["umount", own])
        shutil.rmtree(kept)


def test_a_leader_whose_disk_is_full_is_replaced_and_comes_back_when_there_is_room(
    cluster: RealCluster, small_disk: Path
) -> None:
    before = cluster.whole()
    ballast = small_disk / "ballast"
    with cluster.writing() as writers:
        fill(ballast)
        use_up_log(cluster, before.leader)
        cluster.led_by(*(each.name for each in before.standbys))
        writers.progress("under the next leader")
        old = cluster.until(
            lambda s: tells_of_room(member(s, before.leader)["note"]), "the status says what is missing"
        )
        ballast.unlink()
        cluster.whole()
        assert member(old, before.leader)["role"] == "standby"


def tells_of_room(note: str) -> bool:
    """Whichever write failed first: one of the agent's own, or one of the database's."""
    return "No space left" in note or "make room" in note


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def use_up_log(cluster: RealCluster, leader: str) -> None:
    """Lets the leader go on to its next log files until there is none and no room for another."""
    with contextlib.suppress(psycopg.Error):
        for _ in range(50):
            cluster.ask(leader, "SELECT pg_switch_wal(), pg_sleep(0.05)")
