"""What the design believes about PostgreSQL and the protocol rests on: asked of real servers, and of the model of one.

A model that is kinder than the real thing proves nothing. Each test is one fact; numbers in docstrings are those by
which other places refer to it. What is here is said of bare servers, without our engine.

Not asked of the model, with the reason: what a session shows and does (2, 6, 7, 18-20, 22), since it has neither
sessions nor SQL; how soon what comes (9-13, 33), since its durations are invented; logical replication (14-17); how
processes are found, reaped and started again in place (7, 8, 30), which are affairs of the engine and of `ports`; the
proof by `restore_command`, which is the engine's. These are in `postgresql/test_facts.py` alone. That the received end
may lie inside a record (32), and what a dead main process's others still do, need other means on each side: they are
asked twice.
"""

from __future__ import annotations

from typing import Protocol

from twinstar.model.position import Position

NOT_YET_MS = 250.0
"""How long something is watched that must not happen. What may happen does so within a few milliseconds."""


class Commit(Protocol):
    """A row that is being written."""

    async def returns(self, within_ms: float) -> bool:
        """Whether it was acknowledged in time; False also for an error."""
        ...

    async def leave(self) -> None:
        """The client closes its socket, and cancels nothing."""
        ...


class Bench(Protocol):
    """Servers ``a``, ``b`` and ``c``, and what somebody does to them who knows what they do."""

    async def cluster(self, *members: str) -> None:
        """The first runs as a primary on timeline 1 on which no name is set; the others stream from it, untagged."""
        ...

    async def set_names(self, member: str, *names: str) -> None:
        """``ANY 1 (names)``; a new session shows it."""
        ...

    async def begin(self, member: str, row: int) -> Commit: ...
    async def has(self, member: str, row: int) -> bool: ...
    async def fill(self, member: str, rows: int) -> None:
        """Writes other rows than those that tests name, and waits for no standby."""
        ...

    async def caught_up(self, standby: str, leader: str) -> None:
        """Returns when the standby has flushed everything."""
        ...

    async def attach(self, standby: str, leader: str, name: str = "") -> None:
        """Sets the upstream, of a running standby or of a stopped one, to be known there as `name`."""
        ...

    async def clear_upstream(self, standby: str) -> None:
        """Sets that there is none, and does nothing else about it."""
        ...

    async def park(self, standby: str) -> None:
        """Without upstream and receiver, and everything is replayed."""
        ...

    async def end_receiver(self, standby: str) -> None: ...
    async def is_receiving(self, standby: str) -> bool: ...
    async def kill(self, member: str) -> None:
        """All its processes."""
        ...

    async def start(self, member: str) -> None:
        """As a standby, with the settings that it has; returns when it accepts connections."""
        ...

    async def start_anyhow(self, member: str) -> None:
        """Begins to, and returns at once."""
        ...

    async def accepts(self, member: str) -> bool: ...
    async def stop(self, member: str) -> None:
        """Asks for an orderly stop, and does not wait for it."""
        ...

    async def is_running(self, member: str) -> bool: ...
    async def freeze(self, member: str) -> None:
        """Stops its processes, and does not end them."""
        ...

    async def promote(self, member: str) -> None:
        """Asks for it, and does not wait."""
        ...

    async def is_primary(self, member: str) -> bool: ...
    async def reserve(self, member: str, *timelines: int) -> None:
        """Puts empty history files there."""
        ...

    async def unreserve(self, member: str, *timelines: int) -> None: ...
    async def position(self, member: str) -> Position:
        """As IDENTIFY_SYSTEM tells."""
        ...

    async def hold_replay(self, standby: str, leader: str) -> None:
        """A session on the standby does, from now on."""
        ...

    async def release_replay(self, standby: str) -> None:
        """That session ends."""
        ...

    async def stop_checkpointer(self, member: str) -> None: ...
    async def continue_checkpointer(self, member: str) -> None: ...
    async def pretend(self, member: str, name: str) -> None:
        """Somebody receives log under that name who is no standby."""
        ...

    async def pause(self, duration_ms: float) -> None: ...


async def promoted(bench: Bench, member: str) -> None:
    await bench.promote(member)
    while not await bench.is_primary(member):
        await bench.pause(3)


