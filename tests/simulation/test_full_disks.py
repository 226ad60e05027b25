"""Members whose state has no room: nobody's agent ends, and no promise is given that is not written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agent.disks import full_disk
from tests.simulation.play import leader_of, led_anew, play, standbys_of
from twinstar.simulation.cluster import Cluster


@pytest.mark.parametrize("seed", range(2))
def test_a_leader_is_not_replaced_by_promises_that_cannot_be_written_down(tmp_path: Path, seed: int) -> None:
    """Both standbys' promises are needed: the election waits for room, and for nothing else."""

    async def story(cluster: Cluster) -> None:
        old, (full, other), epoch = leader_of(cluster), standbys_of(cluster), cluster.register.epoch
        assert full.agent is not None
        with full_disk(full.agent.settings.state_file):
            await cluster.kill_node(old.name)
            await cluster.clock.sleep_ms(10_000)
            assert cluster.leader() is None
            assert full.agent.memory.now.promise == epoch
            assert "make room" in full.agent.lane.trouble
            assert other.agent is not None
            assert other.agent.memory.now.promise > epoch, (
                "the other one has promised, so it is this one that is missing"
            )
        await led_anew(cluster, epoch)

    play(tmp_path, story, seed)


def test_who_is_heard_by_an_agent_without_room_is_heard(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        member = standbys_of(cluster)[0]
        assert member.agent is not None
        state = member.agent.settings.state_file
        await cluster.kill_agent(member.name)
        state.write_text(json.dumps({**json.loads(state.read_text()), "heard": []}))
        cluster.start_agent(member.name)
        process = member.agent_process
        with full_disk(state):
            await cluster.clock.sleep_ms(3_000)
            assert set(member.agent.memory.now.heard) == set(cluster.names) - {member.name}
            assert json.loads(state.read_text())["heard"] == []
        await cluster.kill_node(leader_of(cluster).name)
        await led_anew(cluster, cluster.register.epoch)
        assert member.agent_process is process, "it is the same one all the time"
        assert len(json.loads(state.read_text())["heard"]) == 2

    play(tmp_path, story, 1)
