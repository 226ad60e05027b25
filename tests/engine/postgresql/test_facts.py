"""What the design believes about PostgreSQL, asked of real servers of every version found.

Each test is one fact and is named after it; other places refer to it by the number in its docstring.
Durations are printed (`-rP`), never asserted: they belong to the machine.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from .lab import SUPERUSER, Lab, Pending, Server, command, environment, system_user, until

Record = Callable[[str, float], None]
COMMITTED = "INSERT 0 1"
NOT_YET_S = 0.25
"""How long a commit is watched that must not return. One that may return does so within a few milliseconds."""


def hold_up_replay(primary: Server, standby: Server) -> psycopg.Connection[object]:
    """A long query on the standby whose snapshot needs rows that the primary's next log records remove."""
    primary.do("insert into t select generate_series(-1000, -1)")
    until(lambda: standby.has(-1), "the standby has the rows")
    session = standby.connect()
    session.execute("begin isolation level repeatable read")
    session.execute("select count(*) from t")
    primary.do("delete from t where i < 0")
    primary.do("vacuum t")
    until(lambda: standby.startup_waits_for() == "RecoveryConflictSnapshot", "replay is held up")
    return session


def commit(server: Server, row: int, within_s: float = 5.0) -> str | None:
    """The answer to an insert, None when it does not come in time."""
    return server.begin(f"insert into t values ({row})").answer(within_s)


def end_receiver(standby: Server) -> None:
    """Ends it, unless the startup process has done so already because it has read the new settings."""
    receiver = standby.child("walreceiver")
    if receiver is not None:
        os.kill(receiver, signal.SIGTERM)
    until(lambda: standby.child("walreceiver") is None, "the receiver is gone")


def park(standby: Server) -> None:
    """Detaches a standby and waits until it has replayed everything."""
    standby.configure(primary_conninfo="")
    drained = announcements(standby)
    until(drained, "replay has come to the end of the local log")
    assert standby.child("walreceiver") is None


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


def test_clearing_the_upstream_does_not_end_acknowledgements_while_a_query_holds_up_replay(lab: Lab) -> None:
    """Fact 1, first half."""
    a, b = lab.cluster("a", "b")
    a.set(synchronous_standby_names="ANY 1 (b)")
    hold_up_replay(a, b)
    b.set(primary_conninfo="")
    assert b.shown("primary_conninfo") == ""
    time.sleep(NOT_YET_S)
    assert b.child("walreceiver") is not None
    assert [commit(a, row) for row in (1, 2, 3)] == [COMMITTED] * 3


def test_ending_the_receiver_ends_acknowledgements_also_while_a_query_holds_up_replay(lab: Lab) -> None:
    """Fact 1, second half: and it does not come back once the startup process has read the setting."""
    a, b = lab.cluster("a", "b")
    a.set(synchronous_standby_names="ANY 1 (b)")
    session = hold_up_replay(a, b)
    b.set(primary_conninfo="")
    end_receiver(b)
    waiting = a.begin("insert into t values (1)")
    assert waiting.answer(NOT_YET_S) is None
    session.close()
    until(announcements(b), "replay has come to the end of the local log")
    assert b.child("walreceiver") is None
    assert waiting.answer(NOT_YET_S) is None
    assert not b.has(1)


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
    time.sleep(NOT_YET_S)
    assert not announced()
    session.close()
    until(announced, "the local log is replayed")
    assert b.replayed() == a.written()
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


def test_promotion_waits_for_sessions_that_hold_up_replay(lab: Lab) -> None:
    """Fact 1: they must be ended before promoting."""
    a, b = lab.cluster("a", "b")
    hold_up_replay(a, b)
    b.set(primary_conninfo="")
    end_receiver(b)
    b.ask("select pg_promote(false)")
    time.sleep(NOT_YET_S)
    assert b.ask("select pg_is_in_recovery()")
    b.ask(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where backend_type = 'client backend' and xact_start < now() - interval '50 ms'"
    )
    until(lambda: not b.ask("select pg_is_in_recovery()"), "promoted")


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
    a.stop(signal.SIGKILL)
    b.promote()
    c.set(primary_conninfo=b.conninfo("c"))
    b.do("insert into t values (1)")
    until(lambda: c.has(1), "c follows b")
    park(c)
    assert c.identify() == (2, b.written())
    assert c.ask("select timeline_id from pg_control_checkpoint()") == 1


