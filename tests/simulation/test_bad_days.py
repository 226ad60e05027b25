"""Each story is one bad day: it ends in service, or in a wait that says for whom, and nothing acknowledged is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.play import leader_of, led_anew, play, standbys_of
from twinstar.model.effects import ChangeRegister, Reason
from twinstar.model.engine import Names
from twinstar.model.errors import TwinstarError
from twinstar.model.register import Durability, Phase, Seal
from twinstar.model.view import View
from twinstar.model.wire import Serving
from twinstar.rules.active_passive import operator
from twinstar.simulation.client import Client
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.database.senders import Sender
from twinstar.simulation.member import Member
from twinstar.simulation.plan import Plan
from twinstar.simulation.stores.memory import Faults

SEEDS = range(2)
seeds = pytest.mark.parametrize("seed", SEEDS)


async def serving(cluster: Cluster) -> Client:
    """A client at work for a second, and one beside it that asks no router."""
    client = cluster.client()
    cluster.client(cluster.any_primary, pause_ms=30)
    await cluster.clock.sleep_ms(1_000)
    return client


async def serves_on(cluster: Cluster, client: Client, within_ms: float = 30_000) -> None:
    known = len(client.acknowledged)
    await cluster.until("serving on", lambda: len(client.acknowledged) > known + 20, within_ms)
    assert client.numbers() <= leader_of(cluster).engine.numbers()


async def by_hand(member: Member, ask: Callable[[View], ChangeRegister]) -> bool:
    return await member.by_hand(ask) is not None


# -- false alarms ------------------------------------------------------------------------------------------------------


@seeds
def test_a_leader_that_is_not_heard_for_a_second(tmp_path: Path, seed: int) -> None:
    """Its datagrams are lost while replication and store live: service goes on, or returns by itself."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader = leader_of(cluster)
        for process in leader.processes:
            process.gate.shut()
        await cluster.clock.sleep_ms(1_000)
        for process in leader.processes:
            process.gate.open()
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
def test_a_cut_between_the_leader_and_one_standby(tmp_path: Path, seed: int) -> None:
    """The other one hears both: nothing moves, whichever it is."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        for standby in standbys_of(cluster):
            cluster.cut(leader.name, standby.name)
            await cluster.clock.sleep_ms(3_000)
            assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
            await serves_on(cluster, client)
            cluster.heal()
            await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
def test_the_smaller_side_of_a_partition_waits(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        alone = standbys_of(cluster)[0]
        cluster.isolate(alone.name)
        await cluster.clock.sleep_ms(5_000)
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
        await serves_on(cluster, client)
        cluster.isolate(leader.name)
        cluster.rejoin(alone.name)
        assert await led_anew(cluster, epoch) is not leader
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
def test_two_copies_that_only_the_store_connects(tmp_path: Path, seed: int) -> None:
    """Each may replace the other; one of them gets the time to go on alone."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch = cluster.register.epoch
        cluster.cut(*cluster.names)
        await cluster.until("alone", lambda: cluster.register.required == 0, 180_000)
        await serves_on(cluster, client)
        assert cluster.register.epoch - epoch < 60
        cluster.heal()
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed, Plan(size=2, policy="degrade"))


@seeds
def test_somebody_who_merely_calls_itself_a_member_is_ended(tmp_path: Path, seed: int) -> None:
    """PostgreSQL counts by name: nothing but its end keeps it from confirming what no standby has."""

    async def story(cluster: Cluster) -> None:
        await serving(cluster)
        senders = leader_of(cluster).engine.senders
        member = standbys_of(cluster)[0].name
        impostor = Sender(member, cluster.register.epoch, True, flushed=1 << 60, genuine=False)
        assert senders.take(impostor)
        await cluster.until("ended", lambda: impostor not in senders, 3_000)
        assert len(list(senders)) == 2, "the members are left alone"

    play(tmp_path, story, seed)