async def seen(bench: Bench, member: str, row: int) -> None:
    """Waits until it is. Bounded by the test's own time."""
    while not await bench.has(member, row):
        await bench.pause(3)


async def left_alone(bench: Bench, *standbys: str) -> None:
    """The leader is stopped in order, so that all have the same log, and they are parked."""
    await bench.stop("a")
    while await bench.is_running("a"):
        await bench.pause(3)
    for standby in standbys:
        await bench.park(standby)


async def committed(bench: Bench, member: str, row: int, within_ms: float = 15_000) -> bool:
    return await (await bench.begin(member, row)).returns(within_ms)


class Sealing:
    async def test_clearing_the_upstream_does_not_end_acknowledgements_while_a_query_holds_up_replay(
        self, facts: Bench
    ) -> None:
        """Fact 1, first half."""
        await facts.cluster("a", "b")
        await facts.set_names("a", "b")
        await facts.hold_replay("b", "a")
        await facts.clear_upstream("b")
        await facts.pause(NOT_YET_MS)
        assert await facts.is_receiving("b")
        assert [await committed(facts, "a", row) for row in (1, 2, 3)] == [True] * 3
        assert not await facts.has("b", 1)

    async def test_ending_the_receiver_ends_acknowledgements_also_while_a_query_holds_up_replay(
        self, facts: Bench
    ) -> None:
        """Fact 1, second half: and it does not come back once the startup process has read the setting."""
        await facts.cluster("a", "b")
        await facts.set_names("a", "b")
        await facts.hold_replay("b", "a")
        await facts.clear_upstream("b")
        await facts.end_receiver("b")
        waiting = await facts.begin("a", 1)
        assert not await waiting.returns(NOT_YET_MS)
        await facts.release_replay("b")
        await facts.park("b")
        assert not await facts.is_receiving("b")
        assert not await waiting.returns(NOT_YET_MS)
        assert not await facts.has("b", 1)

    async def test_promotion_waits_for_sessions_that_hold_up_replay(self, facts: Bench) -> None:
        """Fact 1: they must be ended before promoting."""
        await facts.cluster("a", "b")
        await facts.hold_replay("b", "a")
        await facts.clear_upstream("b")
        await facts.end_receiver("b")
        await facts.promote("b")
        await facts.pause(NOT_YET_MS)
        assert not await facts.is_primary("b")
        await facts.release_replay("b")
        while not await facts.is_primary("b"):
            await facts.pause(3)

    async def test_a_crash_does_not_lose_what_was_received_before_it_was_replayed(self, facts: Bench) -> None:
        """Facts 3 and 29: afterwards the position is final only at the end of the local log."""
        await facts.cluster("a", "b")
        await facts.hold_replay("b", "a")
        await facts.fill("a", 3_000)
        await facts.caught_up("b", "a")
        end = await facts.position("a")
        await facts.kill("a")
        await facts.kill("b")
        await facts.clear_upstream("b")
        await facts.start("b")
        while await facts.position("b") < end:
            await facts.pause(3)
        assert await facts.position("b") == end


