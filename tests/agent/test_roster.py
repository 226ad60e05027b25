"""Who is in, as the agent of a node holds it: lost races, answers that never come, old news, a store that is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from twinstar.agent.active_active.roster import Roster
from twinstar.model.errors import PeerError
from twinstar.model.membership import KEY, SCHEMA, Membership, Node, NodeState
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.store.base import ABSENT, Applied, Versioned

FOUNDED = Membership(1, (Node(1, "n1", NodeState.IN),), 2, "n1:0", "founded")
UNREADABLE = json.dumps({**json.loads(FOUNDED.encode()), "schema": SCHEMA + 1, "epoch": 2}).encode()
LATE_MS = 300.0


def joined(before: Membership, member: str) -> Membership:
    return before.having(Node(before.next_number, member, NodeState.JOINING, 1), f"{member} joins")


@dataclass
class World:
    """One node's hold on a store, and another client of that store."""

    roster: Roster
    own: MemoryStore
    server: MemoryServer
    other: MemoryStore
    clock: VirtualClock

    async def stored(self) -> Versioned:
        found = await self.other.read(KEY)
        assert found is not None
        return found

    async def put(self, membership: Membership) -> None:
        """By another node, whatever stands there."""
        found = await self.other.read(KEY)
        revision = found.revision if found else ABSENT
        assert isinstance(await self.other.compare_and_set(KEY, membership.encode(), revision), Applied)

    async def passed(self) -> None:
        """What is on its way arrives."""
        await self.clock.sleep_ms(3_000)


Story = Callable[[World], Awaitable[None]]


def told(story: Story, first: bytes | None = FOUNDED.encode()) -> None:
    """A roster that follows a store with `first` as its membership."""
    loop = VirtualLoop()
    clock, randomness = VirtualClock(loop), SeededRandomness(1)

    async def main() -> None:
        server = MemoryServer()
        own, other = (MemoryStore(server, "c", clock, randomness) for _ in range(2))
        if first is not None:
            await other.compare_and_set(KEY, first, ABSENT)
        roster = Roster(own, "n2", clock, randomness, lambda: None)
        tasks = [asyncio.ensure_future(each) for each in (roster.follow(), roster.look())]
        world = World(roster, own, server, other, clock)
        await world.passed()
        await story(world)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await server.close()

    run_virtually(main(), loop)


def test_a_change_stands_and_the_others_see_it() -> None:
    async def story(world: World) -> None:
        assert await world.roster.change(joined(FOUNDED, "n2"))
        assert (await world.stored()).value == (world.roster.membership or FOUNDED).encode()
        assert world.roster.membership is not None
        assert world.roster.membership.nonce.startswith("n2:")
        assert world.roster.membership.of("n2") is not None

    told(story)


def test_a_first_membership_is_made_once() -> None:
    async def story(world: World) -> None:
        assert (world.roster.seen, world.roster.membership) == (True, None)
        await world.other.compare_and_set(KEY, FOUNDED.encode(), ABSENT)
        mine = Membership(1, (Node(1, "n2", NodeState.JOINING),), 2, reason="founded")
        assert not await world.roster.change(mine)
        assert world.roster.membership == FOUNDED

    told(story, None)


def test_who_loses_a_race_takes_over_what_won() -> None:
    async def story(world: World) -> None:
        world.own.faults.watch_delay_ms = (500, 500)
        won = joined(FOUNDED, "n3")
        await world.put(won)
        assert not await world.roster.change(joined(FOUNDED, "n2"))
        assert world.roster.membership == won
        assert (await world.stored()).value == won.encode()

    told(story)


def test_a_change_made_from_an_older_membership_is_not_tried() -> None:
    """Both have the number 2: tried on the revision seen since, it would take the other's place."""

    async def story(world: World) -> None:
        mine = joined(FOUNDED, "n2")
        won = joined(FOUNDED, "n3")
        await world.put(won)
        await world.passed()
        assert not await world.roster.change(mine)
        assert (await world.stored()).value == won.encode()

    told(story)


def test_a_lost_answer_is_settled_and_the_change_stands() -> None:
    async def story(world: World) -> None:
        world.own.faults.lose_answer = 1.0
        world.own.faults.break_watch = 1.0  # else the watch would settle it
        changing = asyncio.ensure_future(world.roster.change(joined(FOUNDED, "n2")))
        await world.clock.sleep_ms(5_000)
        assert not changing.done()
        assert (world.roster.ok, world.roster.membership) == (False, FOUNDED)
        world.own.faults.lose_answer = 0.0
        assert await changing
        assert world.roster.membership is not None
        assert world.roster.membership.of("n2") is not None
        assert (world.roster.ok, world.roster.trouble) == (True, "")

    told(story)


def test_a_lost_request_is_settled_and_the_change_does_not_stand() -> None:
    async def story(world: World) -> None:
        world.own.faults.lose_request = 1.0
        changing = asyncio.ensure_future(world.roster.change(joined(FOUNDED, "n2")))
        await world.clock.sleep_ms(1_100)
        world.own.faults.lose_request = 0.0
        assert not await changing
        assert world.roster.membership is not None
        assert world.roster.membership.nodes == FOUNDED.nodes
        assert world.roster.membership.nonce != FOUNDED.nonce, "the revision has moved: the lost one can never apply"

    told(story)


