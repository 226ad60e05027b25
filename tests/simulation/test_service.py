"""Clients come through the real router over simulated wires, and are told the truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play
from twinstar.histories.operation import Outcome
from twinstar.router.base import Role
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.member import Member
from twinstar.simulation.service import Service
from twinstar.simulation.sessions import Conversation
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import VirtualTransports

seeds = pytest.mark.parametrize("seed", range(3))
PAUSE_MS = 15.0


async def served(cluster: Cluster, service: Service, within_ms: float = 10_000) -> None:
    """Everybody writes and reads, and what they were told is so."""
    enough = [client.answered + 10 for client in service.clients]
    await cluster.until("served", lambda: service.served_all_since(enough), within_ms)
    assert service.breaches(leader_of(cluster).engine, cluster.witness.given_up, standbys_last=True) == []


async def isolate_leader(cluster: Cluster) -> None:
    """From the other members, the router and the store alike."""
    cluster.isolate(leader_of(cluster).name)


async def kill_leader(cluster: Cluster) -> None:
    await cluster.kill_node(leader_of(cluster).name)


async def kill_database(cluster: Cluster) -> None:
    leader_of(cluster).engine.crash()


async def freeze_leader(cluster: Cluster) -> None:
    cluster.freeze(leader_of(cluster).name)


async def suspend_leader(cluster: Cluster) -> None:
    cluster.suspend(leader_of(cluster).name)


@seeds
@pytest.mark.parametrize("fault", [isolate_leader, kill_leader, kill_database, freeze_leader, suspend_leader])
def test_clients_are_led_to_the_next_leader(
    tmp_path: Path, seed: int, fault: Callable[[Cluster], Awaitable[None]]
) -> None:
    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        epoch = cluster.register.epoch
        await fault(cluster)
        await led_anew(cluster, epoch)
        await served(cluster, service)
        cluster.heal()
        for name in cluster.names:
            cluster.start(name)
        await cluster.until("whole", cluster.whole)
        await served(cluster, service)
        outcomes = {each.outcome for each in service.history}
        assert Outcome.FAILED not in outcomes, "nobody was led to a standby to write"

    play(tmp_path, story, seed)


@seeds
def test_a_leader_that_the_router_alone_reaches_shows_no_more_than_it_may(tmp_path: Path, seed: int) -> None:
    """The old leader is cut off from the other members, not from the router, whose store is away as well: the next
    leader's epoch ends every session with the old one before anybody is sent on.
    """

    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        old, epoch = leader_of(cluster), cluster.register.epoch
        cluster.cut_router_from_store()
        for name in cluster.names:
            if name != old.name:
                cluster.cut(old.name, name)
        cluster.cut_store(old.name)
        await led_anew(cluster, epoch)
        await served(cluster, service)
        assert service.router.router is not None
        assert service.router.router.status().write == cluster.register.leader

    play(tmp_path, story, seed)


@seeds
def test_a_leaders_database_that_is_back_as_a_standby_shows_nothing(tmp_path: Path, seed: int) -> None:
    """It holds commits that nobody has confirmed, and the router does not know yet that its epoch is over."""

    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        leader, witness = leader_of(cluster), cluster.witness
        for name in cluster.names:
            if name != leader.name:
                cluster.cut(leader.name, name)
        engine = leader.engine
        await cluster.until(
            "unconfirmed", lambda: engine.numbers() - witness.acknowledged.keys() - witness.shown.keys()
        )
        await cluster.kill_agent(leader.name)
        engine.crash()
        await cluster.until("gone", lambda: not engine.has_processes)
        await engine.start()
        before, unconfirmed = len(service.history), engine.numbers() - witness.acknowledged.keys()
        await cluster.clock.sleep_ms(300)
        reads = [each.value for each in service.history[before:] if each.client != "r1"]
        shown = {number for read in reads if isinstance(read, tuple) for number in read}
        assert not shown & unconfirmed
        assert service.router.router is not None

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_router_dies_or_stands_still(tmp_path: Path, seed: int, how: str) -> None:
    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        if how == "kill":
            await cluster.kill_router()
        else:
            cluster.freeze_router()
        await cluster.clock.sleep_ms(20)
        answered = [client.answered for client in service.clients]
        await cluster.clock.sleep_ms(5_000)
        assert answered == [client.answered for client in service.clients]
        cluster.start_router()
        cluster.thaw_router()
        await served(cluster, service)

    play(tmp_path, story, seed)


def test_readers_are_led_to_standbys(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        assert service.router.router is not None
        status = service.router.router.status()
        assert status.sessions[Role.READ].keys() <= set(cluster.names) - {cluster.register.leader}
        assert set(status.read) == set(cluster.names) - {cluster.register.leader}

    play(tmp_path, story, 1)


@seeds
def test_a_restarted_leader_shows_nothing_before_its_next_epoch(tmp_path: Path, seed: int) -> None:
    """Nobody has confirmed its last commits, and the store is away: restarted as a standby it would show them, and who
    is elected when it is gone takes them back.
    """

    async def story(cluster: Cluster) -> None:
        service = cluster.open_service(PAUSE_MS)
        await served(cluster, service)
        old, epoch = leader_of(cluster), cluster.register.epoch
        others = [name for name in cluster.names if name != old.name]
        for name in others:
            cluster.freeze(name)
        await cluster.clock.sleep_ms(1_000)
        cluster.cut_store(old.name)
        old.engine.crash()
        await cluster.until("restarted", lambda: old.engine.run)
        await cluster.clock.sleep_ms(1_000)
        await cluster.kill_node(old.name)
        for name in others:
            cluster.thaw(name)
        await led_anew(cluster, epoch)
        await served(cluster, service)

    play(tmp_path, story, seed)


async def let_in(cluster: Cluster, member: Member) -> bool:
    """Whether the database begins a session with somebody who asks it itself."""
    conversation = Conversation()
    transports = VirtualTransports(cluster.wires, Gate(), "10.0.2.9")
    try:
        await transports.connect(member.engine.address, conversation)
        await conversation.begin()
    except ConnectionError:
        return False
    conversation.transport.close()
    return True


@seeds
def test_a_restarted_leader_lets_nobody_in_before_its_epoch_is_open(tmp_path: Path, seed: int) -> None:
    """It leads its next epoch already, and what it shows is confirmed by nobody yet; a router may not know better."""

    async def story(cluster: Cluster) -> None:
        cluster.open_service(PAUSE_MS)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        assert await let_in(cluster, leader)
        for name in cluster.names:
            if name != leader.name:
                cluster.freeze(name)
        await cluster.clock.sleep_ms(1_000)
        leader.engine.crash()
        await cluster.until("promoted", lambda: cluster.register.epoch > epoch and leader.engine.primary_run)
        assert not await let_in(cluster, leader)
        for name in cluster.names:
            cluster.thaw(name)
        await cluster.until("open", cluster.leader)
        await cluster.clock.sleep_ms(100)
        assert await let_in(cluster, leader_of(cluster))

    play(tmp_path, story, seed)