class Timelines:
    async def test_two_promotions_from_one_parent_take_the_same_timeline(self, facts: Bench) -> None:
        """Facts 4 and 27: and nothing tells the two apart; the one attaches to the other and keeps rows of its own."""
        await facts.cluster("a", "b", "c")
        assert await committed(facts, "a", 1)
        await seen(facts, "b", 1)
        await seen(facts, "c", 1)
        await left_alone(facts, "b", "c")
        for standby, row in (("b", 100), ("c", 200)):
            await promoted(facts, standby)
            assert await committed(facts, standby, row)
        assert (await facts.position("b")).timeline == (await facts.position("c")).timeline == 2
        await facts.kill("b")
        await facts.fill("c", 2_000)
        await facts.attach("b", "c")
        await facts.start("b")
        await facts.pause(NOT_YET_MS)
        assert await facts.has("b", 100)
        assert not await facts.has("c", 100)
        assert not await facts.has("b", 200)

    async def test_a_promotion_takes_the_number_after_the_placeholders(self, facts: Bench) -> None:
        """Facts 4 and 26: followers and the next promotion live with empty history files."""
        await facts.cluster("a", "b", "c")
        await left_alone(facts, "b", "c")
        await facts.reserve("b", 2, 3, 4, 5, 6)
        await promoted(facts, "b")
        assert (await facts.position("b")).timeline == 7
        assert await committed(facts, "b", 2)
        await facts.attach("c", "b")
        await seen(facts, "c", 2)
        await facts.reserve("c", 8)
        await facts.park("c")
        await promoted(facts, "c")
        assert (await facts.position("c")).timeline == 9

    async def test_placeholders_above_the_own_timeline_make_a_start_hang_for_ever(self, facts: Bench) -> None:
        """The highest history file is taken for the timeline to recover to; being empty it has no parents, so not even
        the own checkpoint is looked for on the own timeline. No error, no exit. They must go before a start: while it
        hangs it is too late.
        """
        await facts.cluster("a", "b")
        await facts.park("b")
        await facts.kill("b")
        await facts.reserve("b", 2, 3, 4)
        await facts.start_anyhow("b")
        await facts.pause(4 * NOT_YET_MS)
        assert await facts.is_running("b")
        assert not await facts.accepts("b")
        await facts.unreserve("b", 2, 3, 4)
        await facts.pause(NOT_YET_MS)
        assert not await facts.accepts("b")
        await facts.kill("b")
        await facts.attach("b", "a")
        await facts.start("b")
        assert await committed(facts, "a", 1)
        await seen(facts, "b", 1)

    async def test_placeholders_below_the_own_timeline_do_no_harm_at_a_start(self, facts: Bench) -> None:
        """Fact 26: a leader keeps them, restarts as a standby and is promoted again."""
        await facts.cluster("a", "b")
        await facts.park("b")
        await facts.kill("a")
        await facts.reserve("b", 2, 3, 4)
        await promoted(facts, "b")
        assert await committed(facts, "b", 1)
        await facts.kill("b")
        await facts.start("b")
        assert (await facts.position("b")).timeline == 5
        await promoted(facts, "b")
        assert (await facts.position("b")).timeline == 6
        assert await facts.has("b", 1)

    async def test_a_follower_asks_for_every_history_file_between_its_timeline_and_the_leaders(
        self, facts: Bench
    ) -> None:
        """So a leader needs a file for every number below its own, also one that was cloned and never had them."""
        await facts.cluster("a", "b", "c")
        await left_alone(facts, "b", "c")
        await facts.reserve("b", 2, 3)
        await promoted(facts, "b")
        await facts.unreserve("b", 2, 3)
        assert await committed(facts, "b", 1)
        await facts.attach("c", "b")
        await facts.pause(2 * NOT_YET_MS)
        assert not await facts.has("c", 1)
        await facts.reserve("b", 2, 3)
        await seen(facts, "c", 1)


class Counting:
    async def test_a_diverged_standby_that_attaches_is_counted(self, facts: Bench) -> None:
        """Fact 23: the commit returns, and the standby does not have the row."""
        await facts.cluster("a", "b", "c")
        await facts.park("b")
        await facts.fill("a", 2_000)
        await facts.caught_up("c", "a")
        await facts.kill("a")
        await facts.set_names("b", "c")
        await promoted(facts, "b")
        await facts.attach("c", "b")
        assert await committed(facts, "b", 1)
        assert not await facts.has("c", 1)

    async def test_an_old_leader_that_was_not_rewound_is_counted(self, facts: Bench) -> None:
        """Fact 23 for the old leader itself."""
        await facts.cluster("a", "b")
        await facts.park("b")
        await facts.fill("a", 2_000)
        await facts.kill("a")
        await facts.set_names("b", "a")
        await promoted(facts, "b")
        await facts.attach("a", "b")
        await facts.start("a")
        assert await committed(facts, "b", 1)
        assert not await facts.has("a", 1)

    async def test_a_standby_counts_only_under_the_name_it_attached_with(self, facts: Bench) -> None:
        """Fact 24: tagged with the epoch, an attachment of an earlier epoch does not count."""
        await facts.cluster("a", "b")
        await facts.set_names("a", "b@3")
        waiting = await facts.begin("a", 1)
        assert not await waiting.returns(NOT_YET_MS)
        await facts.attach("b", "a", "b@3")
        assert await waiting.returns(10_000)

    async def test_a_connection_that_merely_calls_itself_by_the_name_is_counted(self, facts: Bench) -> None:
        """Facts 5 and 34: so name, slot, role and pid are compared."""
        await facts.cluster("a", "b")
        await facts.set_names("a", "b")
        await facts.kill("b")
        waiting = await facts.begin("a", 1)
        assert not await waiting.returns(NOT_YET_MS)
        await facts.pretend("a", "b")
        assert await waiting.returns(10_000)

    async def test_a_standby_left_alone_follows_its_old_upstream_onto_a_later_timeline(self, facts: Bench) -> None:
        """Fact 28: it reconnects to whoever answers at the address."""
        await facts.cluster("a", "b")
        await facts.kill("a")
        await facts.start("a")
        await promoted(facts, "a")
        assert await committed(facts, "a", 5)
        await seen(facts, "b", 5)
        assert (await facts.position("a")).timeline == 2

    async def test_a_standby_shows_a_row_after_it_was_counted(self, facts: Bench) -> None:
        """What is flushed is confirmed; what is replayed is seen."""
        await facts.cluster("a", "b")
        await facts.set_names("a", "b")
        await facts.hold_replay("b", "a")
        assert await committed(facts, "a", 1)
        assert not await facts.has("b", 1)
        await facts.release_replay("b")
        await seen(facts, "b", 1)

    async def test_an_orderly_stop_waits_for_a_connected_standby(self, facts: Bench) -> None:
        """So a stop has a deadline, and who lags is disconnected before."""
        await facts.cluster("a", "b")
        await facts.freeze("b")
        await facts.stop("a")
        await facts.pause(3 * NOT_YET_MS)
        assert await facts.is_running("a")
        await facts.kill("b")
        while await facts.is_running("a"):
            await facts.pause(3)


