"""Databases that are worse than dead: each story ends in service, and nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.play import leader_of, play, standbys_of
from tests.simulation.test_bad_days import serves_on, serving
from twinstar.model.effects import Follow
from twinstar.simulation.cluster import Cluster

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
