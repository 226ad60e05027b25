"""Agents on virtual time: the real code of agent and guard over models of network, store and database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from twinstar.model.errors import EngineError
from twinstar.model.register import Durability, Phase
from twinstar.simulation.cluster import Cluster, Member
from twinstar.simulation.virtual_time import VirtualLoop, run_virtually

Story = Callable[[Cluster], Awaitable[None]]


def play(
    directory: Path, story: Story, size: int = 3, durability: Durability = Durability.QUORUM, seed: int = 1
) -> None:
    """Runs a story on a cluster of its own, in virtual time."""
    loop = VirtualLoop()

    async def main() -> None:
        cluster = Cluster(loop, seed, size, directory, durability)
        cluster.start_all()
        await cluster.until("serving", lambda: ready(cluster, size))
        await story(cluster)

    run_virtually(main(), loop)


def ready(cluster: Cluster, size: int) -> bool:
    """An open leader, and everybody a copy."""
    register = cluster.register
    return cluster.leader() is not None and register is not None and len(register.copies) == size


class Client:
    """Writes numbers one after another to whoever leads, and remembers which were acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.acknowledged: list[tuple[float, int]] = []
        self._next = 0

    async def write_for_ever(self) -> None:
        while True:
            leader = self._cluster.leader()
            if leader is not None:
                await self._write(leader)
            await self._cluster.clock.sleep_ms(5)

    async def _write(self, leader: Member) -> None:
        self._next += 1
        number = self._next
        try:
            async with self._cluster.clock.timeout_ms(500):
                if await leader.engine.commit(number):
                    self.acknowledged.append((self._cluster.clock.now_ms(), number))
        except (EngineError, TimeoutError):
            pass

    def longest_gap_ms(self) -> float:
        times = [at for at, _ in self.acknowledged]
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))

    def lost(self) -> set[int]:
        leader = self._cluster.leader()
        assert leader is not None
        return {number for _, number in self.acknowledged} - leader.engine.numbers()


def epoch(cluster: Cluster) -> int:
    assert cluster.register is not None
    return cluster.register.epoch


async def survives(cluster: Cluster, break_it: Callable[[Member], Awaitable[None]], bound_ms: float) -> Client:
    """Breaks the leader under a client's writes: another epoch opens within the bound, and nothing is lost."""
    client = Client(cluster)
    writing = asyncio.create_task(client.write_for_ever())
    await cluster.clock.sleep_ms(1_000)
    leader, before = cluster.leader(), epoch(cluster)
    assert leader is not None
    await break_it(leader)
    await cluster.until("led anew", lambda: epoch(cluster) > before and cluster.leader() is not None)
    await cluster.clock.sleep_ms(2_000)
    writing.cancel()
    assert client.longest_gap_ms() <= bound_ms
    assert client.lost() == set()
    assert len(client.acknowledged) > 100
    return client


def test_two_agents_make_a_cluster(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        register = cluster.register
        assert register is not None
        assert register.phase is Phase.LEADING
        assert register.required == 1

    play(tmp_path, story, size=2)


def test_a_dead_node_is_replaced_within_a_second(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        await survives(cluster, lambda leader: cluster.kill_node(leader.name), 1_000)

    play(tmp_path, story)


def test_a_dead_database_is_replaced_without_a_vote(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        await survives(cluster, lambda leader: leader.engine.crash(), 500)
        await cluster.until("whole again", lambda: all(m.engine.run for m in cluster.members.values()))

    play(tmp_path, story)


@pytest.mark.parametrize("seed", range(5))
def test_a_silent_leader_is_replaced_and_comes_back(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        async def silence(leader: Member) -> None:
            cluster.freeze(leader.name)

        old = cluster.leader()
        assert old is not None
        await survives(cluster, silence, 1_000)
        cluster.thaw(old.name)
        await cluster.until(
            "the old leader follows",
            lambda: not old.engine.primary_run and old.engine.disk.upstream is not None and bool(old.engine.run),
        )

    play(tmp_path, story, seed=seed)


def test_a_lease_runs_out_in_async(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        old = cluster.leader()
        assert old is not None
        before = epoch(cluster)
        cluster.freeze(old.name)
        assert cluster.server.running
        took = await cluster.until("led anew", lambda: epoch(cluster) > before and cluster.leader() is not old)
        assert took >= 1_500, "nobody takes over before the lease has run out"
        assert not old.engine.primary_run, "the lease's end ends the old leader"

    play(tmp_path, story, durability=Durability.ASYNC)
