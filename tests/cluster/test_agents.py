"""Agents and guards that die, hang and come back: the database goes on, and none that was overtaken leads again."""

from __future__ import annotations

import time

import pytest

from tests.cluster.real import AGENT, DATABASE, GUARD, PATIENCE_S, RealCluster, engine_pids, member

pytestmark = [pytest.mark.slow]


@pytest.mark.parametrize("role", ["leader", "standby"])
def test_an_agent_that_is_killed_and_started_again_moves_nothing(cluster: RealCluster, role: str) -> None:
    before = cluster.whole()
    name = before.leader if role == "leader" else before.standbys[0].name
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        cluster.kill(name, AGENT)
        time.sleep(1.5)
        writers.progress("while the agent is gone")
        cluster.start(name)
        after = cluster.whole()
    assert (after.epoch, after.leader) == (before.epoch, before.leader)
    assert engine_pids(cluster.status()) == pids


def test_a_guard_that_is_killed_and_started_again_moves_nothing(cluster: RealCluster) -> None:
    before = cluster.whole()
    pids = engine_pids(cluster.status())
    with cluster.writing():
        cluster.kill(before.leader, GUARD)
        time.sleep(1.5)
        cluster.start(before.leader)
        time.sleep(1.0)
    assert cluster.whole().epoch == before.epoch
    assert engine_pids(cluster.status()) == pids


def test_a_leader_whose_database_answers_is_not_replaced_because_its_agent_and_guard_hang(cluster: RealCluster) -> None:
    before = cluster.whole()
    pids = engine_pids(cluster.status())
    with cluster.writing() as writers:
        with cluster.frozen(*cluster.runs(before.leader, AGENT, GUARD)):
            time.sleep(1.0)
        writers.progress("after the alarm")
    after = cluster.whole()
    assert after.leader == before.leader
    assert engine_pids(cluster.status()) == pids


def test_an_agent_that_slept_through_a_change_of_leader_never_opens_its_database(cluster: RealCluster) -> None:
    """Its guard hangs as well, so that the old leader's database still runs as a primary when the agent is back."""
    before = cluster.whole()
    old = before.leader
    guard = cluster.runs(old, GUARD)
    with cluster.writing() as writers:
        cluster.kill(old, AGENT)
        with cluster.frozen(*guard):
            time.sleep(0.6)
            cluster.told("failover")
            new = cluster.led_by(*(each.name for each in before.standbys))
            writers.progress("under the new leader")
            assert cluster.runs(old, DATABASE), "the old database still runs"
            cluster.start(old)
            status = cluster.until(lambda s: member(s, old)["state"] == "streaming", "the old leader follows")
            assert status["epoch"] >= new["epoch"]
            assert status["leader"] != old
    assert cluster.whole().leader != old


def test_a_guard_ends_an_overtaken_database_whose_agent_is_gone(cluster: RealCluster) -> None:
    before = cluster.whole()
    old = before.leader
    with cluster.writing() as writers:
        cluster.kill(old, AGENT)
        time.sleep(0.3)
        cluster.told("failover")
        cluster.led_by(*(each.name for each in before.standbys))
        writers.progress("under the new leader")
        deadline = time.monotonic() + PATIENCE_S
        while cluster.runs(old, DATABASE):
            assert time.monotonic() < deadline, "the guard has not ended the old leader's database"
            time.sleep(0.05)
        cluster.start(old)


def test_a_database_that_hangs_while_its_agent_is_gone_is_ended_by_the_guard(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing() as writers:
        cluster.kill(before.leader, AGENT)
        cluster.stop(*cluster.runs(before.leader, DATABASE))
        cluster.led_by(*(each.name for each in before.standbys))
        writers.progress("under the next leader")
        cluster.start(before.leader)
