"""What the design believes about PostgreSQL, asked of real servers of every version found.

Each test is one fact and is named after it; other places refer to it by the number in its docstring. Those that the
simulator's model of PostgreSQL must share are in `tests/engine/facts.py`; here are the others.
Durations are printed (`-rP`), never asserted: they belong to the machine.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.facts import NOT_YET_MS, Facts
from tests.stopping import stop

from .facts_bench import COMMITTED, PostgresqlFacts, end_receiver, hold_up_replay
from .lab import Lab, Pending, Server, command, until

Record = Callable[[str, float], None]
NOT_YET_S = NOT_YET_MS / 1000
"""How long a commit is watched that must not return. One that may return does so within a few milliseconds."""


@pytest.fixture
def facts(lab: Lab) -> Iterator[PostgresqlFacts]:
    prepared = PostgresqlFacts(lab)
    yield prepared
    prepared.close()


class TestFacts(Facts):
    """Those that the model shares."""


def commit(server: Server, row: int, within_s: float = 5.0) -> str | None:
    """The answer to an insert, None when it does not come in time."""
    return server.begin(f"insert into t values ({row})").answer(within_s)


def park(standby: Server) -> None:
    """Detaches a standby and waits until it has replayed everything."""
    standby.configure(primary_conninfo="")
    drained = announcements(standby)
    until(drained, "replay has come to the end of the local log")
    until(lambda: standby.child("walreceiver") is None, "the receiver, which has said that it ends, is gone")


def announcements(standby: Server) -> Callable[[], bool]:
    """Lets the startup process say what it misses: each time it has run out of log it runs `restore_command`.

    First it asks for the next timeline's history, then for the segment that it wants to go on with, then it reads what
    there is of that segment, and when it has replayed all of it it asks for the history again. Returns a function
    that tells whether it has come that far.
    """
    told = standby.data / f"told-{len(standby.settings.get('restore_command', ''))}"
    told.unlink(missing_ok=True)
    standby.set(restore_command=f"echo %f >> {told.name}; exit 1")
    return lambda: told.exists() and drained(told.read_text().split())


def drained(asked: list[str]) -> bool:
    segments = [place for place, file in enumerate(asked) if not file.endswith(".history")]
    return bool(segments) and any(file.endswith(".history") for file in asked[segments[0] :])


def placeholders(server: Server, *timelines: int) -> None:
    for timeline in timelines:
        server.write(f"pg_wal/{timeline:08X}.history", "")


# -- sealing -----------------------------------------------------------------------------------------------------------


def test_a_restore_command_announces_that_settings_are_read_and_local_log_is_replayed(lab: Lab) -> None:
    """New: the proof that sealing needs. A new session shows a setting that the startup process has not read yet; the
    startup process runs the new `restore_command` only after it has read it.
    """
    a, b = lab.cluster("a", "b")
    session = hold_up_replay(a, b)
    a.do("insert into t select generate_series(1, 20000)")
    until(lambda: b.received() == a.written(), "everything is received")
    b.configure(primary_conninfo="")
    announced = announcements(b)
    end_receiver(b)
    end = b.received()
    time.sleep(NOT_YET_S)
    assert not announced()
    session.close()
    until(announced, "the local log is replayed")
    assert b.replayed() == end
    assert b.has(20000)


def test_sealing_is_measured(lab: Lab, record: Record) -> None:
    """Fact 10: from the change of settings to the end of the local log."""
    a, b = lab.cluster("a", "b")
    told = b.data / "told"
    for _ in range(3):
        until(lambda: b.child("walreceiver"), "attached")
        b.configure(primary_conninfo="", restore_command="echo %f >> told; exit 1")
        began = time.perf_counter()
        os.kill(b.pid, signal.SIGHUP)
        end_receiver(b)
        until(lambda: told.exists() and drained(told.read_text().split()), "announced")
        record("seal_ms", (time.perf_counter() - began) * 1000)
        b.set(primary_conninfo=a.conninfo("b"), restore_command="")
        told.unlink()


def test_settings_of_the_command_line_cannot_be_changed_by_files(lab: Lab) -> None:
    """Fact 2."""
    a = lab.server("a")
    a.start("-c", "wal_retrieve_retry_interval=77ms")
    a.do("alter system set wal_retrieve_retry_interval = '33ms'")
    a.set(checkpoint_timeout="77")
    assert a.shown("wal_retrieve_retry_interval") == "77"


# -- positions ---------------------------------------------------------------------------------------------------------


def test_a_sealed_standby_tells_timeline_and_position_by_identify_system(lab: Lab) -> None:
    """Fact 29: `pg_control_checkpoint()` still shows the timeline of before."""
    a, b, c = lab.cluster("a", "b", "c")
    a.stop()
    b.promote()
    c.set(primary_conninfo=b.conninfo("c"))
    b.do("insert into t values (1)")
    end = b.written()
    until(lambda: c.has(1), "c follows b")
    park(c)
    assert c.identify() == (2, c.replayed())
    assert end <= c.replayed() <= b.written()  # b's checkpoint after its promotion may end at any time
    assert c.ask("select timeline_id from pg_control_checkpoint()") == 1


def test_a_crash_forgets_the_received_end_but_not_what_was_received(lab: Lab) -> None:
    """Facts 3 and 29: afterwards the position is final only at the end of the local log."""
    a, b = lab.cluster("a", "b")
    b.ask("select pg_wal_replay_pause()")
    a.do("insert into t select generate_series(1, 3000)")
    until(lambda: b.received() == a.written(), "everything is received")
    a.stop(signal.SIGKILL)
    until(lambda: b.child("walreceiver") is None, "nothing more is received")
    end, paused_at = b.received(), b.replayed()
    assert end is not None and paused_at < end
    b.stop(signal.SIGKILL)
    b.configure(primary_conninfo="")
    b.start()
    assert b.received() is None
    until(lambda: b.replayed() == end, "all of it is replayed")
    assert b.identify() == (1, end)
    assert b.has(3000)


def test_the_received_end_can_lie_inside_a_record_that_is_never_replayed(lab: Lab) -> None:
    """Fact 32: and `IDENTIFY_SYSTEM` counts the partial record."""
    a, b = lab.cluster("a", "b", wal_writer_delay="10ms")
    a.begin("begin; select pg_logical_emit_message(true, 'long', repeat('x', 100000))")
    until(lambda: b.received() == a.written() and a.written() % 8192 == 0, "whole pages were flushed and sent")
    park(b)
    received = b.received()
    assert received is not None and b.replayed() < received
    assert b.identify() == (1, received)


# -- timelines ---------------------------------------------------------------------------------------------------------


def test_an_old_leader_is_rewound_onto_a_timeline_after_placeholders(lab: Lab) -> None:
    """Fact 26: pg_rewind lives with empty history files."""
    a, b, c = lab.cluster("a", "b", "c")
    a.do("insert into t values (1)")
    until(lambda: b.has(1) and c.has(1), "both have the row")
    for standby in (c, b):  # in this order: whoever is promoted has all that the other one has
        park(standby)
    a.do("insert into t values (99)")  # held by a alone
    a.stop()
    placeholders(b, 2, 3, 4, 5, 6)
    b.promote()
    assert b.identify()[0] == 7
    b.do("checkpoint")
    b.do("insert into t values (2)")
    c.set(primary_conninfo=b.conninfo("c"))
    until(lambda: c.has(2), "c follows the new timeline")
    rewind(a, b)
    a.standby_of(b)
    a.start()
    until(lambda: a.has(2), "the old leader follows after pg_rewind")
    assert not a.has(99)


def rewind(target: Server, source: Server) -> str:
    kept = dict(target.settings)
    done = command(
        target.bin / "pg_rewind", "-D", target.data, "--source-server", source.conninfo() + " dbname=postgres"
    )
    target.settings = kept
    target.configure()
    return done.stderr


# -- who is counted ----------------------------------------------------------------------------------------------------


# -- when a setting is in effect ---------------------------------------------------------------------------------------


def checkpointer(server: Server) -> int:
    pid = server.child("checkpointer")
    assert pid is not None
    return pid


def test_a_log_sender_begun_after_the_reload_has_the_new_names(lab: Lab) -> None:
    """The proof for changes between names: a sender's `backend_start` later than `pg_conf_load_time()` of a session
    that shows the new value. Older senders can be ended, and their standbys are back in tens of milliseconds.
    """
    a, _ = lab.cluster("a", "b")
    a.set(synchronous_standby_names="ANY 1 (b)")
    a.set(synchronous_standby_names="ANY 1 (c)")
    younger = (
        "select count(*) filter (where r.backend_start > pg_conf_load_time()), count(*) from pg_stat_replication r"
        " where state = 'streaming'"
    )
    assert a.rows(younger, fresh=True) == [(0, 1)]
    a.ask("select pg_terminate_backend(pid) from pg_stat_replication")
    until(lambda: a.rows(younger) == [(1, 1)], "the standby is back")
    assert commit(a, 1, NOT_YET_S) is None


# -- commits, kills, crashes -------------------------------------------------------------------------------------------


def test_a_cancelled_commit_wait_answers_success_with_a_warning(lab: Lab) -> None:
    """Fact 6: the row is committed here and nowhere else; and `statement_timeout` does not end the wait."""
    a = lab.server("a")
    a.configure(synchronous_standby_names='ANY 1 ("nobody@0")')
    a.start()
    warnings: list[str] = []
    session = a.connect(options="-c statement_timeout=100")
    session.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
    session.execute("explain insert into t values (1)")  # so that the insert itself takes no time
    waiting = Pending(session, "insert into t values (1)")
    assert waiting.answer(NOT_YET_S) is None
    assert not a.has(1)
    a.ask(f"select pg_cancel_backend({waiting.pid})")
    assert waiting.answer(5) == COMMITTED
    assert warnings == ["canceling wait for synchronous replication due to user request"]
    assert a.has(1)


def test_killing_the_process_group_leaves_the_children(lab: Lab) -> None:
    """Fact 7: each child leads a group of its own. Their working directory, the data directory, finds them all, also
    when the main process is gone and they belong to somebody else.
    """
    a = lab.server("a").start()
    busy = a.connect().info.backend_pid
    # One that was just forked makes its group first, and one of a session that was just closed goes.
    everybody = until(lambda: leaders(a.processes()), "each process leads a group of its own")
    assert len(everybody) >= 6
    stop(busy)
    os.killpg(a.pid, signal.SIGKILL)
    a.ended()
    until(lambda: a.processes() == [busy], "only the stopped backend is left")
    assert parent(busy) != a.pid
    a.kill()
    assert not Path(f"/proc/{busy}").exists() or parent(busy) is None or a.processes() == []


def leaders(pids: list[int]) -> list[int]:
    """All of these, or nothing when one of them leads no group."""
    try:
        return pids if all(os.getpgid(pid) == pid for pid in pids) else []
    except ProcessLookupError:
        return []


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def test_restart_after_crash_off_ends_the_database_with_one_killed_backend(lab: Lab) -> None:
    """Fact 30."""
    a = lab.server("a").start()
    os.kill(a.connect().info.backend_pid, signal.SIGKILL)
    assert a.ended() != 0
    until(lambda: not a.processes(), "nothing is left")


def test_restart_after_crash_on_shows_commits_that_were_waiting(lab: Lab) -> None:
    """Fact 30, the default: the main process stays, so that its end cannot be seen."""
    a = lab.server("a")
    a.configure(synchronous_standby_names='ANY 1 ("nobody@0")', restart_after_crash="on")
    a.start()
    written = a.begin("insert into t values (1)")
    until(lambda: a.waits_for_standbys(written.pid), "the commit waits")
    assert not a.has(1)
    os.kill(a.connect().info.backend_pid, signal.SIGKILL)
    a.forget_connections()
    until(lambda: "database system was interrupted" in a.log, "crash recovery begins")
    until(a._ready, "it is back")
    assert a.has(1)


# -- speed -------------------------------------------------------------------------------------------------------------


def test_attempts_to_attach_come_once_per_retry_interval(lab: Lab) -> None:
    """Fact 33: at the default of 5 s one failed attempt costs more than the whole failover. A change of settings
    leads to an attempt at once.
    """
    a, b = lab.cluster("a", "b")
    a.stop()

    def attempts(interval_ms: int) -> Callable[[], int]:
        b.set(wal_retrieve_retry_interval=interval_ms)
        before = len(b.log)
        return lambda: b.log[before:].count("server on socket")

    seldom = attempts(5000)
    time.sleep(2 * NOT_YET_S)
    assert seldom() <= 2
    often = attempts(20)
    until(lambda: often() > 5, "attempts come quickly", within_s=20)  # at the other interval in half a minute


def test_a_standby_without_an_upstream_writes_a_line_per_retry_interval_to_its_log(lab: Lab) -> None:
    """New: so one that stays detached wants a longer interval, or it fills its disk."""
    _, b = lab.cluster("a", "b")
    park(b)
    before = len(b.log)
    until(lambda: b.log[before:].count("waiting for WAL to become available") > 5, "it says so again and again")


def test_promotion_is_measured(lab: Lab, record: Record) -> None:
    """Fact 10: from the request to the first commit."""
    a, b = lab.cluster("a", "b")
    park(b)
    a.stop(signal.SIGKILL)
    session = b.connect()
    began = time.perf_counter()
    session.execute("select pg_promote(false)")
    until(lambda: session.execute("select not pg_is_in_recovery()").fetchone() == (True,), "promoted")
    promoted = time.perf_counter()
    session.execute("insert into t values (1)")
    record("promotion_ms", (promoted - began) * 1000)
    record("first_commit_ms", (time.perf_counter() - promoted) * 1000)


def test_an_orderly_hand_over_needs_no_rewind(lab: Lab, record: Record) -> None:
    """Fact 11: after checkpoints the stop is short; the successor holds all of it; the old leader just follows."""
    a, b = lab.cluster("a", "b")
    a.do("insert into t select generate_series(1, 2000)")
    a.do("checkpoint")
    a.do("checkpoint")
    until(lambda: b.replayed() == a.written(), "b has caught up")
    b.do("checkpoint")
    began = time.perf_counter()
    a.stop()
    stopped = time.perf_counter()
    park(b)
    b.promote()
    b.do("insert into t values (5000)")
    record("stop_ms", (stopped - began) * 1000)
    record("hand_over_ms", (time.perf_counter() - began) * 1000)
    a.standby_of(b)
    rejoin = time.perf_counter()
    a.start()
    until(lambda: a.has(5000), "the old leader follows")
    record("rejoin_ms", (time.perf_counter() - rejoin) * 1000)
    assert not re.search("is not in this server's history|forked off", a.log)
    assert a.identify()[0] == 2
