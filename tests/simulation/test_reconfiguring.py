"""What people change of a running cluster, each alone, and with the one thing going wrong that it must bear."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play, standbys_of
from twinstar.config.schema import Config
from twinstar.model.effects import Reason
from twinstar.model.register import Durability
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.plan import Plan

seeds = pytest.mark.parametrize("seed", range(2))
LEASED = Plan(durability=Durability.ASYNC)


def to(durability: Durability) -> dict[str, object]:
    return {"durability": durability, "required": None}


async def changed(cluster: Cluster, what: str, **update: object) -> None:
    def edit(config: Config) -> Config:
        return config.model_copy(update=update)

    await cluster.people.change(edit, what)
    await cluster.until("read everywhere", lambda: cluster.people.has_finished)


@pytest.mark.parametrize("plan", [Plan(), LEASED])
def test_a_member_is_added_and_another_one_removed(tmp_path: Path, plan: Plan) -> None:
    async def story(cluster: Cluster) -> None:
        client = cluster.client()
        await cluster.people.add("n4")
        await cluster.until("whole with four", cluster.whole)
        assert cluster.register.copies == {"n1", "n2", "n3", "n4"}
        gone = cluster.register.leader
        await cluster.people.remove(gone, lambda: cluster.kill_node(gone))
        await cluster.until("whole without it", cluster.whole)
        assert cluster.register.copies == {"n1", "n2", "n3", "n4"} - {gone}
        known = len(client.acknowledged)
        await cluster.until("serving", lambda: len(client.acknowledged) > known + 20)

    play(tmp_path, story, 3, plan)


@seeds
def test_under_a_lease_an_agent_is_restarted_and_its_member_goes_on_leading(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.clock.sleep_ms(1_000)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        await cluster.kill_agent(leader.name)
        cluster.start(leader.name)
        await cluster.clock.sleep_ms(3 * cluster.plan.lease_ms)
        assert (cluster.register.epoch, cluster.register.leader) == (epoch, leader.name)
        assert leader_of(cluster) is leader

    play(tmp_path, story, seed, LEASED)


@seeds
def test_under_a_lease_an_agent_that_is_restarted_without_the_store_is_ended_by_its_guard(
    tmp_path: Path, seed: int
) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.clock.sleep_ms(1_000)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        cluster.cut_store(leader.name)
        await cluster.kill_agent(leader.name)
        cluster.start(leader.name)
        cluster.client(lambda: leader.engine)
        await led_anew(cluster, epoch)
        assert not leader.engine.primary_run

    play(tmp_path, story, seed, LEASED)


@pytest.mark.parametrize("lease_ms", [500, 9_000])
def test_another_lease_is_read_and_kept(tmp_path: Path, lease_ms: int) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.client()
        await changed(cluster, "bounds changed", lease_ms=lease_ms)
        await cluster.until("in effect", lambda: cluster.register.lease_ms == lease_ms)
        old, epoch, began = leader_of(cluster), cluster.register.epoch, cluster.clock.now_ms()
        cluster.isolate(old.name)
        new = await led_anew(cluster, epoch)
        assert new is not old
        assert (cluster.clock.now_ms() - began > 2_500) == (lease_ms == 9_000)

    play(tmp_path, story, 1, LEASED)


@pytest.mark.parametrize("agent_dies", [False, True])
@seeds
def test_a_leader_that_does_not_learn_of_its_first_lease_ends_with_it(
    tmp_path: Path, seed: int, agent_dies: bool
) -> None:
    """The change to `async` is made, and it does not hear of that. Whoever would confirm to it is cut off with it."""

    async def story(cluster: Cluster) -> None:
        await cluster.clock.sleep_ms(1_000)
        old, epoch = leader_of(cluster), cluster.register.epoch
        with_it, other = standbys_of(cluster)
        assert old.store is not None
        old.store.faults.lose_answer = 1.0
        assert cluster.people.edit(lambda c: c.model_copy(update=to(Durability.ASYNC)), "durability changed")
        cluster.aside(cluster.people.bring(old.name))
        await cluster.until("async", lambda: cluster.register.durability is Durability.ASYNC)
        for each in (old, with_it):
            cluster.cut_store(each.name)
            cluster.cut(each.name, other.name)
        if agent_dies:
            await cluster.kill_agent(old.name)
        cluster.client(lambda: old.engine)
        assert await led_anew(cluster, epoch) is other
        assert not old.engine.primary_run
        cluster.check()

    play(tmp_path, story, seed, Plan(turns=True))


@pytest.mark.parametrize("plan", [Plan(), LEASED])
@seeds
def test_whom_a_loss_is_accepted_for_leads_however_far_behind_it_is(tmp_path: Path, seed: int, plan: Plan) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.client()
        old, epoch = leader_of(cluster), cluster.register.epoch
        chosen, other = standbys_of(cluster)
        cluster.cut(old.name, chosen.name)
        await cluster.clock.sleep_ms(3_000)
        for each in (old, other):
            await cluster.kill_node(each.name)
        await cluster.clock.sleep_ms(3_000)
        outcome = await cluster.people.tell_one(chosen.name, "failover", to=chosen.name, accept_loss=True)
        assert outcome is not None
        assert outcome.ok, outcome.message
        assert cluster.registers[-1].reason in {Reason.FORCED, Reason.GIVEN_UP, Reason.VOTERS}
        assert await led_anew(cluster, epoch) is chosen
        cluster.heal()
        for each in (old, other):
            cluster.start(each.name)
        await cluster.until("whole again", cluster.whole)
        assert cluster.witness.sometimes["accepted loss was one"] == 1

    play(tmp_path, story, seed, Plan(durability=plan.durability, maximum_lag_bytes=640))


def test_a_member_that_does_not_know_who_leads_waits_until_its_file_has_it(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        old, others = leader_of(cluster), standbys_of(cluster)
        assert cluster.people.begin_to_add("n4")
        await cluster.people.bring(old.name)
        await cluster.clock.sleep_ms(5_000)
        assert "n4" not in cluster.register.copies, "the others have not heard of it"
        for each in others:
            await cluster.kill_node(each.name)
        await cluster.until("a copy", lambda: "n4" in cluster.register.copies)
        for each in others:
            cluster.start(each.name)
        await cluster.until("four again", lambda: sum(s.streaming for s in old.engine.senders) == 3)
        await cluster.people.tell("switchover", to="n4")
        await cluster.until("led by it", lambda: cluster.register.leader == "n4")
        await cluster.clock.sleep_ms(2_000)
        strangers = [m for m in cluster.members.values() if m.name not in (old.name, "n4")]
        assert all(m.agent and "not in this node's twinstar.yaml" in m.agent.plan.note for m in strangers)
        cluster.people.finish()
        await cluster.until("whole", cluster.whole)

    play(tmp_path, story, 1)


def test_a_changed_file_is_read_without_a_restart(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        agents = {m.name: m.agent for m in cluster.members.values()}
        await changed(cluster, "durability changed", **to(Durability.ASYNC))
        await changed(cluster, "policy changed", policy="degrade")
        await changed(cluster, "durability changed", **to(Durability.QUORUM))
        await changed(cluster, "required changed", required=2)
        await cluster.until("in effect", cluster.whole)
        assert cluster.register.required == 2
        assert {m.name: m.agent for m in cluster.members.values()} == agents
        answer = await cluster.people.tell_one("n1", "reload")
        assert answer is not None
        assert answer.details == {"waiting": []}

    play(tmp_path, story, 1)


def test_what_is_for_a_leader_that_is_dead_is_refused_at_once(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        old, other = leader_of(cluster), standbys_of(cluster)[0]
        await cluster.people.tell("pause")
        await cluster.kill_node(old.name)
        await cluster.clock.sleep_ms(5_000)
        began = cluster.clock.now_ms()
        answer = await cluster.people.tell_one(other.name, "remove", member=old.name)
        assert answer is not None
        assert not answer.ok
        assert "not heard" in answer.message
        assert cluster.clock.now_ms() - began < 1_000

    play(tmp_path, story, 1)
