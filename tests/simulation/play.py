"""Runs a story: a few lines about a cluster on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from twinstar.simulation.cluster import Cluster, Member, Plan
from twinstar.simulation.virtual_time import VirtualLoop, run_virtually

Story = Callable[[Cluster], Awaitable[None]]


def play(directory: Path, story: Story, seed: int, plan: Plan | None = None) -> Cluster:
    """Begins the story when the cluster is whole; afterwards no invariant may have been broken."""
    loop = VirtualLoop()

    async def main() -> Cluster:
        cluster = Cluster(loop, seed, directory, plan or Plan())
        try:
            cluster.start_all()
            await cluster.until("whole", cluster.whole)
            await story(cluster)
            cluster.check()
        finally:
            cluster.end()
        return cluster

    return run_virtually(main(), loop)


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