def test_a_crash_forgets_the_received_end_but_not_what_was_received(lab: Lab) -> None:
    """Facts 3 and 29: afterwards the position is final only at the end of the local log."""
    a, b = lab.cluster("a", "b")
    b.ask("select pg_wal_replay_pause()")
    a.do("insert into t select generate_series(1, 3000)")
    until(lambda: b.received() == a.written(), "everything is received")
    end, paused_at = a.written(), b.replayed()
    a.stop(signal.SIGKILL)
    b.stop(signal.SIGKILL)
    assert paused_at < end
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


def test_two_promotions_from_one_parent_take_the_same_timeline(lab: Lab) -> None:
    """Facts 4 and 27: and nothing tells the two apart; the one attaches to the other and keeps rows of its own."""
    a, b, c = lab.cluster("a", "b", "c")
    a.do("insert into t values (1)")
    until(lambda: b.has(1) and c.has(1), "both have the row")
    for standby in (b, c):
        park(standby)
    a.stop(signal.SIGKILL)
    for standby, row in ((b, 100), (c, 200)):
        standby.promote()
        standby.do(f"insert into t values ({row})")
    assert b.identify()[0] == c.identify()[0] == 2
    b.stop()
    c.do("insert into t select generate_series(1000, 3000)")
    b.standby_of(c)
    b.configure(restore_command="")
    b.start()
    assert b.has(100) and not c.has(100)
    assert not b.has(200)


def test_a_promotion_takes_the_number_after_the_placeholders(lab: Lab) -> None:
    """Facts 4 and 26: followers, pg_rewind and the next promotion live with empty history files."""
    a, b, c = lab.cluster("a", "b", "c")
    a.do("insert into t values (1)")
    until(lambda: b.has(1) and c.has(1), "both have the row")
    for standby in (b, c):
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
    placeholders(c, 8)
    park(c)
    c.promote()
    assert c.identify()[0] == 9
    c.do("insert into t values (3)")
    a.set(primary_conninfo=c.conninfo("a"))
    until(lambda: a.has(3), "a follows the next timeline")


def rewind(target: Server, source: Server) -> str:
    kept = dict(target.settings)
    done = command(
        target.bin / "pg_rewind", "-D", target.data, "--source-server", source.conninfo() + " dbname=postgres"
    )
    target.settings = kept
    target.configure()
    return done.stderr


def test_placeholders_above_the_own_timeline_make_a_start_hang_for_ever(lab: Lab) -> None:
    """New: the highest history file is taken for the timeline to recover to; being empty it has no parents, so not
    even the own checkpoint is looked for on the own timeline. No error, no exit. They must go before a start: while
    it hangs it is too late.
    """
    a, b = lab.cluster("a", "b")
    park(b)
    placeholders(b, 2, 3, 4)
    until(lambda: "new timeline 4 is not a child of database system timeline 1" in b.log, "b has seen them")
    assert b.ask("select pg_is_in_recovery()")  # a running standby only complains
    b.stop(signal.SIGKILL)
    before = len(b.log)
    b.configure(restore_command="")
    b.start(ready=False)
    until(lambda: b.log[before:].count("waiting for WAL to become available") >= 10, "b waits for its own checkpoint")
    for timeline in (2, 3, 4):
        (b.data / f"pg_wal/{timeline:08X}.history").unlink()
    time.sleep(NOT_YET_S)
    assert "consistent recovery state reached" not in b.log[before:]
    b.stop(signal.SIGKILL)
    b.configure(primary_conninfo=a.conninfo("b"))
    b.start()
    a.do("insert into t values (1)")
    until(lambda: b.has(1), "b follows again")


