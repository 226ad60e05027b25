"""Databases that are worse than dead: each story ends in service, and nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play, standbys_of
from tests.simulation.test_bad_days import by_hand, serves_on, serving
from twinstar.model.effects import Follow
from twinstar.rules.active_passive import operator
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.database.engine import VirtualEngine

seeds = pytest.mark.parametrize("seed", range(2))


@seeds
def test_a_standby_that_hangs_while_it_should_follow_is_ended(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        standby = standbys_of(cluster)[0]
        await cluster.kill_agent(standby.name)
        leader_of(cluster).engine.crash()
        cluster.start(standby.name)
        agent = standby.agent
        assert agent is not None
        await cluster.until("asked to follow", lambda: isinstance(agent.lane.effect, Follow))
        run, standby.engine.hung = standby.engine.run, True
        await cluster.until("ended", lambda: standby.engine.run != run)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("whose", ["leader", "standby"])
def test_a_stop_that_hangs_is_ended_although_who_began_it_was_killed(tmp_path: Path, seed: int, whose: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        member = leader_of(cluster) if whose == "leader" else standbys_of(cluster)[0]
        run, member.engine.hung = member.engine.run, True
        cluster.aside(member.engine.shut_down())
        await cluster.kill_agent(member.name)
        cluster.start(member.name)
        await cluster.until("ended", lambda: member.engine.run != run)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


Trouble = Callable[[VirtualEngine], None]


def mend(cluster: Cluster) -> None:
    for member in cluster.members.values():
        member.engine.mend()


@seeds
@pytest.mark.parametrize(
    "trouble",
    [
        lambda e: e.troubles.slow_fsync(),
        lambda e: e.troubles.slow_checkpoint(),
        lambda e: e.troubles.slow_copying(),
        lambda e: e.troubles.slow_replay(),
        lambda e: e.troubles.break_promotion(),
        lambda e: e.troubles.break_rewind(),
        lambda e: e.troubles.break_clone(),
        lambda e: e.hold_replay(),
        lambda e: e.forget_log(),
    ],
    ids=("fsync", "checkpoint", "copying", "replay", "promotion", "rewind", "clone", "conflict", "log"),
)
def test_the_leader_dies_while_every_database_has_a_trouble(tmp_path: Path, seed: int, trouble: Trouble) -> None:
    """Another one leads, nothing is lost, and in the end all are copies."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        for member in cluster.members.values():
            trouble(member.engine)
        await cluster.clock.sleep_ms(500)
        old.engine.crash()
        await led_anew(cluster, epoch)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole, 60_000)
        mend(cluster)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
def test_a_leader_without_room_is_replaced_and_comes_back_when_there_is_some(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        old.engine.troubles.fill_disk()
        assert await led_anew(cluster, epoch) is not old
        await serves_on(cluster, client)
        await cluster.clock.sleep_ms(5_000)
        assert not old.engine.run
        mend(cluster)
        await cluster.until("whole again", cluster.whole, 60_000)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("whose", ["a standby", "all"])
def test_a_disk_that_takes_nothing_more(tmp_path: Path, seed: int, whose: str) -> None:
    """One standby's does not matter. When it is the leader's as well, all wait, and nothing is lost."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        for member in standbys_of(cluster)[:1] if whose == "a standby" else cluster.members.values():
            member.engine.troubles.hang_fsync()
        if whose == "a standby":
            await serves_on(cluster, client, 5_000)
        await cluster.clock.sleep_ms(5_000)
        mend(cluster)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
def test_a_switchover_whose_stop_takes_longer_than_its_deadline(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, to = leader_of(cluster), standbys_of(cluster)[0]
        old.engine.troubles.slow_checkpoint()
        assert await by_hand(old, lambda view: operator.switchover(view, to.name, 5_000))
        await cluster.clock.sleep_ms(10_000)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
def test_a_standby_that_was_away_while_its_log_was_removed_is_copied_anew(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        away = standbys_of(cluster)[0]
        await cluster.kill_node(away.name)
        await cluster.until("known to be away", lambda: not cluster.whole())
        await serves_on(cluster, client)
        leader_of(cluster).engine.forget_log()
        copied = cluster.witness.sometimes["cloned"]
        cluster.start(away.name)
        await cluster.until("whole again", cluster.whole, 60_000)
        assert cluster.witness.sometimes["cloned"] == copied + 1
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("others_for_ms", [0.0, 40.0, 2_000.0])
def test_what_is_left_of_a_dead_leader_may_still_confirm(tmp_path: Path, seed: int, others_for_ms: float) -> None:
    """Who saw the main process end leaves none of the others before somebody else leads."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        old.engine.crash(others_for_ms)
        await led_anew(cluster, epoch)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("whose", ["leader", "standby"])
def test_a_machine_goes_dark_and_nobody_is_told(tmp_path: Path, seed: int, whose: str) -> None:
    """Connections to it stay until their silence has lasted; slots are taken until then."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        dark = leader_of(cluster) if whose == "leader" else standbys_of(cluster)[0]
        dark.engine.lose_power()
        await cluster.kill_node(dark.name)
        await cluster.clock.sleep_ms(300)
        cluster.start(dark.name)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)
