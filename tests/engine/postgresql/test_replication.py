"""Sealing, promoting, following, rewinding and cloning real PostgreSQL members."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.engine.conformance import quiet, until_told
from tests.engine.postgresql.bench import PostgresqlBench
from tests.stopping import stop
from twinstar.engine.base import RewindResult
from twinstar.engine.postgresql.connections import connect, remote_parameters
from twinstar.engine.postgresql.files import keep_durably
from twinstar.engine.postgresql.forks import DESCRIPTION, fork_of
from twinstar.engine.postgresql.history_files import history_file, parse_history, place_holders
from twinstar.engine.postgresql.process_control import start
from twinstar.engine.postgresql.settings import REPLICATION_ROLE
from twinstar.engine.postgresql.slots import slot_name
from twinstar.model.engine import EngineStatus, Names
from twinstar.model.errors import EngineError, EpochSpent, ProtocolBreach
from twinstar.model.position import Branch, Position, format_lsn

NOT_YET_MS = 250.0
LONG_MS = 20_000.0
ALONE = Names(1, frozenset(), 0)
B_CONFIRMS = Names(1, frozenset({"b"}), 1)


async def pair(bench: PostgresqlBench, *standbys: str, names: Names = B_CONFIRMS) -> None:
    """Member a leads epoch 1, the others are attached to it."""
    await bench.given_primary("a")
    await bench.engine("a").keep_slots(frozenset({"a", "b", "c"}))
    for member in standbys or ("b",):
        # As good as a clone, and quicker: everyone begins with the same copy.
        await bench.given_copy(member)
        await bench.engine(member).start()
        await bench.engine(member).follow(bench.upstream("a", 1))
    await bench.engine("a").open_names(names)
    assert await bench.commit("a", LONG_MS)
    for member in standbys:  # those whose confirmation the commit did not need
        await bench.until(partial(has_all, bench, "a", member))


async def streams(bench: PostgresqlBench, leader: str, member: str) -> bool:
    return any(each.member == member and each.streaming for each in await bench.engine(leader).attachments())


async def has_all(bench: PostgresqlBench, leader: str, member: str) -> bool:
    told = await bench.engine(leader).primary()
    return any(each.member == member and each.flush_lsn >= told.position.lsn for each in told.attachments)


async def received(bench: PostgresqlBench, leader: str, member: str) -> Position:
    """The leader's end, once the member has it. More may come at any time: a leader writes a little of its own."""
    end = (await bench.engine(leader).primary()).position

    async def has_it() -> bool:
        attached = await bench.engine(leader).attachments()
        return any(each.member == member and each.flush_lsn >= end.lsn for each in attached)

    await bench.until(has_it)
    return end


async def write_unconfirmed(bench: PostgresqlBench, member: str, rows: int = 100) -> None:
    """Rows that only this member has."""
    async with bench.session(member) as session:
        await session.execute("SET synchronous_commit = local")
        for _ in range(rows):
            await session.execute("INSERT INTO written DEFAULT VALUES")


# -- sealing -----------------------------------------------------------------------------------------------------------


async def test_sealing_ends_acknowledgements_and_sessions_that_hold_up_replay(bench: PostgresqlBench) -> None:
    await pair(bench)
    async with bench.session("b") as reader:
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM written")
        async with bench.session("a") as session:
            await session.execute("SET synchronous_commit = local; DELETE FROM written")
            await session.execute("VACUUM written")
        await bench.until(lambda: _replay_is_held_up(bench, "b"))
        assert await bench.commit("a", LONG_MS)
        position = await bench.engine("b").seal()
        assert not await bench.commit("a", NOT_YET_MS)
        with pytest.raises(psycopg.OperationalError):
            await reader.execute("SELECT 1")
    assert position.timeline == 1

    async def is_behind() -> bool:  # a commit that nobody waits for any more is written all the same
        return position < (await bench.engine("a").primary()).position

    await bench.until(is_behind)
    assert await bench.rows("b") == 1
    assert await bench.engine("b").seal() == position
    await bench.agent_restarts("b")
    assert (await bench.engine("b").inspect()).upstream is None


async def _replay_is_held_up(bench: PostgresqlBench, member: str) -> bool:
    rows = await bench.server(member).query("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'")
    return rows == [("RecoveryConflictSnapshot",)]


async def test_a_sealed_member_that_crashes_finds_the_same_position(bench: PostgresqlBench) -> None:
    await pair(bench)
    position = await bench.engine("b").seal()
    await bench.engine("b").kill()
    await bench.engine("b").start()
    assert await bench.engine("b").seal() == position