@seeds
def test_who_has_never_heard_the_leader_does_not_accuse_it_at_once(tmp_path: Path, seed: int) -> None:
    """A standby that has just begun, and remembers nobody, has no vote to give before its grace is over."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        new = standbys_of(cluster)[0]
        await cluster.kill_agent(new.name)
        file = tmp_path / f"{new.name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"heard": []}))
        cluster.isolate(leader.name)
        cluster.start_agent(new.name)
        await cluster.clock.sleep_ms(8_000)
        assert cluster.register.epoch == epoch
        assert leader.name in json.loads(file.read_text())["heard"], "the other standby has said so"
        assert await led_anew(cluster, epoch) is not leader
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
def test_links_around_the_leader_that_pass_one_way(tmp_path: Path, seed: int) -> None:
    """Whom nobody hears, and who hears nobody, is replaced, once; the new leader is left alone."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        for strike in (cluster.mute, cluster.deafen):
            leader, epoch = leader_of(cluster), cluster.register.epoch
            strike(leader.name)
            new = await led_anew(cluster, epoch)
            assert new is not leader
            await serves_on(cluster, client)
            await cluster.clock.sleep_ms(10_000)
            cluster.heal()
            await cluster.clock.sleep_ms(10_000)
            assert leader_of(cluster) is new
            await serves_on(cluster, client)

    play(tmp_path, story, seed)


# -- several faults ----------------------------------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("after_ms", [0, 30, 80, 200])
def test_the_next_leader_dies_while_it_is_being_promoted(tmp_path: Path, seed: int, after_ms: float) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch = cluster.register.epoch
        first = leader_of(cluster)
        first.engine.crash()
        await cluster.until("named", lambda: cluster.register.epoch > epoch and cluster.register.phase is Phase.LEADING)
        await cluster.clock.sleep_ms(after_ms)
        await cluster.kill_node(cluster.register.leader)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("between_ms", [5, 300, 700])
def test_a_second_leader_dies_within_a_second(tmp_path: Path, seed: int, between_ms: float) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        first = leader_of(cluster)
        await cluster.kill_node(first.name)
        await cluster.clock.sleep_ms(between_ms)
        second = cluster.register.leader
        if second != first.name:
            cluster.members[second].engine.crash()
        else:
            standbys_of(cluster)[0].engine.crash()
        await serves_on(cluster, client)

    play(tmp_path, story, seed, Plan(size=5))


@seeds
def test_a_standby_that_hangs_while_it_should_seal_is_ended(tmp_path: Path, seed: int) -> None:
    """Without it nobody can be named."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch, hung = cluster.register.epoch, standbys_of(cluster)[0]
        hung.engine.hung = True
        await cluster.kill_node(leader_of(cluster).name)
        await led_anew(cluster, epoch, 20_000)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("missing", ["leader", "standby"])
def test_power_fails_and_one_node_does_not_come_back(tmp_path: Path, seed: int, missing: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        away = leader_of(cluster) if missing == "leader" else standbys_of(cluster)[0]
        for name in cluster.names:
            await cluster.kill_node(name)
        for name in cluster.names:
            if name != away.name:
                cluster.start(name)
        await serves_on(cluster, client, 60_000)
        cluster.start(away.name)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("kind", ["block", "degrade"])
def test_the_last_standby_dies_and_comes_back(tmp_path: Path, seed: int, kind: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch = leader_of(cluster), cluster.register.epoch
        gone = standbys_of(cluster)
        for standby in gone:
            await cluster.kill_node(standby.name)
        await cluster.clock.sleep_ms(6_000)
        assert cluster.register.required == (1 if kind == "block" else 0)
        assert leader.agent is not None
        said = leader.agent.plan.note
        if kind == "degrade":
            assert "this member's disk only" in said
            await serves_on(cluster, client)
        else:
            assert all(s.name in said for s in gone), f"it says for whom it waits: {said}"
        for standby in gone:
            cluster.start(standby.name)
        await cluster.until("whole again", lambda: cluster.whole() and cluster.register.required == 1)
        await serves_on(cluster, client)
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)

    play(tmp_path, story, seed, Plan(policy="degrade" if kind == "degrade" else "block", voter_removal_ms=2_000))


@seeds
def test_a_leader_that_lost_its_disk_is_replaced_and_becomes_a_copy(tmp_path: Path, seed: int) -> None:
    """It is back at once, heard and with nothing: nobody takes its silence for a leader's."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader = leader_of(cluster)
        await cluster.lose_disk(leader.name)
        cluster.start(leader.name)
        await serves_on(cluster, client)
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


# -- the store ---------------------------------------------------------------------------------------------------------


