"""Cuts around the leader of a cluster with `quorum`: who wins, and what clients are told."""

from __future__ import annotations

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
        quorum.pause(4)
        clients.served("the leader goes on")
        assert quorum.cluster.status(before.leader)["epoch"] == before.epoch
    assert quorum.cluster.whole().epoch == before.epoch


def test_a_leader_cut_off_from_the_clients_stays(quorum: Lab) -> None:
    before = quorum.cluster.whole()
    with quorum.clients() as clients:
        quorum.cut(([before.leader], [CLIENTS, ROUTER]))
        quorum.pause(4)
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
