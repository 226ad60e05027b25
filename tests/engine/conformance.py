"""What every engine must do, whether real or simulated: one suite for all of them.

An engine's own test module derives a class from `Conformance` and gives it a fixture `bench`. A model that is kinder
than the real thing proves nothing, so what is asked here was seen on the real one first.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from twinstar.engine.base import Engine, RewindResult
from twinstar.model.engine import BLOCKED, EngineState, EngineStatus, Names, Upstream
from twinstar.model.errors import EngineError, ProtocolBreach
from twinstar.model.position import Position
from twinstar.ports.clock import Clock

SHORT_MS = 400.0
"""How long a commit is watched that must not return."""
LONG_MS = 20_000.0
"""How long one that must return may take on a busy machine."""


class Bench(Protocol):
    """Engines under test, and what a client, an administrator or a fault does to their databases."""

    @property
    def clock(self) -> Clock:
        """The time that these engines live in."""
        ...

    def engine(self, member: str) -> Engine:
        """The engine of member ``a``, ``b`` or ``c``, always the same; nothing of it exists at first."""
        ...

    def upstream(self, member: str, epoch: int) -> Upstream: ...

    async def commit(self, member: str, within_ms: float) -> bool:
        """One more row, committed on this member: whether it was acknowledged (without a warning) in time. A client
        that waits no longer closes its socket and does not cancel.
        """
        ...

    async def rows(self, member: str) -> int:
        """How many rows are seen on this member."""
        ...

    async def crash(self, member: str) -> None:
        """Kills the main process, and nothing else."""
        ...

    async def hang(self, member: str) -> None:
        """Stops every process of the database from running, without ending one."""
        ...

    async def put_foreign_data(self, member: str) -> None:
        """Puts something into the data directory that no engine of ours has made."""
        ...


def quiet(_: str) -> None:
    """Nobody is told of progress."""


async def until_status(bench: Bench, member: str, *wanted: EngineStatus) -> EngineState:
    """What is inspected as soon as the status is one of these. Bounded by the test's own time."""
    while (state := await bench.engine(member).inspect()).status not in wanted:
        await bench.clock.sleep_ms(5)
    return state


async def until_told(bench: Bench, member: str) -> EngineState:
    """What is inspected once a database that runs has answered: on a busy machine it may do so too late at first, and
    files alone say little.
    """
    while (state := await bench.engine(member).inspect()).position is None:
        await bench.clock.sleep_ms(5)
    return state


async def new_primary(bench: Bench, member: str = "a") -> Engine:
    engine = bench.engine(member)
    await engine.bootstrap("nonce", quiet)
    return engine