async def test_sealing_after_a_crash_finds_everything_that_was_received(bench: PostgresqlBench) -> None:
    await pair(bench)
    await bench.server("b").query("SELECT pg_wal_replay_pause()")
    async with bench.session("a") as session:
        await session.execute("INSERT INTO written SELECT now() FROM generate_series(1, 20000)")
    end = await received(bench, "a", "b")
    await bench.engine("b").kill()
    await bench.engine("b").start()
    assert end <= await bench.engine("b").seal() <= (await bench.engine("a").primary()).position


async def test_a_primary_cannot_be_sealed_and_a_paused_standby_can(bench: PostgresqlBench) -> None:
    await pair(bench)
    with pytest.raises(EngineError, match="primary"):
        await bench.engine("a").seal()
    await bench.server("b").query("SELECT pg_wal_replay_pause()")
    assert await bench.commit("a", LONG_MS)
    end = await received(bench, "a", "b")
    assert end <= await bench.engine("b").seal() <= (await bench.engine("a").primary()).position


async def test_detaching_ends_no_session_and_returns_what_is_held(bench: PostgresqlBench) -> None:
    await pair(bench)
    end = await received(bench, "a", "b")
    async with bench.session("b") as reader:
        held = await bench.engine("b").detach()
        await reader.execute("SELECT 1")
    assert held is not None
    assert end <= held <= (await bench.engine("a").primary()).position
    assert not await bench.commit("a", NOT_YET_MS)
    await bench.engine("b").follow(bench.upstream("a", 1))
    await bench.until(lambda: streams(bench, "a", "b"))
    await bench.engine("b").kill()
    assert await bench.engine("b").detach() is None


async def test_detaching_after_a_crash_waits_for_what_was_received_before_it(bench: PostgresqlBench) -> None:
    """Until it is replayed nobody knows how far the log reaches, and a diverged copy would pass for a prefix."""
    await pair(bench)
    await bench.server("b").query("SELECT pg_wal_replay_pause()")
    assert await bench.commit("a", LONG_MS)
    end = await received(bench, "a", "b")
    await bench.engine("b").kill()
    await start(bench.server("b"), {"recovery_min_apply_delay": "1h"})
    detaching = asyncio.create_task(bench.engine("b").detach())
    await asyncio.wait({detaching}, timeout=2 * NOT_YET_MS / 1000)
    assert not detaching.done()
    bench.server("b").write_settings({"recovery_min_apply_delay": None})
    bench.server("b").reload_signal()
    held = await detaching
    assert held is not None
    assert end <= held <= (await bench.engine("a").primary()).position


async def test_detaching_waits_for_what_was_received_on_a_later_timeline_than_is_replayed(
    bench: PostgresqlBench,
) -> None:
    await pair(bench, "b", "c")
    await bench.engine("a").kill()
    for member in ("b", "c"):
        await bench.engine(member).seal()
    await bench.engine("b").promote(3, Names(3, frozenset({"c"}), 1))
    known = [history_file(bench.server("b").paths.data, timeline) for timeline in (2, 3)]
    wal = bench.server("c").paths.data / "pg_wal"
    copy = ["cp", "-p", *map(str, known), str(wal)]  # so that it asks for the later timeline at once
    await asyncio.to_thread(lambda: subprocess.run(copy, check=True))
    log = bench.server("c").paths.server_log
    await bench.until(lambda: _contains(log, "new target timeline is 3"))
    leader = bench.server("b").postmaster()
    assert leader is not None
    stop(leader)  # so that the receiver is there before anything arrives
    await bench.engine("c").follow(bench.upstream("b", 3))
    await bench.until(lambda: _child(bench, "c", "walreceiver"))
    (startup,) = [each.pid for each in bench.server("c").children() if "startup" in each.title]
    stop(startup)
    os.kill(leader, signal.SIGCONT)
    before = (await bench.engine("b").primary()).position
    assert await bench.commit("b", LONG_MS)
    ((_, shown, _, _),) = await bench.server("c").query("IDENTIFY_SYSTEM")
    assert shown == 1, "PostgreSQL shows the timeline that is replayed"
    detaching = asyncio.create_task(bench.engine("c").detach())
    await asyncio.wait({detaching}, timeout=2 * NOT_YET_MS / 1000)
    assert not detaching.done()
    os.kill(startup, signal.SIGCONT)
    # The leader writes a little of its own now and then, so its end may be later by now.
    end = await detaching
    assert end is not None
    assert before < end <= (await bench.engine("b").primary()).position


