"""Faults that meet: two at once, one during the answer to another, everything at once."""

from __future__ import annotations

import threading
import time

import pytest

from tests.cluster.real import AGENT, DATABASE, GUARD, RealCluster, member

pytestmark = [pytest.mark.slow]


def test_the_new_leaders_database_dies_within_a_second_of_the_old_ones(cluster: RealCluster) -> None:
    first = cluster.whole().leader
    with cluster.writing() as writers:
        cluster.kill(first, DATABASE)
        second = cluster.led_by(*(name for name in cluster.names if name != first))
        cluster.kill(second["leader"], DATABASE)
        cluster.until(lambda s: s["open"] and s["epoch"] > second["epoch"], "a third epoch leads")
        writers.progress("after both")
    history = cluster.told("history")
    assert [each["reason"] for each in history][-1] == "database-dead"


def test_a_new_leader_that_dies_while_it_is_promoted_is_replaced(cluster: RealCluster) -> None:
    """With its node gone the first leader's copy is needed: it is back by then, as after a short loss of power."""
    first = cluster.whole().leader
    others = [name for name in cluster.names if name != first]
    ended = threading.Event()
    struck: list[str] = []

    def strike(name: str, mark: int) -> None:
        while not ended.is_set() and not struck:
            if cluster.said(f"{name} agent", "begins: PromoteFor", after=mark):
                struck.append(name)
                cluster.kill(name)
            time.sleep(0.001)

    threads = [threading.Thread(target=strike, args=(n, cluster.mark(f"{n} agent"))) for n in others]
    with cluster.writing() as writers:
        for thread in threads:
            thread.start()
        try:
            cluster.kill(first, DATABASE)
            status = cluster.until(
                lambda s: bool(struck) and s["open"] and s["leader"] not in (None, *struck), "somebody else leads"
            )
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        writers.progress("under the next leader")
        assert status["epoch"] >= 3
        cluster.start(*struck)


@pytest.mark.parametrize("missing", ["standby", "leader"])
def test_after_a_loss_of_power_nobody_waits_for_ever_for_who_does_not_return(
    cluster: RealCluster, missing: str
) -> None:
    before = cluster.whole()
    lost = before.leader if missing == "leader" else before.standbys[0].name
    back = [name for name in cluster.names if name != lost]
    with cluster.writing(deadline_ms=2_000) as writers:
        cluster.power_loss()
        cluster.start("store", *back, "router")
        status = cluster.led_by(*back)
        assert status["epoch"] > before.epoch
        assert member(status, lost)["state"] == "unreachable"
        writers.progress("without the third")
        cluster.start(lost)


def test_a_leaders_agent_and_then_its_database_die_and_the_guards_word_suffices(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing() as writers:
        cluster.kill(before.leader, AGENT)
        time.sleep(0.3)
        cluster.kill(before.leader, DATABASE)
        status = cluster.led_by(*(each.name for each in before.standbys))
        assert cluster.runs(before.leader, GUARD)
        writers.progress("under the next leader")
        cluster.start(before.leader)
    evidence = next(each for each in cluster.told("history") if each["epoch"] == status["epoch"])
    assert evidence["reason"] == "database-dead"