def test_placeholders_below_the_own_timeline_do_no_harm_at_a_start(lab: Lab) -> None:
    """Fact 26: a leader keeps them, restarts as a standby and is promoted again."""
    a, b = lab.cluster("a", "b")
    a.stop(signal.SIGKILL)
    placeholders(b, 2, 3, 4)
    b.promote()
    b.do("insert into t values (1)")
    b.stop(signal.SIGKILL)
    b.standby_of(b)
    b.configure(primary_conninfo="")
    b.start()
    assert b.identify()[0] == 5
    b.promote()
    assert b.identify()[0] == 6
    assert b.has(1)


def test_a_follower_asks_for_every_history_file_between_its_timeline_and_the_leaders(lab: Lab) -> None:
    """New: so a leader needs a file for every number below its own, also one that was cloned and never had them."""
    a, b = lab.cluster("a", "b")
    park(b)
    a.stop(signal.SIGKILL)
    placeholders(b, 2, 3)
    b.promote()
    for timeline in (2, 3):
        (b.data / f"pg_wal/{timeline:08X}.history").unlink()
    b.do("insert into t values (1)")
    c = lab.server("c")
    c.standby_of(b)
    c.start()
    until(lambda: 'could not open file "pg_wal/00000002.history"' in c.log, "c cannot follow")
    assert not c.has(1)
    placeholders(b, 2, 3)
    until(lambda: c.has(1), "c follows")


# -- who is counted ----------------------------------------------------------------------------------------------------


def test_a_diverged_standby_that_attaches_is_counted(lab: Lab) -> None:
    """Fact 23: the commit returns, and the standby does not have the row."""
    a, b, c = lab.cluster("a", "b", "c")
    park(b)
    a.do("insert into t select generate_series(2, 2000)")
    until(lambda: c.received() == a.written(), "c has more than b")
    a.stop(signal.SIGKILL)
    b.set(synchronous_standby_names="ANY 1 (c)")
    b.promote()
    c.set(primary_conninfo=b.conninfo("c"))
    assert commit(b, -1, within_s=15) == COMMITTED
    assert not c.has(-1)


def test_an_old_leader_that_was_not_rewound_is_counted(lab: Lab) -> None:
    """Fact 23 for the old leader itself."""
    a, b = lab.cluster("a", "b")
    park(b)
    a.do("insert into t select generate_series(1000, 3000)")
    a.stop(signal.SIGKILL)
    b.set(synchronous_standby_names="ANY 1 (a)")
    b.promote()
    a.standby_of(b)
    a.start()
    assert commit(b, 1, within_s=15) == COMMITTED
    assert not a.has(1)


def test_a_standby_counts_only_under_the_name_it_attached_with(lab: Lab) -> None:
    """Fact 24: tagged with the epoch, an attachment of an earlier epoch does not count."""
    a, b = lab.cluster("a", "b")
    a.set(synchronous_standby_names='ANY 1 ("b@3")')
    waiting = a.begin("insert into t values (1)")
    assert waiting.answer(NOT_YET_S) is None
    b.set(primary_conninfo=a.conninfo("b@3"))
    assert waiting.answer(10) == COMMITTED


def test_a_connection_that_merely_calls_itself_by_the_name_is_counted(lab: Lab) -> None:
    """Facts 5 and 34: so name, slot, role and pid are compared."""
    a, b = lab.cluster("a", "b")
    a.set(synchronous_standby_names="ANY 1 (b)")
    b.stop(signal.SIGKILL)
    waiting = a.begin("insert into t values (1)")
    assert waiting.answer(NOT_YET_S) is None
    received = a.root / "received"
    command("mkdir", received)
    impostor = Impostor(a, received)
    try:
        assert waiting.answer(10) == COMMITTED
        assert a.rows("select application_name, usename from pg_stat_replication") == [("b", SUPERUSER)]
    finally:
        impostor.end()