async def _contains(file: Path, words: str) -> bool:
    return words in file.read_text()


async def _child(bench: PostgresqlBench, member: str, kind: str) -> bool:
    return any(kind in each.title for each in bench.server(member).children())


# -- promotion ---------------------------------------------------------------------------------------------------------


async def test_a_promotion_takes_the_epoch_for_its_timeline_and_its_followers_follow(bench: PostgresqlBench) -> None:
    await pair(bench, "b", "c")
    await bench.engine("a").kill()
    for member in ("b", "c"):
        await bench.engine(member).seal()
    names = Names(7, frozenset({"a", "c"}), 1)
    began = await bench.engine("b").promote(7, names)
    assert began.timeline == 7
    assert await bench.engine("b").promote(7, names) >= began
    assert not await bench.commit("b", NOT_YET_MS)
    branch = await bench.engine("c").branch(bench.upstream("b", 7))
    assert branch.timeline == 7
    assert [timeline for timeline, _ in branch.left_at] == [1]
    await bench.engine("c").follow(bench.upstream("b", 7))
    assert await bench.commit("b", LONG_MS)
    with pytest.raises(ProtocolBreach):
        await bench.engine("b").promote(8, names)


async def test_a_promotion_is_refused_to_one_who_follows_and_for_an_epoch_that_has_begun(
    bench: PostgresqlBench,
) -> None:
    await pair(bench)
    with pytest.raises(EngineError, match="follows"):
        await bench.engine("b").promote(2, ALONE)
    await bench.engine("b").seal()
    with pytest.raises(ProtocolBreach):
        await bench.engine("b").promote(1, ALONE)
    assert (await bench.engine("b").inspect()).status is EngineStatus.STANDBY


async def test_a_promotion_that_did_not_take_place_leaves_nothing_that_hinders(bench: PostgresqlBench) -> None:
    """Placeholders above the own timeline make a start hang."""
    await pair(bench)
    await bench.engine("b").seal()
    place_holders(bench.server("b").paths.data, 6, bench.settings["b"].account)
    await bench.engine("b").kill()
    await bench.engine("b").start()
    await bench.engine("b").seal()
    await bench.engine("b").follow(bench.upstream("a", 1))
    await bench.until(lambda: streams(bench, "a", "b"))
    assert not history_file(bench.server("b").paths.data, 5).exists()


async def test_after_a_promotion_that_was_cut_off_only_a_later_epoch_can_be_begun(bench: PostgresqlBench) -> None:
    """A crash after the history file was written, and before the log has a record of the timeline."""
    await pair(bench)
    await bench.engine("a").kill()
    end = await bench.engine("b").seal()
    await bench.engine("b").kill()
    data, account = bench.server("b").paths.data, bench.settings["b"].account
    begun = f"1\t{format_lsn(end.lsn)}\tno recovery target specified\n"
    keep_durably(history_file(data, 3), begun, account=account)
    await bench.engine("b").start()
    assert await bench.engine("b").seal() == end
    with pytest.raises(EpochSpent):
        await bench.engine("b").promote(3, ALONE)
    assert (await until_told(bench, "b")).status is EngineStatus.STANDBY
    await bench.engine("b").seal()
    assert (await bench.engine("b").promote(4, ALONE)).timeline == 4
    assert await bench.commit("b", LONG_MS)


# -- names -------------------------------------------------------------------------------------------------------------