@seeds
def test_the_store_stops_during_normal_work(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch, began = leader_of(cluster), cluster.register.epoch, cluster.clock.now_ms()
        cluster.server.stop()
        await cluster.clock.sleep_ms(20_000)
        assert leader.engine.primary_run
        assert client.longest_gap_ms(since_ms=began) < 100
        cluster.server.start()
        await cluster.clock.sleep_ms(2_000)
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("after_ms", [1, 10, 30, 60, 100, 300])
def test_the_store_stops_during_a_failover(tmp_path: Path, seed: int, after_ms: float) -> None:
    """At whatever step: it waits there, and goes on when the store is back."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch = cluster.register.epoch
        leader_of(cluster).engine.crash()
        await cluster.clock.sleep_ms(after_ms)
        cluster.server.stop()
        await cluster.clock.sleep_ms(5_000)
        cluster.server.start()
        await led_anew(cluster, epoch)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize(
    "faults",
    [Faults(lose_answer=0.7), Faults(lose_request=0.5), Faults(late_request=0.6), Faults(break_watch=0.5)],
    ids=["answers are lost", "requests are lost", "requests come late", "the watch breaks"],
)
def test_a_failover_while_the_outcome_of_changes_is_unknown(tmp_path: Path, seed: int, faults: Faults) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch = cluster.register.epoch
        for member in cluster.members.values():
            assert member.store is not None
            member.store.faults.lose_answer, member.store.faults.lose_request = faults.lose_answer, faults.lose_request
            member.store.faults.late_request, member.store.faults.break_watch = faults.late_request, faults.break_watch
        await cluster.kill_node(leader_of(cluster).name)
        await led_anew(cluster, epoch, 60_000)
        await serves_on(cluster, client, 60_000)

    play(tmp_path, story, seed)


# -- our own processes -------------------------------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("whose", ["leader", "standby"])
@pytest.mark.parametrize("how", ["kill agent", "kill guard", "hang agent"])
def test_our_processes_may_die_without_moving_anything(tmp_path: Path, seed: int, whose: str, how: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        leader, epoch, began = leader_of(cluster), cluster.register.epoch, cluster.clock.now_ms()
        member = leader if whose == "leader" else standbys_of(cluster)[0]
        run, process = member.engine.run, member.agent_process
        if how == "kill agent":
            await cluster.kill_agent(member.name)
        elif how == "kill guard":
            await cluster.kill_guard(member.name)
        else:
            assert process is not None
            process.gate.shut()
        direct = cluster.client(lambda: leader.engine)
        await cluster.clock.sleep_ms(8_000)
        cluster.heal()
        cluster.start(member.name)
        await cluster.clock.sleep_ms(3_000)
        assert direct.longest_gap_ms(since_ms=began) < 150
        assert member.engine.run == run, "its database was not touched"
        assert (cluster.register.epoch, cluster.leader()) == (epoch, leader)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


def test_an_agent_that_hangs_is_said_to_stall(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        member = standbys_of(cluster)[0]
        assert member.agent is not None
        assert member.agent_process is not None
        await cluster.clock.sleep_ms(5_000)
        said = [member.agent.stalled]
        for act in (member.agent_process.gate.shut, member.agent_process.gate.open):
            act()
            await cluster.clock.sleep_ms(3_000)
            said.append(member.agent.stalled)
        assert said == [False, True, False]

    play(tmp_path, story, 1)


@seeds
def test_an_agent_that_comes_back_to_a_changed_cluster_opens_nothing(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        cluster.isolate(old.name)
        await led_anew(cluster, epoch)
        await cluster.kill_agent(old.name)
        cluster.rejoin(old.name)
        cluster.start(old.name)
        await cluster.until("whole again", cluster.whole)
        await serves_on(cluster, client)
        assert not old.engine.primary_run

    play(tmp_path, story, seed)


# -- by hand -----------------------------------------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("durability", Durability)
def test_a_switchover(tmp_path: Path, seed: int, durability: Durability) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, began, epoch = leader_of(cluster), cluster.clock.now_ms(), cluster.register.epoch
        to = standbys_of(cluster)[0]
        assert await by_hand(old, lambda view: operator.switchover(view, to.name, 10_000))
        assert await led_anew(cluster, epoch) is to
        assert cluster.register.reason == Reason.SWITCHOVER
        await serves_on(cluster, client)
        assert client.longest_gap_ms(since_ms=began) < 2_000
        await cluster.until("whole again", cluster.whole)
        assert cluster.witness.sometimes["rewound"] + cluster.witness.sometimes["cloned"] == len(cluster.names) - 1

    play(tmp_path, story, seed, Plan(durability=durability))


@seeds
@pytest.mark.parametrize("after_ms", [0, 5, 10, 20, 40, 60])
def test_an_agent_hangs_between_taking_the_lease_and_the_promotion(tmp_path: Path, seed: int, after_ms: int) -> None:
    """It goes on when another one leads."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        epoch = cluster.register.epoch
        await cluster.kill_node(leader_of(cluster).name)
        await cluster.until("taken", lambda: cluster.register.epoch > epoch)
        await cluster.clock.sleep_ms(after_ms)
        winner, epoch = cluster.members[cluster.register.leader], cluster.register.epoch
        assert winner.agent_process is not None
        winner.agent_process.gate.shut()
        await led_anew(cluster, epoch)
        await cluster.clock.sleep_ms(500)
        winner.agent_process.gate.open()
        await serves_on(cluster, client)

    play(tmp_path, story, seed, Plan(durability=Durability.ASYNC))


@seeds
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("durability", Durability)
def test_a_failover_to_one_that_was_asked_for(tmp_path: Path, seed: int, place: int, durability: Durability) -> None:
    async def story(cluster: Cluster) -> None:
        epoch, to = cluster.register.epoch, standbys_of(cluster)[place]
        asked = standbys_of(cluster)[0]
        agent = asked.agent
        assert agent is not None

        def knows() -> bool:
            return agent.ledger.register == cluster.register and len(agent.peers.hears()) == 2

        await cluster.until("known to it", knows)
        assert await by_hand(asked, lambda view: operator.failover(view, to.name, accept_loss=False))
        new = await led_anew(cluster, epoch, 2_000)
        seals = [Seal.decode(c.value.value) for c in cluster.server.history if "/seals/" in c.key and c.value]
        behind = any(s.member == to.name and s.position < (cluster.register.fork or s.position) for s in seals)
        assert new is to or behind, "the old leader's last record may have gone to the other one alone"
        await serves_on(cluster, await serving(cluster))

    play(tmp_path, story, seed, Plan(durability=durability))


@seeds
@pytest.mark.parametrize("after_ms", [1, 20, 60, 120])
@pytest.mark.parametrize("who", ["successor", "leader"])
def test_one_side_of_a_switchover_dies(tmp_path: Path, seed: int, after_ms: float, who: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, to = leader_of(cluster), standbys_of(cluster)[0]
        assert await by_hand(old, lambda view: operator.switchover(view, to.name, 5_000))
        await cluster.clock.sleep_ms(after_ms)
        await cluster.kill_node(to.name if who == "successor" else old.name)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("durability", Durability)
def test_a_leader_dies_whose_successor_lacks_the_end_of_its_log(
    tmp_path: Path, seed: int, size: int, durability: Durability
) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, to = leader_of(cluster), standbys_of(cluster)[0]
        assert old.agent is not None
        memory = old.agent.memory
        run = old.engine.run
        assert await by_hand(old, lambda view: operator.switchover(view, to.name, 10_000))
        await cluster.until("stopping", lambda: memory.now.handing_over)
        cluster.cut(old.name, to.name)
        await cluster.until("stopped", lambda: old.engine.run != run)
        await cluster.kill_node(old.name)
        await serves_on(cluster, client, 10_000)

    play(tmp_path, story, seed, Plan(size=size, durability=durability, policy="degrade", voter_removal_ms=2_000))


@seeds
def test_a_switchover_to_one_that_is_not_there_is_given_up(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, to, epoch = leader_of(cluster), standbys_of(cluster)[0], cluster.register.epoch
        cluster.freeze(to.name)
        await by_hand(old, lambda view: operator.switchover(view, to.name, 3_000))
        await cluster.clock.sleep_ms(8_000)
        await serves_on(cluster, client)
        assert cluster.register.switchover is None
        assert cluster.register.leader != to.name or cluster.register.epoch == epoch

    play(tmp_path, story, seed)


@seeds
@pytest.mark.parametrize("durability", Durability)
def test_a_switchover_whose_time_is_over_when_it_is_prepared_stops_nothing(
    tmp_path: Path, seed: int, durability: Durability
) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, began, epoch = leader_of(cluster), cluster.clock.now_ms(), cluster.register.epoch
        run = old.engine.run
        old.engine.troubles.slow_checkpoint()
        assert await by_hand(old, lambda view: operator.switchover(view, standbys_of(cluster)[0].name, 3_000))
        await cluster.until("given up", lambda: cluster.register.switchover is None)
        old.engine.troubles.mend()
        await serves_on(cluster, client)
        assert (cluster.register.epoch, old.engine.run) == (epoch, run)
        assert client.longest_gap_ms(since_ms=began) < 1_000

    play(tmp_path, story, seed, Plan(durability=durability))


@seeds
@pytest.mark.parametrize("whose", ["agent", "guard"])
def test_paused_a_hung_database_is_left_alone(tmp_path: Path, seed: int, whose: str) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        assert await by_hand(old, lambda view: operator.pause(view, paused=True))
        await cluster.clock.sleep_ms(500)
        run, old.engine.hung = old.engine.run, True
        if whose == "guard":
            await cluster.kill_agent(old.name)
        await cluster.clock.sleep_ms(20_000)
        assert old.engine.run == run
        cluster.start(old.name)
        await cluster.until("agents", lambda: old.agent is not None and old.agent.ledger.ok)
        assert await by_hand(old, lambda view: operator.pause(view, paused=False))
        await led_anew(cluster, epoch, 10_000)
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
def test_paused_a_copy_that_left_the_branch_is_rewound_after_the_pause(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        seen = cluster.witness.sometimes
        before = seen["rewound"] + seen["cloned"]
        cluster.isolate(old.name)
        cluster.client(lambda: old.engine)
        new = await led_anew(cluster, epoch)
        assert await by_hand(new, lambda view: operator.pause(view, paused=True))
        cluster.rejoin(old.name)
        await cluster.clock.sleep_ms(20_000)
        assert seen["rewound"] + seen["cloned"] == before
        assert await by_hand(new, lambda view: operator.pause(view, paused=False))
        await cluster.until("whole again", cluster.whole)
        assert seen["rewound"] + seen["cloned"] > before
        await serves_on(cluster, client)

    play(tmp_path, story, seed)


@seeds
def test_paused_nothing_happens_by_itself_and_failover_by_hand_works(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        other = standbys_of(cluster)[0]
        assert await by_hand(old, lambda view: operator.pause(view, paused=True))
        old.engine.crash()
        await cluster.clock.sleep_ms(10_000)
        assert cluster.register.epoch == epoch
        assert not old.engine.run
        assert await by_hand(other, lambda view: operator.failover(view, None, accept_loss=False))
        assert await led_anew(cluster, epoch) is not old
        await serves_on(cluster, client)
        assert await by_hand(leader_of(cluster), lambda view: operator.pause(view, paused=False))
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed)


@seeds
def test_a_failover_that_accepts_loss(tmp_path: Path, seed: int) -> None:
    """Two of three are gone for good: one alone goes on when it is told to, and refuses while another answers."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        left = standbys_of(cluster)[0]
        others = [m for m in cluster.members.values() if m is not left]
        with pytest.raises(operator.Refused, match="still answer"):
            await by_hand(left, lambda view: operator.failover(view, left.name, accept_loss=True))
        for member in others:
            await cluster.kill_node(member.name)
        await cluster.clock.sleep_ms(5_000)
        epoch = cluster.register.epoch
        assert await by_hand(left, lambda view: operator.failover(view, left.name, accept_loss=True))
        assert await led_anew(cluster, epoch) is left
        known = len(client.acknowledged)
        await cluster.until("serving", lambda: len(client.acknowledged) > known + 20)
        for member in others:
            cluster.start(member.name)
        await cluster.until("whole again", lambda: cluster.whole() and cluster.register.required == 1)

    play(tmp_path, story, seed)


@seeds
def test_nothing_can_be_asked_for_while_the_store_is_away(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.server.stop()
        await cluster.clock.sleep_ms(3_000)
        with pytest.raises(TwinstarError, match="store"):
            await by_hand(leader_of(cluster), lambda view: operator.switchover(view, None, 5_000))

    play(tmp_path, story, seed)


@pytest.mark.parametrize("durability", Durability)
def test_readers_are_led_to_voters_alone(tmp_path: Path, durability: Durability) -> None:
    """What a standby shows that is no voter may be taken back by an election that did not count on it."""

    async def story(cluster: Cluster) -> None:
        leader = leader_of(cluster)
        assert leader.agent is not None
        await cluster.clock.sleep_ms(2_000)
        attached = {sender.member for sender in leader.engine.senders}
        served = leader.agent._serving()
        assert isinstance(served, Serving)
        assert set(served.readers) == attached - {"n3"}
        assert "n3" in attached

    play(tmp_path, story, 1, Plan(durability=durability, nofailover=frozenset({"n3"})))


def test_nobody_reads_on_a_voter_whose_confirmation_does_not_count(tmp_path: Path) -> None:
    """As while a change of voters is in doubt: the database does not wait for it any more, the register may name it."""

    async def story(cluster: Cluster) -> None:
        agent = leader_of(cluster).agent
        assert agent is not None
        await cluster.clock.sleep_ms(2_000)
        for counted in (frozenset({"n2"}), frozenset({"n2", "n3"}) - {agent.settings.me}):
            agent.body.enforced = Names(cluster.register.epoch, counted, 1)
            served = agent._serving()
            assert isinstance(served, Serving)
            assert set(served.readers) == counted - {agent.settings.me}

    play(tmp_path, story, 1)


@seeds
def test_from_async_to_quorum_while_clients_write(tmp_path: Path, seed: int) -> None:
    """What is acknowledged afterwards survives the leader's death."""

    async def story(cluster: Cluster) -> None:
        await serving(cluster)
        reconfigure(cluster, Durability.QUORUM)
        await cluster.until("changed", lambda: cluster.register.durability is Durability.QUORUM)
        safe = cluster.client(cluster.any_primary)
        await cluster.clock.sleep_ms(5_000)
        epoch = cluster.register.epoch
        assert epoch == 1, "nobody else has taken over"
        await cluster.kill_node(leader_of(cluster).name)
        await led_anew(cluster, epoch)
        assert len(safe.numbers()) > 100
        await serves_on(cluster, safe)

    play(tmp_path, story, seed, Plan(durability=Durability.ASYNC))


@seeds
def test_from_quorum_to_async_while_clients_write(tmp_path: Path, seed: int) -> None:
    """From then on nobody is waited for, and a leader that is cut off ends when its lease does."""

    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        reconfigure(cluster, Durability.ASYNC)
        await cluster.until("changed", lambda: cluster.register.durability is Durability.ASYNC)
        await cluster.clock.sleep_ms(3_000)
        old, epoch = leader_of(cluster), cluster.register.epoch
        for standby in standbys_of(cluster):
            cluster.freeze(standby.name)
        known = len(client.acknowledged)
        await cluster.clock.sleep_ms(1_000)
        assert len(client.acknowledged) > known + 20
        cluster.heal()
        cluster.isolate(old.name)
        await led_anew(cluster, epoch)
        assert not old.engine.primary_run

    play(tmp_path, story, seed)


def reconfigure(cluster: Cluster, durability: Durability) -> None:
    """Every member's configuration is changed and read again."""
    required = len(cluster.names) // 2 if durability is Durability.QUORUM else 0
    for member in cluster.members.values():
        assert member.agent is not None
        rules = member.agent.settings.rules
        member.agent.reconfigure(replace(rules, durability=durability, required=required))


# -- durability async --------------------------------------------------------------------------------------------------


@seeds
def test_a_dead_database_is_given_up_at_once_in_async(tmp_path: Path, seed: int) -> None:
    async def story(cluster: Cluster) -> None:
        client = await serving(cluster)
        old, epoch, began = leader_of(cluster), cluster.register.epoch, cluster.clock.now_ms()
        at_death = old.engine.numbers()
        old.engine.crash()
        new = await led_anew(cluster, epoch)
        await cluster.clock.sleep_ms(1_000)
        assert client.longest_gap_ms(since_ms=began) < 2_000, "nobody waits for the lease"
        lost = cluster.witness.acknowledged.keys() & at_death - new.engine.numbers()
        assert len(lost) <= 10, "what had not been shipped, no more"

    play(tmp_path, story, seed, Plan(durability=Durability.ASYNC))


@seeds
def test_a_hung_agent_costs_leadership_in_async(tmp_path: Path, seed: int) -> None:
    """The guard ends the database when the lease is over; the witness sees that no two acknowledge."""

    async def story(cluster: Cluster) -> None:
        await serving(cluster)
        old, epoch = leader_of(cluster), cluster.register.epoch
        assert old.agent_process is not None
        old.agent_process.gate.shut()
        await led_anew(cluster, epoch)
        assert not old.engine.primary_run
        cluster.heal()
        await cluster.until("whole again", cluster.whole)

    play(tmp_path, story, seed, Plan(durability=Durability.ASYNC))