class Impostor:
    """pg_receivewal under a standby's name."""

    def __init__(self, primary: Server, folder: Path) -> None:
        self._process = subprocess.Popen(
            [primary.bin / "pg_receivewal", "--synchronous", "-D", folder, "-d", primary.conninfo("b")],
            env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **system_user(),
        )  # fmt: skip

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def test_a_standby_left_alone_follows_its_old_upstream_onto_a_later_timeline(lab: Lab) -> None:
    """Fact 28: it reconnects to whoever answers at the address."""
    a, b = lab.cluster("a", "b")
    a.stop(signal.SIGKILL)
    a.write("standby.signal", "")
    a.start()
    a.promote()
    a.do("insert into t values (5)")
    until(lambda: b.has(5), "b follows")
    assert a.identify()[0] == 2


# -- when a setting is in effect ---------------------------------------------------------------------------------------


def checkpointer(server: Server) -> int:
    pid = server.child("checkpointer")
    assert pid is not None
    return pid


def test_from_no_names_a_commit_waits_only_after_the_checkpointer_has_read_them(lab: Lab) -> None:
    """Fact 25: although a new session shows the new value."""
    a = lab.server("a").start()
    os.kill(checkpointer(a), signal.SIGSTOP)
    a.set(synchronous_standby_names="ANY 1 (b)")
    assert a.shown("synchronous_standby_names") == "ANY 1 (b)"
    assert commit(a, 1) == COMMITTED
    os.kill(checkpointer(a), signal.SIGCONT)

    def probe_waits() -> Pending | None:
        probe = a.begin("insert into t values (2) on conflict do nothing")
        return probe if probe.answer(0.1) is None else None

    waiting = until(probe_waits, "a probe commit waits")
    assert waiting is not None
    assert a.ask(f"select wait_event from pg_stat_activity where pid = {waiting.pid}") == "SyncRep"


def test_from_some_names_to_others_commits_wait_at_every_moment(lab: Lab) -> None:
    """Fact 31."""
    a = lab.server("a")
    a.configure(synchronous_standby_names='ANY 1 ("nobody@0")')
    a.start()
    os.kill(checkpointer(a), signal.SIGSTOP)
    a.set(synchronous_standby_names='ANY 1 ("b@2")')
    waiting = a.begin("insert into t values (1)")
    assert waiting.answer(NOT_YET_S) is None
    os.kill(checkpointer(a), signal.SIGCONT)
    assert waiting.answer(NOT_YET_S) is None


def test_names_set_before_a_promotion_hold_its_first_commit(lab: Lab) -> None:
    """Section 4 of the protocol: promotion never goes from no names to some."""
    a, b = lab.cluster("a", "b", synchronous_standby_names='ANY 1 ("nobody@0")')
    park(b)
    a.stop(signal.SIGKILL)
    b.set(synchronous_standby_names='ANY 1 ("c@2")')
    b.promote()
    assert commit(b, 1, NOT_YET_S) is None


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
    session = a.connect(options="-c statement_timeout=50")
    session.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
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
    everybody = a.processes()
    assert {os.getpgid(pid) for pid in everybody} == set(everybody)
    assert len(everybody) >= 6
    os.kill(busy, signal.SIGSTOP)
    os.killpg(a.pid, signal.SIGKILL)
    a.ended()
    until(lambda: a.processes() == [busy], "only the stopped backend is left")
    assert parent(busy) != a.pid
    a.kill()
    assert not Path(f"/proc/{busy}").exists() or parent(busy) is None or a.processes() == []


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
    a.begin("insert into t values (1)").answer(0.1)
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

    def attempts(interval_ms: int) -> int:
        b.set(wal_retrieve_retry_interval=interval_ms)
        before = len(b.log)
        time.sleep(0.5)
        return b.log[before:].count("server on socket")

    assert attempts(5000) <= 2
    assert attempts(20) > 5


def test_a_standby_without_an_upstream_writes_a_line_per_retry_interval_to_its_log(lab: Lab) -> None:
    """New: so one that stays detached wants a longer interval, or it fills its disk."""
    _, b = lab.cluster("a", "b")
    park(b)
    before = len(b.log)
    time.sleep(0.5)
    assert b.log[before:].count("waiting for WAL to become available") > 5


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
