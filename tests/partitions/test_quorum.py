"""Cuts around the leader of a cluster with `quorum`: who wins, and what clients are told."""

from __future__ import annotations

import time

import pytest

from tests.partitions.lab import CLIENTS, ROUTER, STORE, Lab

pytestmark = [pytest.mark.slow]


def test_a_leader_cut_off_from_everyone_is_replaced(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.net.cut(quorum.net.apart(before.leader))
        clients.served("another one leads")
        quorum.pause(1)
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]


def test_a_leader_cut_off_from_the_standbys_is_replaced(quorum: Lab) -> None:
    """The store and the clients still hear it, which is not enough."""
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut(([before.leader], quorum.others(before.leader)))
        clients.served("another one leads")
        quorum.pause(1)
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]


def test_a_leader_cut_off_from_one_standby_stays(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut(([before.leader], quorum.others(before.leader)[:1]))
        quorum.pause(3)
        clients.served("the leader goes on")
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == []


def test_a_leader_cut_off_from_the_store_stays(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut(([before.leader], STORE))
        quorum.pause(3)
        clients.served("the leader goes on")
        assert quorum.cluster.status(before.leader)["epoch"] == before.epoch
    assert quorum.cluster.whole().epoch == before.epoch


def test_a_leader_cut_off_from_the_clients_stays(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut(([before.leader], [CLIENTS, ROUTER]))
        quorum.pause(3)
        clients.served("a client beside the leader is served", before.leader)
    assert quorum.cluster.whole().epoch == before.epoch


def test_a_leader_that_nobody_hears_is_replaced(quorum: Lab) -> None:
    """It hears the others all the time, their suspicion too."""
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.mute(before.leader)
        clients.served("another one leads")
        quorum.pause(1)
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]


def test_a_leader_that_hears_nobody_is_replaced(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.deafen(before.leader)
        clients.served("another one leads")
        quorum.pause(1)
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]


def test_a_standby_cut_off_from_everyone_changes_nothing(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.net.cut(quorum.net.apart(quorum.others(before.leader)[0]))
        quorum.pause(2)
        clients.served("the leader goes on")
    assert quorum.leaders_since(before) == []


@pytest.mark.parametrize("suspicions", [0.4, 1.5])
def test_a_flapping_link_of_the_leader_brings_one_change_at_most(quorum: Lab, suspicions: float) -> None:
    before = quorum.cluster.whole()
    with quorum.clients():
        for _ in range(2):
            quorum.net.cut(quorum.net.apart(before.leader))
            quorum.pause(suspicions)
            quorum.net.join()
            quorum.pause(suspicions)
    assert len(quorum.leaders_since(before)) <= 1
    settled = quorum.cluster.whole()
    quorum.pause(2)
    assert quorum.cluster.whole().epoch == settled.epoch


def test_a_store_without_its_majority_costs_nothing(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut((STORE[:2], list(quorum.net.hosts)))
        quorum.pause(3)
        clients.served("the leader goes on")
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.cluster.whole().epoch == before.epoch


def test_a_leader_lost_without_the_store_is_replaced_when_the_store_is_back(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    everybody = list(quorum.net.hosts)
    with quorum.clients() as clients:
        quorum.cut((STORE[:2], everybody))
        quorum.pause(1)
        quorum.net.cut(quorum.net.apart(before.leader))
        quorum.pause(2)
        assert quorum.leaders_since(before) == []
        quorum.net.join(quorum.net.between(STORE, [host for host in everybody if host != before.leader]))
        clients.served("another one leads")
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]


def test_a_leader_whose_node_stood_still_acknowledges_nothing_when_it_wakes(quorum: Lab) -> None:
    """Its client beside it went on asking, and its network is whole."""
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        with quorum.cluster.frozen(*quorum.cluster.runs(before.leader)):
            clients.served("another one leads")
            time.sleep(1)
        quorum.pause(2)
    assert clients.outage_ms() <= quorum.bound_ms
    assert quorum.leaders_since(before) == [quorum.cluster.whole().leader] != [before.leader]