class Settings:
    async def test_from_no_names_a_commit_waits_only_after_the_checkpointer_has_read_them(self, facts: Bench) -> None:
        """Fact 25: although a new session shows the new value."""
        await facts.cluster("a")
        await facts.stop_checkpointer("a")
        await facts.set_names("a", "b")
        assert await committed(facts, "a", 1)
        await facts.continue_checkpointer("a")
        row = 2
        while await committed(facts, "a", row, 100):
            row += 1

    async def test_from_some_names_to_others_commits_wait_at_every_moment(self, facts: Bench) -> None:
        """Fact 31."""
        await facts.cluster("a")
        await facts.set_names("a", "nobody@0")
        row = 2
        while await committed(facts, "a", row, 100):
            row += 1
        await facts.stop_checkpointer("a")
        await facts.set_names("a", "b@2")
        waiting = await facts.begin("a", 1)
        assert not await waiting.returns(NOT_YET_MS)
        await facts.continue_checkpointer("a")
        assert not await waiting.returns(NOT_YET_MS)

    async def test_names_set_before_a_promotion_hold_its_first_commit(self, facts: Bench) -> None:
        """Promotion never goes from no names to some."""
        await facts.cluster("a", "b")
        await facts.set_names("b", "nobody@0")
        await facts.park("b")
        await facts.kill("a")
        await facts.set_names("b", "c@2")
        await promoted(facts, "b")
        assert not await committed(facts, "b", 1, NOT_YET_MS)

    async def test_a_commit_whose_client_has_left_goes_on_waiting_and_is_shown_when_it_is_confirmed(
        self, facts: Bench
    ) -> None:
        """Fact 6, for a closed socket: the row is there, on this member, and nobody sees it."""
        await facts.cluster("a", "b")
        await facts.park("b")
        await facts.set_names("a", "b")
        waiting = await facts.begin("a", 1)
        assert not await waiting.returns(NOT_YET_MS)
        await waiting.leave()
        await facts.pause(NOT_YET_MS)
        assert not await facts.has("a", 1)
        await facts.attach("b", "a")
        await seen(facts, "a", 1)
        await seen(facts, "b", 1)

    async def test_a_commit_that_still_waited_is_shown_after_a_restart(self, facts: Bench) -> None:
        """Fact 30: nobody knows any more that it was waited for."""
        await facts.cluster("a")
        await facts.set_names("a", "nobody@0")
        row = 1
        while await committed(facts, "a", row, 100):
            row += 1
        assert not await facts.has("a", row)
        await facts.kill("a")
        await facts.start("a")
        await seen(facts, "a", row)


class Facts(Sealing, Timelines, Counting, Settings):
    """All of them."""
