"""The drill's clients against a real server: what they record is what they were told, and what is there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psycopg

from tests.drill.plain_postgresql import PlainPostgresql
from twinstar.drill.driver import Workload, drop_table, make_table, present
from twinstar.drill.history import audit, longest_gap
from twinstar.drill.session import boot_ms
from twinstar.drill.workload import TABLE
from twinstar.histories.operation import Outcome


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 30 s"
        time.sleep(0.02)


def workload(server: PlainPostgresql, *, clients: int = 2, deadline_ms: float = 10_000) -> Workload:
    make_table(server.dsn)
    return Workload(server.dsn, "r1", clients, pause_ms=2, deadline_ms=deadline_ms)


def test_without_a_fault_everything_acknowledged_is_there(server: PlainPostgresql) -> None:
    with workload(server) as clients:
        until(lambda: clients.counters.acknowledged > 200)
        attempts = clients.stop()
    found = audit(attempts, present(server.dsn, "r1"))
    assert found.sound
    assert found.acknowledged == len(attempts) > 200
    assert {attempt.client for attempt in attempts} == {0, 1}


def test_a_killed_server_is_one_gap_and_loses_nothing(server: PlainPostgresql) -> None:
    with workload(server) as clients:
        until(lambda: clients.counters.acknowledged > 50)
        from_ms = boot_ms()
        server.stop(signal.SIGKILL)
        server.wait_for_the_end()
        gone_ms = boot_ms()
        time.sleep(0.5)
        starts_ms, before = boot_ms(), clients.counters.acknowledged
        server.start()
        until(lambda: clients.counters.acknowledged > before + 50)
        attempts = clients.stop()
    found = audit(attempts, present(server.dsn, "r1"))
    assert found.sound
    assert found.unknown >= 1
    gap = longest_gap(attempts, from_ms, attempts[-1].ended_ms)
    # What was acknowledged before may have been read by the client a moment later.
    assert gap.from_ms <= gone_ms + 400
    assert gap.to_ms >= starts_ms


def test_rows_taken_away_behind_its_back_are_found_lost(server: PlainPostgresql) -> None:
    with workload(server, clients=1) as clients:
        until(lambda: clients.counters.acknowledged > 20)
        attempts = clients.stop()
    server.execute(f"DELETE FROM {TABLE} WHERE number IN (3, 7)")
    assert audit(attempts, present(server.dsn, "r1")).lost == ((0, 3, 0), (0, 7, 0))


def test_an_ordinary_error_is_a_failure_and_no_row(server: PlainPostgresql) -> None:
    with workload(server, clients=1) as clients:
        until(lambda: clients.counters.acknowledged > 5)
        server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        server.execute("SELECT pg_reload_conf()")
        until(lambda: clients.counters.failed > 3)
        attempts = clients.stop()
    found = audit(attempts, present(server.dsn, "r1"))
    assert found.sound
    assert found.failed > 3
    assert found.unknown == 0


def test_a_commit_that_returns_with_a_warning_is_unknown(server: PlainPostgresql) -> None:
    """A cancelled wait for the standbys answers success; the clients must not believe it."""
    with workload(server, clients=1) as clients:
        until(lambda: clients.counters.acknowledged > 5)
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.execute("SELECT pg_reload_conf()")
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            until(
                lambda: (
                    admin.execute(
                        "SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                    ).fetchall()
                    == [(True,)]
                )
            )
        until(lambda: clients.counters.unknown > 0)
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
        attempts = clients.stop()
    warned = [attempt for attempt in attempts if attempt.why == "acknowledged with a warning"]
    assert warned
    assert all(attempt.outcome is Outcome.UNKNOWN for attempt in warned)
    assert audit(attempts, present(server.dsn, "r1")).unknown_present >= 1


def test_at_the_deadline_the_socket_is_closed_and_nothing_is_cancelled(server: PlainPostgresql) -> None:
    with workload(server, clients=1, deadline_ms=300) as clients:
        until(lambda: clients.counters.acknowledged > 5)
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.execute("SELECT pg_reload_conf()")
        waiting = "SELECT count(*) >= 2 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            until(lambda: clients.counters.unknown >= 2 and admin.execute(waiting.encode()).fetchall() == [(True,)])
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
        attempts = clients.stop()
    late = [attempt for attempt in attempts if attempt.why == "deadline"]
    assert len(late) >= 2
    assert all(attempt.outcome is Outcome.UNKNOWN for attempt in late)


def test_the_table_goes_away_again(server: PlainPostgresql) -> None:
    make_table(server.dsn)
    drop_table(server.dsn)
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchall() == [(None,)]
