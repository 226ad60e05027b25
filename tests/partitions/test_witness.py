"""Two data nodes and a witness, with the store that Twinstar runs, under cuts: who leads, and who serves."""

from __future__ import annotations

import pytest

from tests.partitions.lab import Lab

pytestmark = [pytest.mark.slow]


def test_a_broken_link_between_the_nodes_moves_no_leader(witnessed: Lab) -> None:
    """The witness hears both. The leader goes on alone when it has missed its voter for long enough."""
    before = witnessed.cluster.whole()
    with witnessed.clients() as clients:
        witnessed.cut(([before.leader], witnessed.others(before.leader)))
        witnessed.pause(2)
        clients.served("the leader goes on alone")
    assert witnessed.leaders_since(before) == []
    assert witnessed.cluster.whole().epoch == before.epoch


def test_a_leader_cut_off_from_everyone_is_replaced_by_the_other_node(witnessed: Lab) -> None:
    before = witnessed.cluster.whole()
    with witnessed.clients() as clients:
        witnessed.net.cut(witnessed.net.apart(before.leader))
        clients.served("the other node leads, and goes on alone")
        other = witnessed.others(before.leader)[0]
        witnessed.cluster.until(lambda s: s["store"]["reachable"], "it reaches the store", at=other)
    assert witnessed.leaders_since(before) == witnessed.others(before.leader)


def test_a_witness_cut_off_from_everyone_changes_nothing(witnessed: Lab) -> None:
    before = witnessed.cluster.whole()
    with witnessed.clients() as clients:
        witnessed.net.cut(witnessed.net.apart("w1"))
        witnessed.pause(2)
        clients.served("the leader goes on")
    assert clients.outage_ms() <= witnessed.bound_ms
    assert witnessed.leaders_since(before) == []
    assert witnessed.cluster.whole().epoch == before.epoch