def test_a_request_that_arrives_after_it_was_settled_does_nothing() -> None:
    async def story(world: World) -> None:
        world.own.faults.late_request, world.own.faults.late_ms = 1.0, (LATE_MS, LATE_MS)
        changing = asyncio.ensure_future(world.roster.change(joined(FOUNDED, "n2")))
        await world.clock.sleep_ms(500)
        world.own.faults.late_request = 0.0
        assert not await changing
        settled = await world.stored()
        await world.passed()
        assert await world.stored() == settled
        assert world.roster.membership is not None
        assert world.roster.membership.nodes == FOUNDED.nodes
        assert await world.roster.change(joined(FOUNDED, "n2")), "and it can be tried again"

    told(story)


def test_a_first_membership_that_arrives_late_is_the_one() -> None:
    async def story(world: World) -> None:
        world.own.faults.late_request, world.own.faults.late_ms = 1.0, (LATE_MS, LATE_MS)
        changing = asyncio.ensure_future(world.roster.change(replace(FOUNDED, reason="mine")))
        await world.clock.sleep_ms(500)
        world.own.faults.late_request = 0.0
        assert not await changing
        early = world.roster.membership
        await world.passed()
        assert early is None
        assert world.roster.membership is not None
        assert world.roster.membership.reason == "mine"

    told(story, None)


def test_another_nodes_change_settles_an_unknown_outcome() -> None:
    async def story(world: World) -> None:
        world.own.faults.lose_request = 1.0
        changing = asyncio.ensure_future(world.roster.change(joined(FOUNDED, "n2")))
        await world.clock.sleep_ms(500)
        won = joined(FOUNDED, "n3")
        await world.put(won)
        world.own.faults.lose_request = 0.0
        assert not await changing
        assert world.roster.membership == won

    told(story)


def test_old_news_changes_nothing() -> None:
    """What was changed meanwhile is known by the change's own answer; the watch tells of the version before later."""

    async def story(world: World) -> None:
        third = joined(FOUNDED, "n3")
        seen: list[int] = []
        world.own.faults.watch_delay_ms = (500, 500)
        await world.put(third)
        assert not await world.roster.change(joined(FOUNDED, "n2"))  # it learns of the other's by its conflict
        assert await world.roster.change(third.without(2, "n3 never came"))
        for _ in range(100):
            await world.clock.sleep_ms(20)
            assert world.roster.membership is not None
            seen.append(world.roster.membership.epoch)
        assert set(seen) == {3}

    told(story)


def test_a_store_that_is_away_is_noticed_and_believed_again_once_it_answers() -> None:
    async def story(world: World) -> None:
        world.server.stop()
        changing = asyncio.ensure_future(world.roster.change(joined(FOUNDED, "n2")))
        await world.clock.sleep_ms(10_000)
        assert (world.roster.ok, world.roster.membership) == (False, FOUNDED)
        assert world.roster.trouble != ""
        assert not changing.done()
        world.server.start()
        await changing
        await world.passed()
        assert (world.roster.ok, world.roster.trouble) == (True, "")

    told(story)


def test_a_store_that_hangs_is_noticed_while_nothing_is_asked_of_it() -> None:
    async def story(world: World) -> None:
        world.own.faults.cut_off = True
        await world.clock.sleep_ms(5_000)
        assert not world.roster.ok
        world.own.faults.cut_off = False
        await world.clock.sleep_ms(5_000)
        assert (world.roster.ok, world.roster.trouble) == (True, "")

    told(story)


def test_a_membership_that_is_gone_is_said_what_was_known_stays_and_nothing_is_changed() -> None:
    async def story(world: World) -> None:
        await world.other.delete(KEY)
        await world.passed()
        assert "no membership" in world.roster.misfit
        world.server.stop()
        await world.clock.sleep_ms(100)
        world.server.start()
        await world.passed()
        assert "no membership" in world.roster.misfit, "also after contact was lost"
        assert world.roster.membership == FOUNDED
        with pytest.raises(PeerError):
            await world.roster.change(joined(FOUNDED, "n2"))
        assert await world.other.read(KEY) is None

    told(story)


def test_a_store_that_went_back_to_an_older_membership_is_said_and_not_believed() -> None:
    async def story(world: World) -> None:
        second = joined(FOUNDED, "n3")
        await world.put(second)
        await world.passed()
        world.server.stop()
        backup = MemoryServer()
        await MemoryStore(backup, "c", world.clock, SeededRandomness(2)).compare_and_set(KEY, FOUNDED.encode(), ABSENT)
        vars(world.server).update(vars(backup))  # It is started again, with what the backup has.
        await world.passed()
        assert "older membership" in world.roster.misfit
        assert world.roster.membership == second
        with pytest.raises(PeerError):
            await world.roster.change(joined(second, "n2"))
        assert (await world.stored()).value == FOUNDED.encode()

    told(story)


@pytest.mark.parametrize("runs_already", [True, False])
def test_a_membership_of_another_version_is_said_and_is_no_empty_store(runs_already: bool) -> None:
    async def story(world: World) -> None:
        if runs_already:
            await world.other.compare_and_set(KEY, UNREADABLE, (await world.stored()).revision)
            await world.passed()
        assert f"version {SCHEMA + 1}" in world.roster.misfit
        assert world.roster.seen is runs_already
        assert (world.roster.membership is not None) is runs_already
        await world.put(joined(FOUNDED, "n3"))
        await world.passed()
        assert (world.roster.misfit, world.roster.seen) == ("", True)
        assert world.roster.membership == joined(FOUNDED, "n3")

    told(story, FOUNDED.encode() if runs_already else UNREADABLE)
