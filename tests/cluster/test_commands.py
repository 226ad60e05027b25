"""What an operator asks for by hand, by the command line, on a cluster at work."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
import yaml

from tests.cluster.real import AGENT, DATABASE, PATIENCE_S, RealCluster, engine_pids, member

pytestmark = [pytest.mark.slow]


def test_a_switchover_by_hand_and_back(cluster: RealCluster) -> None:
    before = cluster.whole()
    to = before.standbys[-1].name
    with cluster.writing():
        answer = cluster.told("switchover", "--to", to)
        assert (answer["details"]["leader"], answer["details"]["epoch"]) == (to, before.epoch + 1)
        cluster.whole()
        cluster.told("switchover", "--to", before.leader)
        assert cluster.whole().leader == before.leader
    assert [each["reason"] for each in cluster.told("history")][-2:] == ["switchover", "switchover"]
    refused = cluster.cli("switchover", "--to", before.leader)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_a_failover_by_hand_without_loss(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing():
        assert cluster.told("failover")["details"]["epoch"] > before.epoch
        cluster.whole()
    assert "failover" in cluster.told("history")[-1]["evidence"] or cluster.told("history")[-1]["reason"] == "operator"


def test_a_failover_that_accepts_loss_serves_again_and_the_others_come_back(cluster: RealCluster) -> None:
    """Two of three are gone. Refused while another copy answers, and only by a member that is named."""
    before = cluster.whole()
    kept, other = (each.name for each in before.standbys)
    refused = cluster.cli("failover", "--to", kept, "--accept-loss", "--yes")
    assert refused.returncode == 1
    assert "still answers" in refused.stderr
    cluster.kill(before.leader)
    cluster.kill(other)
    cluster.until(lambda s: member(s, other)["state"] == "unreachable", "the others are known to be gone")
    cluster.until(lambda s: s["waiting_for"] != "", "the status says what is waited for")
    answer = cluster.told("failover", "--to", kept, "--accept-loss", "--yes")
    assert answer["details"]["leader"] == kept
    alone = cluster.led_by(kept)
    assert (alone["required"], alone["copies"]) == (0, [kept])
    with psycopg.connect(alone["endpoints"]["write"], autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS after_loss (i int)")
    cluster.start(before.leader, other)
    whole = cluster.whole()
    assert whole.leader == kept
    assert cluster.until(lambda s: s["required"] == 1, "commits wait for a second disk again")


def test_pause_keeps_everything_still_and_resume_lets_it_go_on(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing(deadline_ms=20_000) as writers:
        cluster.told("pause")
        assert cluster.status()["paused"]
        cluster.kill(before.leader, DATABASE)
        time.sleep(2)
        status = cluster.status()
        assert (status["epoch"], status["leader"], status["open"]) == (before.epoch, before.leader, False)
        assert "Paused" in member(status, before.leader)["note"]
        cluster.told("resume")
        cluster.until(lambda s: s["open"] and s["epoch"] > before.epoch, "a new epoch is open")
        writers.progress("after the pause")
    assert not cluster.status()["paused"]


def test_a_switchover_works_while_paused(cluster: RealCluster) -> None:
    before = cluster.whole()
    cluster.told("pause")
    try:
        assert cluster.told("switchover")["details"]["leader"] != before.leader
    finally:
        cluster.told("resume")
    cluster.whole()


def test_restart_and_reinit_of_a_standby(cluster: RealCluster) -> None:
    before = cluster.whole()
    standby = before.standbys[0].name
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        refused = cluster.cli("restart", before.leader)
        assert refused.returncode == 1
        assert "switchover" in refused.stderr
        cluster.told("restart", standby)
        assert engine_pids(cluster.status())[standby] != pids[standby]
        marker = cluster.data[standby] / "left-by-a-test"
        marker.touch()
        assert cluster.cli("reinit", before.leader, "--yes").returncode == 1
        cluster.told("reinit", standby, "--yes")
        cluster.until(lambda s: not marker.exists() and member(s, standby)["state"] == "streaming", "made anew")
        writers.progress("all the time")
    assert cluster.whole().epoch == before.epoch


def test_a_member_that_is_gone_for_good_is_removed_and_leaves_the_file(cluster: RealCluster) -> None:
    before = cluster.whole()
    gone, left = (each.name for each in before.standbys)
    nodes = yaml.safe_load(cluster.file.read_text())["nodes"]

    def take_out(raw: dict[str, Any]) -> None:
        raw.update(nodes=[each for each in nodes if each["name"] != gone], policy="block")

    def bring_back(raw: dict[str, Any]) -> None:
        raw.update(nodes=nodes)

    with cluster.writing() as writers:
        refused = cluster.cli("remove", gone, "--yes")
        assert refused.returncode == 1
        assert "still heard" in refused.stderr
        cluster.edit(take_out)
        too_early = cluster.cli("reload")
        assert too_early.returncode == 1
        assert "twinstar remove" in too_early.stdout
        cluster.edit(bring_back)
        cluster.kill(gone)
        cluster.until(lambda s: member(s, gone)["state"] == "unreachable", "it is known to be gone")
        cluster.told("remove", gone, "--yes")
        assert gone not in cluster.status()["copies"]
        cluster.edit(take_out)
        cluster.told("reload")
        for name in (before.leader, left):
            assert [each["name"] for each in cluster.status(name)["members"]] == cluster.names
        writers.progress("without it")
        slots = "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical'"
        cluster.until(
            lambda _: all(gone not in slot for name in cluster.names for (slot,) in cluster.ask(name, slots)),
            "its slots are dropped",
        )
        cluster.edit(bring_back)  # Its machine has been found again.
        cluster.start(gone)
        cluster.until(lambda s: s["store"]["reachable"], "its agent answers", at=gone)
        cluster.told("reload")
        for name in (before.leader, left):  # An agent learns of a new node when it starts.
            cluster.kill(name, AGENT)
            cluster.start(name)
        cluster.until(
            lambda s: not any("nodes[" in each for each in s["restart_pending"]), "no node waits for an agent"
        )
    assert cluster.whole().epoch == before.epoch


def test_a_setting_is_applied_by_reload_and_one_that_needs_a_restart_is_shown(cluster: RealCluster) -> None:
    before = cluster.whole()
    name = before.standbys[0].name

    def set_to(work_mem: str | None, connections: int | None) -> None:
        wanted = {"work_mem": work_mem, "max_connections": connections}
        parameters = {key: value for key, value in wanted.items() if value is not None}
        cluster.edit(lambda raw: raw["postgresql"].update(parameters=parameters))

    set_to("7MB", 120)
    try:
        cluster.told("reload")
        for each in cluster.names:
            assert cluster.ask(each, "SELECT setting || unit FROM pg_settings WHERE name = 'work_mem'") == [("7168kB",)]
        status = cluster.until(lambda s: len(s["restart_pending"]) == 3, "the status says what waits for a restart")
        assert f"{name}: max_connections" in status["restart_pending"]
        assert "max_connections" in cluster.cli("status").stdout
        for each in (*(m.name for m in before.standbys),):
            cluster.told("restart", each)
        cluster.told("switchover")
        cluster.whole()
        cluster.until(lambda s: s["restart_pending"] == [], "nothing waits any more")
        assert cluster.ask(cluster.whole().leader, "SHOW max_connections") == [("120",)]
    finally:
        set_to(None, None)
        cluster.cli("reload")


def test_a_setting_of_twinstars_own_is_refused_and_nothing_changes(cluster: RealCluster) -> None:
    good = cluster.file.read_text()
    cluster.file.write_text(good.replace("postgresql:", "postgresql:\n  parametres: {}"))
    try:
        done = cluster.cli("reload")
        assert done.returncode == 2
        assert "parametres" in done.stderr
    finally:
        cluster.file.write_text(good)
    cluster.whole()


def test_a_query_is_cancelled_through_the_router(cluster: RealCluster) -> None:
    view = cluster.whole()
    with psycopg.connect(view.write, autocommit=True) as session:

        def cancel() -> None:
            sleeps = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%of this test%'"
            deadline = time.monotonic() + PATIENCE_S
            while not cluster.ask(view.leader, sleeps):
                assert time.monotonic() < deadline, "the query has not begun"
                time.sleep(0.02)
            session.cancel_safe()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_sleep(120) -- of this test")
        canceller.join()
        assert session.execute("SELECT 1").fetchall() == [(1,)]
