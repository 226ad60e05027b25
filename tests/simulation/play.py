"""Runs a story: a few lines about a cluster on virtual time."""

from __future__ import annotations

from twinstar.simulation.cluster import Cluster
from twinstar.simulation.member import Member
from twinstar.simulation.run import Story as Story
from twinstar.simulation.run import play as play


def leader_of(cluster: Cluster) -> Member:
    leader = cluster.leader()
    assert leader is not None, cluster.describe()
    return leader


def standbys_of(cluster: Cluster) -> list[Member]:
    return [m for m in cluster.members.values() if m.name != cluster.register.leader]


async def led_anew(cluster: Cluster, after: int, within_ms: float = 30_000) -> Member:
    """Waits for an open leader of an epoch later than `after`."""
    await cluster.until("led anew", lambda: cluster.leader() and cluster.register.epoch > after, within_ms)
    return leader_of(cluster)
