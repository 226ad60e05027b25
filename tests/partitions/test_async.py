"""Cuts around the leader of a cluster with `async`: who wins is whoever renews the lease, so who reaches the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.partitions.lab import CLIENTS, ROUTER, STORE, Lab

pytestmark = [pytest.mark.slow]


def test_a_leader_cut_off_from_everyone_is_replaced_after_its_lease(leased: Lab) -> None:
    before = leased.cluster.whole()
    with leased.clients() as clients:
        leased.net.cut(leased.net.apart(before.leader))
        clients.served("another one leads")
        leased.pause(1)
    assert clients.outage_ms() <= leased.bound_ms
    assert leased.leaders_since(before) == [leased.cluster.whole().leader] != [before.leader]


def test_a_leader_cut_off_from_the_store_is_replaced_after_its_lease(leased: Lab) -> None:
    """It cannot know whether somebody else has the next lease."""
    before = leased.cluster.whole()
    with leased.clients() as clients:
        leased.cut(([before.leader], STORE))
        clients.served("it goes on meanwhile")
        leased.cluster.until(lambda s: s["leader"] != before.leader and s["open"], "another one leads")
        clients.served("another one leads")
    assert leased.leaders_since(before) == [leased.cluster.whole().leader] != [before.leader]


def test_a_leader_cut_off_from_the_standbys_stays(leased: Lab) -> None:
    """Nobody has to confirm, and it renews its lease; what they lack may be lost with it."""
    before = leased.cluster.whole()
    with leased.clients() as clients:
        leased.cut(([before.leader], leased.others(before.leader)))
        leased.pause(3.5)
        clients.served("the leader goes on")
    assert leased.leaders_since(before) == []


def test_a_leader_cut_off_from_the_clients_stays(leased: Lab) -> None:
    before = leased.cluster.whole()
    with leased.clients() as clients:
        leased.cut(([before.leader], [CLIENTS, ROUTER]))
        leased.pause(3.5)
        clients.served("a client beside the leader is served", before.leader)
    assert leased.leaders_since(before) == []


@pytest.mark.parametrize("strike", [Lab.mute, Lab.deafen])
def test_a_leader_whose_link_passes_one_way_is_replaced_after_its_lease(
    leased: Lab, strike: Callable[[Lab, str], None]
) -> None:
    before = leased.cluster.whole()
    with leased.clients() as clients:
        strike(leased, before.leader)
        clients.served("another one leads")
        leased.pause(1)
    assert clients.outage_ms() <= leased.bound_ms
    assert leased.leaders_since(before) == [leased.cluster.whole().leader] != [before.leader]