class Alone:
    """One member by itself: its database is made, started, seen, stopped and killed."""

    async def test_nothing_is_there_at_first_and_nothing_is_started(self, bench: Bench) -> None:
        engine = bench.engine("a")
        state = await engine.inspect()
        assert (state.status, state.pid, state.position, state.nonce) == (EngineStatus.ABSENT, None, None, "")
        with pytest.raises(EngineError):
            await engine.start()
        assert not await engine.answers(SHORT_MS)
        await engine.ended()
        await engine.kill()

    async def test_a_new_database_is_a_primary_that_acknowledges_nothing(self, bench: Bench) -> None:
        engine = bench.engine("a")
        identifier = await engine.bootstrap("nonce", quiet)
        state = await until_told(bench, "a")
        assert state.status is EngineStatus.PRIMARY
        assert state.position is not None
        assert state.position.timeline == 1
        assert (state.system_identifier, state.nonce, state.names) == (identifier, "nonce", BLOCKED)
        assert (state.upstream, state.receiving, state.drift, state.restart_pending) == (None, False, (), ())
        assert await engine.answers(LONG_MS)
        assert not await bench.commit("a", SHORT_MS)
        await engine.bootstrap_done()
        assert (await engine.inspect()).nonce == ""

    async def test_bootstrap_begins_anew_over_an_earlier_attempt(self, bench: Bench) -> None:
        engine = bench.engine("a")
        first = await engine.bootstrap("one", quiet)
        second = await engine.bootstrap("two", quiet)
        state = await engine.inspect()
        assert (state.status, state.nonce) == (EngineStatus.PRIMARY, "two")
        assert state.system_identifier == second != first

    async def test_bootstrap_touches_nothing_that_it_did_not_begin(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        await engine.bootstrap_done()
        before = await engine.inspect()
        with pytest.raises(EngineError):
            await engine.bootstrap("another", quiet)
        after = await engine.inspect()
        assert (after.run, after.system_identifier) == (before.run, before.system_identifier)
        await bench.put_foreign_data("b")
        with pytest.raises(EngineError):
            await bench.engine("b").bootstrap("nonce", quiet)

    async def test_an_orderly_stop_says_where_it_stopped_and_start_makes_a_standby(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        running = await until_told(bench, "a")
        assert await engine.stop(LONG_MS)
        stopped = await engine.inspect()
        assert (stopped.status, stopped.pid, stopped.run) == (EngineStatus.STOPPED, None, "")
        assert running.position is not None
        assert stopped.shut_down_at is not None
        assert stopped.shut_down_at >= running.position
        assert stopped.system_identifier == running.system_identifier
        await engine.start()
        state = await until_told(bench, "a")
        assert (state.status, state.upstream, state.receiving) == (EngineStatus.STANDBY, None, False)
        assert state.shut_down_at is None
        assert state.position is not None
        assert state.position >= stopped.shut_down_at
        assert state.run != running.run

    async def test_start_refuses_what_runs_already(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        before = await engine.inspect()
        with pytest.raises(EngineError):
            await engine.start()
        assert (await engine.inspect()).run == before.run

    async def test_kill_leaves_nothing_and_the_next_start_recovers(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        ended = asyncio.create_task(engine.ended())
        await bench.clock.sleep_ms(20)
        assert not ended.done()
        await engine.kill()
        await ended
        state = await engine.inspect()
        assert (state.status, state.shut_down_at) == (EngineStatus.STOPPED, None)
        await engine.kill()
        await engine.start()
        assert (await until_status(bench, "a", EngineStatus.STANDBY)).upstream is None

    async def test_a_crash_is_seen_and_nothing_remains_after_a_kill(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        ended = asyncio.create_task(engine.ended())
        await asyncio.sleep(0)
        await bench.crash("a")
        await ended
        # Its other processes end a moment later, or are still there.
        assert (await engine.inspect()).status in (EngineStatus.REMAINS, EngineStatus.STOPPED)
        await engine.kill()
        assert (await engine.inspect()).status is EngineStatus.STOPPED

    async def test_a_hung_database_does_not_answer_and_is_told_from_files(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        await engine.inspect()
        await bench.hang("a")
        assert not await engine.answers(SHORT_MS)
        state = await engine.inspect()
        assert (state.status, state.position) == (EngineStatus.PRIMARY, None)
        assert state.pid is not None
        await engine.kill()
        assert (await engine.inspect()).status is EngineStatus.STOPPED

    async def test_a_stop_that_cannot_be_done_in_time_says_so(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        await bench.hang("a")
        assert not await engine.stop(SHORT_MS)
        await engine.kill()


class Together:
    """A leader, its standbys, and the steps by which one follows another."""

    async def test_a_sealed_member_is_promoted_to_the_epoch_with_its_names(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        await engine.stop(LONG_MS)
        await engine.start()
        sealed = await engine.seal()
        assert sealed.timeline == 1
        names = Names(5, frozenset({"b"}), 1)
        began = await engine.promote(5, names)
        assert began.timeline == 5
        state = await until_told(bench, "a")
        assert (state.status, state.names) == (EngineStatus.PRIMARY, names)
        assert not await bench.commit("a", SHORT_MS)

    async def test_a_clone_follows_and_its_confirmation_lets_commits_return(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        assert not await bench.commit("a", SHORT_MS)
        standby = await self._attached_clone(bench, "b", epoch=1)
        assert await bench.commit("a", LONG_MS)
        (attached,) = [each for each in (await leader.primary()).attachments if each.member == "b"]
        assert (attached.epoch, attached.genuine, attached.streaming) == (1, True, True)
        state = await standby.inspect()
        assert (state.status, state.upstream) == (EngineStatus.STANDBY, ("a", 1))
        await standby.detach()
        assert not await bench.commit("a", SHORT_MS)
        assert (await standby.inspect()).upstream is None

    async def test_failover_and_return(self, bench: Bench) -> None:
        """The leader dies, its standby is sealed and promoted, and the old leader follows it again."""
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        standby = await self._attached_clone(bench, "b", epoch=1)
        assert await bench.commit("a", LONG_MS)
        await leader.kill()
        await standby.seal()
        began = await standby.promote(2, Names(2, frozenset({"a"}), 1))
        assert began.timeline == 2
        assert await bench.rows("b") >= 1
        await standby.keep_slots(frozenset({"a", "b"}))
        await self._rejoin(bench, "a", "b", epoch=2)
        assert await bench.commit("b", LONG_MS)

    async def test_names_for_nobody_let_commits_return_at_once(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        alone = Names(1, frozenset(), 0)
        await leader.open_names(alone)
        assert await bench.commit("a", LONG_MS)
        assert (await leader.inspect()).names == alone
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        assert not await bench.commit("a", SHORT_MS)

    async def test_no_epoch_is_begun_twice_or_backwards(self, bench: Bench) -> None:
        engine = await new_primary(bench)
        await self._sealed_again(engine)
        await engine.promote(5, Names(5, frozenset({"b"}), 1))
        sealed = await self._sealed_again(engine)
        assert sealed.timeline == 5
        for epoch in (5, 3):
            with pytest.raises(ProtocolBreach):
                await engine.promote(epoch, Names(epoch, frozenset({"b"}), 1))
        assert (await until_told(bench, "a")).status is EngineStatus.STANDBY
        assert (await engine.promote(6, Names(6, frozenset({"b"}), 1))).timeline == 6

    async def test_a_start_forgets_whom_to_follow_and_who_may_confirm(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset(), 0))
        standby = await self._attached_clone(bench, "b", epoch=1)
        await standby.kill()
        await standby.start()
        assert (await standby.inspect()).upstream is None
        await self._sealed_again(leader)
        await leader.promote(2, Names(2, frozenset({"b"}), 1))
        assert not await bench.commit("a", SHORT_MS)

    async def test_confirmations_count_for_their_epoch_alone(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        standby = await self._attached_clone(bench, "b", epoch=1)
        assert await bench.commit("a", LONG_MS)
        before = (await leader.primary()).position
        assert await leader.open_names(Names(2, frozenset({"b"}), 1)) > before
        assert not await bench.commit("a", SHORT_MS)
        await standby.follow(bench.upstream("a", 2))
        assert await bench.commit("a", LONG_MS)
        assert {each.epoch for each in await leader.attachments() if each.member == "b"} == {2}

    async def test_a_sender_that_was_ended_comes_back_by_itself(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        await self._attached_clone(bench, "b", epoch=1)
        assert await bench.commit("a", LONG_MS)
        ended = frozenset(each.pid for each in await leader.attachments())
        await leader.end_walsenders(ended)
        assert await bench.commit("a", LONG_MS)
        # In its last moment a sender may still have taken the confirmation.
        while ended & {each.pid for each in await leader.attachments()}:
            await bench.clock.sleep_ms(5)

    async def test_a_diverged_leader_loses_what_nobody_confirmed(self, bench: Bench) -> None:
        leader = await new_primary(bench)
        await leader.keep_slots(frozenset({"a", "b"}))
        await leader.open_names(Names(1, frozenset({"b"}), 1))
        standby = await self._attached_clone(bench, "b", epoch=1)
        assert await bench.commit("a", LONG_MS)
        await standby.seal()
        assert not await bench.commit("a", SHORT_MS)
        await standby.promote(2, Names(2, frozenset({"a"}), 1))
        confirmed = await bench.rows("b")
        await standby.keep_slots(frozenset({"a", "b"}))
        await leader.kill()
        await self._rejoin(bench, "a", "b", epoch=2)
        assert await bench.commit("b", LONG_MS)
        assert await bench.rows("b") == confirmed + 1
        await self._replayed(bench, "a", confirmed + 1)

    async def _replayed(self, bench: Bench, member: str, rows: int) -> None:
        """Waits until a standby shows as many rows, and never more."""
        while (seen := await bench.rows(member)) < rows:
            await bench.clock.sleep_ms(5)
        assert seen == rows

    async def _sealed_again(self, engine: Engine) -> Position:
        assert await engine.stop(LONG_MS)
        await engine.start()
        return await engine.seal()

    async def _attached_clone(self, bench: Bench, member: str, epoch: int) -> Engine:
        engine = bench.engine(member)
        upstream = bench.upstream("a", epoch)
        await engine.clone(upstream, quiet)
        assert (await engine.inspect()).status is EngineStatus.STOPPED
        await engine.start()
        await engine.follow(upstream)
        return engine

    async def _rejoin(self, bench: Bench, member: str, leader: str, epoch: int) -> None:
        engine, upstream = bench.engine(member), bench.upstream(leader, epoch)
        await engine.start()
        held = await engine.seal()
        branch = await engine.branch(upstream)
        if not branch.contains(held):
            assert await engine.stop(LONG_MS)
            if await engine.rewind(upstream, quiet) is RewindResult.IMPOSSIBLE:
                await engine.clone(upstream, quiet)
            await engine.start()
        await engine.follow(upstream)


class Conformance(Alone, Together):
    """Everything."""