async def test_from_nobody_to_somebody_commits_wait_as_soon_as_the_names_are_open(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    for _ in range(3):
        await bench.engine("a").open_names(ALONE)
        await bench.until(lambda: bench.commit("a", NOT_YET_MS))
        await bench.engine("a").open_names(B_CONFIRMS)
        assert not await bench.commit("a", NOT_YET_MS)


async def test_a_held_up_log_sender_is_ended_before_names_count_as_open(bench: PostgresqlBench) -> None:
    await pair(bench, "b", "c", names=Names(1, frozenset({"b", "c"}), 1))
    (held_up,) = [each.pid for each in await bench.engine("a").attachments() if each.member == "c"]
    stop(held_up)
    opening = asyncio.create_task(bench.engine("a").open_names(B_CONFIRMS))
    await asyncio.sleep(0.6)
    assert not opening.done()
    os.kill(held_up, signal.SIGCONT)
    await opening
    assert held_up not in {each.pid for each in await bench.engine("a").attachments()}
    await bench.engine("b").detach()
    assert not await bench.commit("a", NOT_YET_MS)


async def test_a_retake_counts_only_those_who_attach_for_the_new_epoch(bench: PostgresqlBench) -> None:
    await pair(bench)
    before = (await bench.engine("a").primary()).position
    end = await bench.engine("a").open_names(Names(2, frozenset({"b"}), 1))
    assert end > before
    assert not await bench.commit("a", NOT_YET_MS)
    await bench.engine("b").follow(bench.upstream("a", 2))
    assert await bench.commit("a", LONG_MS)


# -- attachments and slots ---------------------------------------------------------------------------------------------


async def test_a_connection_under_a_members_name_without_its_slot_is_not_genuine(bench: PostgresqlBench) -> None:
    await pair(bench)
    await bench.engine("b").stop(LONG_MS)
    await bench.until(lambda: _nobody(bench, "a"))
    parameters = remote_parameters(bench.settings["b"], bench.settings["a"].address, REPLICATION_ROLE)
    impostor = await connect({**parameters, "replication": "true", "application_name": "b@1"})
    try:
        end = (await bench.engine("a").primary()).position
        impostor.pgconn.send_query(f"START_REPLICATION {str(end).partition(':')[2]} TIMELINE 1".encode())
        await bench.until(lambda: streams(bench, "a", "b"))
        (attached,) = await bench.engine("a").attachments()
        assert (attached.member, attached.epoch, attached.genuine) == ("b", 1, False)
        await bench.engine("a").end_walsenders(frozenset({attached.pid, os.getpid()}))
        await bench.until(lambda: _nobody(bench, "a"))
    finally:
        impostor.pgconn.finish()


async def _nobody(bench: PostgresqlBench, member: str) -> bool:
    return not await bench.engine(member).attachments()


async def slots_of(bench: PostgresqlBench, member: str) -> dict[str, str]:
    return dict(
        await bench.server(member).query("SELECT slot_name, restart_lsn::text FROM pg_replication_slots ORDER BY 1")
    )


async def test_slots_stand_on_standbys_too_follow_the_leaders_and_go_with_their_members(
    bench: PostgresqlBench,
) -> None:
    await pair(bench, "b", "c", names=Names(1, frozenset({"b", "c"}), 1))
    everybody = frozenset({"a", "b", "c"})
    await bench.engine("b").keep_slots(everybody)
    first = await slots_of(bench, "b")
    assert set(first) == {slot_name("a"), slot_name("c")}
    await write_unconfirmed(bench, "a")
    end = (await bench.engine("a").primary()).position.lsn

    async def arrived() -> bool:
        attached = await bench.engine("a").attachments()
        return len(attached) == 2 and all(each.replay_lsn >= end for each in attached)

    await bench.until(arrived)

    async def follow_it() -> bool:  # as far as the leader, asked in time, says that it is told
        await bench.engine("b").keep_slots(everybody)
        return (await slots_of(bench, "b"))[slot_name("c")] > first[slot_name("c")]

    await bench.until(follow_it)
    await bench.engine("b").keep_slots(frozenset({"a", "b"}))
    assert set(await slots_of(bench, "b")) == {slot_name("a")}


def test_no_two_members_share_a_slot() -> None:
    names = ["n1", "n-1", "n_1", "N1", "n.1", "n_2d1"]
    assert len({slot_name(name) for name in names}) == len(names)


# -- rewinding and cloning ---------------------------------------------------------------------------------------------


async def diverge(bench: PostgresqlBench) -> Position:
    """Member b leads epoch 2, and a has rows that nobody confirmed."""
    await pair(bench)
    sealed = await bench.engine("b").seal()
    await write_unconfirmed(bench, "a")
    await bench.engine("a").kill()
    await bench.engine("b").promote(2, Names(2, frozenset({"a"}), 1))
    await bench.engine("b").keep_slots(frozenset({"a", "b"}))
    return sealed


async def test_a_rewind_keeps_what_only_the_fork_holds_and_the_copy_follows(bench: PostgresqlBench) -> None:
    sealed = await diverge(bench)
    said: list[str] = []
    assert await bench.engine("a").rewind(bench.upstream("b", 2), said.append) is RewindResult.DONE
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED
    (fork,) = bench.server("a").paths.forks.iterdir()
    description = json.loads((fork / DESCRIPTION).read_text())
    assert Position.parse(description["fork"]) == sealed
    assert description["commits"] == 100
    assert said
    await bench.engine("a").start()
    held = await bench.engine("a").seal()
    assert (await bench.engine("a").branch(bench.upstream("b", 2))).contains(held)
    await bench.engine("a").follow(bench.upstream("b", 2))
    assert await bench.commit("b", LONG_MS)
    assert await bench.rows("b") == 2

    async def shown() -> bool:  # what is flushed is confirmed, and shown a moment later
        return await bench.rows("a") >= 2

    await bench.until(shown)
    assert await bench.rows("a") == 2


async def test_a_rewind_without_its_leader_changes_nothing(bench: PostgresqlBench) -> None:
    await diverge(bench)
    await bench.engine("b").kill()
    with pytest.raises(EngineError):
        await bench.engine("a").rewind(bench.upstream("b", 2), quiet)
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED


async def test_a_leader_that_is_lost_while_the_fork_is_kept_leaves_the_copy_as_it_was(bench: PostgresqlBench) -> None:
    await diverge(bench)
    leaders = bench.server("b")
    killed: list[int] = []

    def killing(line: str) -> None:
        if line.startswith("keeping"):
            killed.extend(process.pid for process in leaders.processes.of_directory(leaders.paths.data))
            for pid in killed:
                with suppress(ProcessLookupError):  # the first one's death ends the others
                    os.kill(pid, signal.SIGKILL)

    with pytest.raises(EngineError):
        await bench.engine("a").rewind(bench.upstream("b", 2), killing)
    assert killed
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED


async def test_a_rewind_that_was_interrupted_is_made_good_by_a_clone(bench: PostgresqlBench) -> None:
    await diverge(bench)
    rewinding = asyncio.create_task(bench.engine("a").rewind(bench.upstream("b", 2), quiet))
    marked = bench.server("a").paths.state / "incomplete"
    await bench.until(lambda: _exists(marked))
    rewinding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rewinding
    await bench.engine("a").kill()
    assert (await bench.engine("a").inspect()).status is EngineStatus.INCOMPLETE
    with pytest.raises(EngineError):
        await bench.engine("a").start()
    assert await bench.engine("a").rewind(bench.upstream("b", 2), quiet) is RewindResult.IMPOSSIBLE
    await bench.engine("a").clone(bench.upstream("b", 2), quiet)
    await bench.engine("a").start()
    await bench.engine("a").follow(bench.upstream("b", 2))
    assert await bench.commit("b", LONG_MS)


async def _exists(path: Path) -> bool:
    return path.exists()


async def test_a_clone_replaces_a_running_copy_only_when_it_is_complete(bench: PostgresqlBench) -> None:
    await diverge(bench)
    await bench.engine("a").start()
    wrong = bench.upstream("c", 2)
    with pytest.raises(EngineError):
        await bench.engine("a").clone(wrong, quiet)
    assert (await bench.engine("a").inspect()).status is EngineStatus.STANDBY
    await bench.engine("a").clone(bench.upstream("b", 2), quiet)
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED
    assert len(list(bench.server("a").paths.forks.iterdir())) == 1
    assert sorted(path.name for path in bench.server("a").paths.root.glob("data*")) == ["data"]
    await bench.engine("a").start()
    await bench.engine("a").follow(bench.upstream("b", 2))
    assert await bench.commit("b", LONG_MS)


async def test_a_leader_of_another_database_is_refused(bench: PostgresqlBench) -> None:
    await pair(bench)
    await bench.engine("c").bootstrap("another", quiet)
    with pytest.raises(EngineError, match="another database"):
        await bench.engine("b").branch(bench.upstream("c", 1))
    with pytest.raises(EngineError, match="does not lead"):
        await bench.engine("a").branch(bench.upstream("b", 1))


def test_where_a_branch_leaves_another() -> None:
    leaders = Branch(5, ((1, 100), (3, 200)))
    assert fork_of(Branch(1), leaders) == Position(1, 100)
    assert fork_of(Branch(3, ((1, 100),)), leaders) == Position(3, 200)
    assert fork_of(Branch(4, ((1, 80),)), leaders) == Position(1, 80)
    assert fork_of(Branch(2, ((1, 120),)), leaders) == Position(1, 100)
    assert fork_of(Branch(5, ((1, 100), (3, 200))), leaders) is None
    assert fork_of(Branch(4, ((1, 100), (3, 150))), leaders) == Position(3, 150)


def test_a_history_file_says_where_each_timeline_was_left() -> None:
    text = "1\t0/3000148\tno recovery target specified\n\n# a remark\n3\t1/0\tbefore\n"
    assert parse_history(7, text) == Branch(7, ((1, 0x3000148), (3, 1 << 32)))
