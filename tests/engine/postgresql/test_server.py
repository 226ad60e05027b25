"""One PostgreSQL member: the engine's suite for all engines, and what only PostgreSQL has."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest

from tests.engine.conformance import LONG_MS, SHORT_MS, Conformance, quiet, until_status, until_told
from tests.engine.postgresql.bench import PASSWORDS, PostgresqlBench, postgresql_bench, template, versions
from tests.stopping import stop
from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.conf_files import is_closed
from twinstar.engine.postgresql.configuration import RestartStep, refused_parameters, restart_order
from twinstar.engine.postgresql.own_conf import assignment, parse_assignments
from twinstar.engine.postgresql.process_control import launch
from twinstar.engine.postgresql.settings import AGENT_ROLE, REPLICATION_ROLE, REWIND_ROLE, ROUTER_ROLE
from twinstar.engine.postgresql.standby_names import names_settings, parse_names, standby_names, tagged, untagged
from twinstar.model.engine import BLOCKED, EngineStatus, Names
from twinstar.model.errors import EngineError

VERSIONS = [pytest.param(version) for version in versions()]
NONE = pytest.param("", marks=pytest.mark.skip("no PostgreSQL is installed"))


@pytest.fixture(scope="module", params=VERSIONS or [NONE])
def made(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """A version, and a database of it to copy."""
    version: str = request.param
    with asyncio.Runner() as runner:
        making = template(version)
        path = runner.run(making.__aenter__())
        try:
            yield version, path
        finally:
            runner.run(making.__aexit__(None, None, None))


@pytest.fixture
async def bench(made: tuple[str, Path]) -> AsyncIterator[PostgresqlBench]:
    async with postgresql_bench(*made) as prepared:
        yield prepared


class TestConformance(Conformance):
    """The suite for all engines."""


async def said(fact: bool) -> bool:
    return fact


async def inspected(bench: PostgresqlBench, **wanted: object) -> bool:
    state = await bench.engine("a").inspect()
    return all(getattr(state, name) == value for name, value in wanted.items())


async def shows(bench: PostgresqlBench, setting: str, wanted: str) -> None:
    """Waits until a new session sees this value."""

    async def seen() -> bool:
        return await bench.server("a").query_fresh(f"SHOW {setting}", LONG_MS) == [(wanted,)]

    await bench.until(seen)


# -- what is in the way of a start ------------------------------------------------------------------------------------


async def standby(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    assert await bench.engine("a").stop(LONG_MS)
    await bench.engine("a").start()


async def test_a_taken_port_is_named(bench: PostgresqlBench) -> None:
    address = bench.settings["a"].address
    with socket.create_server((address.host, address.port)), pytest.raises(EngineError, match=f"{address}.* is taken"):
        await bench.engine("a").bootstrap("nonce", quiet)
    # The attempt is known to be one, and the next one succeeds.
    assert (await bench.engine("a").inspect()).status is EngineStatus.INCOMPLETE
    await bench.engine("a").bootstrap("nonce", quiet)
    assert (await bench.engine("a").inspect()).status is EngineStatus.PRIMARY


async def test_a_wrong_setting_is_named(bench: PostgresqlBench) -> None:
    bench.change("a", parameters={"work_mem": "three bananas"})
    with pytest.raises(EngineError, match=r"work_mem.*three bananas.*postgresql\.parameters"):
        await bench.engine("a").bootstrap("nonce", quiet)


async def test_another_versions_directory_is_refused(bench: PostgresqlBench) -> None:
    await standby(bench)
    await bench.engine("a").kill()
    (bench.settings["a"].paths.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(EngineError, match="made by PostgreSQL 14"):
        await bench.engine("a").start()


async def test_a_foreign_directory_is_neither_started_nor_touched(bench: PostgresqlBench) -> None:
    await bench.put_foreign_data("a")
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED
    with pytest.raises(EngineError, match="no data directory"):
        await bench.engine("a").start()
    assert [path.name for path in bench.settings["a"].paths.data.iterdir()] == ["letters"]


async def test_a_half_done_directory_is_not_started(bench: PostgresqlBench) -> None:
    await standby(bench)
    await bench.engine("a").stop(LONG_MS)
    files.mark_incomplete(bench.settings["a"].paths, "rewind")
    assert (await bench.engine("a").inspect()).status is EngineStatus.INCOMPLETE
    with pytest.raises(EngineError, match="half done by a rewind"):
        await bench.engine("a").start()


async def test_a_start_clears_what_earlier_runs_left(bench: PostgresqlBench) -> None:
    """Placeholders of a promotion that did not happen, settings of ours in auto.conf, and a pid that is used again."""
    await standby(bench)
    await bench.engine("a").kill()
    paths = bench.settings["a"].paths
    wal = paths.data / "pg_wal"
    for timeline in (2, 3):
        (wal / f"{timeline:08X}.history").touch()
    with (paths.data / "postgresql.auto.conf").open("a") as file:
        file.write("primary_conninfo = 'host=127.0.0.9'\nsynchronous_standby_names = ''\nwork_mem = '5MB'\n")
    pid_file = paths.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]) + "\n")
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED
    await bench.engine("a").start()
    state = await until_told(bench, "a")
    assert (state.status, state.drift) == (EngineStatus.STANDBY, ())
    shown = await bench.server("a").query(
        "SELECT current_setting('primary_conninfo'), current_setting('synchronous_standby_names'), "
        "current_setting('work_mem')"
    )
    assert shown == [("", standby_names(BLOCKED), "5MB")]
    assert not list(wal.glob("*.history"))


async def test_less_than_the_log_asks_for_does_not_keep_a_standby_from_starting(bench: PostgresqlBench) -> None:
    await standby(bench)
    await bench.engine("a").stop(LONG_MS)
    await bench.engine("a").close()
    await (await bench.agent_restarts("a")).close()
    bench.change("a", parameters={"shared_buffers": "16MB", "max_connections": "50"})
    await bench.agent_restarts("a")
    await bench.engine("a").start()
    state = await until_told(bench, "a")
    assert (state.status, state.restart_pending) == (EngineStatus.STANDBY, ("max_connections",))
    assert await bench.server("a").query("SHOW max_connections") == [("100",)]


# -- processes --------------------------------------------------------------------------------------------------------


async def test_the_database_outlives_its_agent_and_is_found_again(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    before = await bench.engine("a").inspect()
    bench.processes = type(bench.processes)(bench.clock)
    after = await (await bench.agent_restarts("a")).inspect()
    assert (after.status, after.run, after.names) == (EngineStatus.PRIMARY, before.run, before.names)
    assert before.pid is not None
    assert os.getsid(before.pid) != os.getsid(0)


async def test_remains_are_told_from_a_dead_database(bench: PostgresqlBench) -> None:
    """A backend that is stopped does not notice that its postmaster is gone."""
    await bench.given_primary("a")
    async with bench.session("a") as connection:
        backend = connection.info.backend_pid
        stop(backend)
        await bench.crash("a")
        await bench.engine("a").ended()
        data = bench.settings["a"].paths.data
        await bench.until(lambda: said(len(bench.processes.of_directory(data)) == 1))
        assert (await bench.engine("a").inspect()).status is EngineStatus.REMAINS
        await bench.engine("a").kill()
    assert (await bench.engine("a").inspect()).status is EngineStatus.STOPPED


async def test_a_killed_backend_ends_the_database(bench: PostgresqlBench) -> None:
    """No restart in place, which would show commits that were still waiting and begin no epoch."""
    await bench.given_primary("a")
    async with bench.session("a") as connection:
        ended = asyncio.create_task(bench.engine("a").ended())
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        await ended
    await until_status(bench, "a", EngineStatus.STOPPED)


async def test_nothing_but_the_configuration_file_is_on_the_command_line(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    pid = bench.server("a").postmaster()
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:-1]
    paths = bench.settings["a"].paths
    assert words == [b"-D", bytes(paths.data), b"-c", f"config_file={paths.main_conf}".encode()]


async def test_a_used_up_max_connections_is_no_hang(bench: PostgresqlBench) -> None:
    bench.change("a", parameters={"shared_buffers": "16MB", "max_connections": "8"})
    await bench.given_primary("a")
    async with AsyncExitStack() as held:
        with pytest.raises(psycopg.OperationalError):
            await repeat(20, lambda: held.enter_async_context(bench.session("a")))
        assert await bench.engine("a").answers(LONG_MS)
        await until_told(bench, "a")


async def test_a_used_up_room_for_senders_is_no_hang(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    upstream = bench.upstream("a", 1)
    async with AsyncExitStack() as held:
        with pytest.raises(EngineError, match="max_wal_senders"):
            await repeat(50, lambda: held.enter_async_context(bench.server("a").remote(upstream)))
        assert await bench.engine("a").answers(LONG_MS)


async def repeat(times: int, step: Callable[[], Awaitable[object]]) -> None:
    for _ in range(times):
        await step()


# -- questions --------------------------------------------------------------------------------------------------------


async def test_replication_commands_and_sql_on_one_connection_that_comes_back(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    server = bench.server("a")
    ((identifier, timeline, _, _),) = await server.query("IDENTIFY_SYSTEM")
    assert (identifier, timeline) == ((await bench.engine("a").inspect()).system_identifier, 1)
    ((first, user),) = await server.query("SELECT pg_backend_pid(), current_user::text")
    assert user == AGENT_ROLE
    os.kill(first, signal.SIGTERM)
    await bench.until(lambda: said(bench.processes.run_id(first) is None))
    ((second,),) = await server.query("SELECT pg_backend_pid()")
    assert second != first


async def test_a_question_given_up_is_dropped_and_not_cancelled(bench: PostgresqlBench) -> None:
    """A cancelled commit wait answers success and shows the row; a closed socket leaves the commit waiting."""
    await bench.given_primary("a")
    server = bench.server("a")
    ((pid,),) = await server.query("SELECT pg_backend_pid()")
    write = "SELECT pg_logical_emit_message(true, 'test', 'x')"
    with pytest.raises(EngineError, match="did not answer within"):
        await server.query(f"{write} FROM pg_current_xact_id()", SHORT_MS)

    async def waits() -> bool:
        return await server.query(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}") == [("SyncRep",)]

    await bench.until(waits)


async def test_settings_survive_and_take_effect_on_reload(bench: PostgresqlBench) -> None:
    await standby(bench)
    server = bench.server("a")
    server.write_settings({"primary_conninfo": "host='it''s' port=1", "twinstar.upstream": "b@7"})
    assert server.reload_signal()
    await shows(bench, "primary_conninfo", "host='it''s' port=1")
    assert (await bench.engine("a").inspect()).upstream == ("b", 7)
    server.write_settings({"primary_conninfo": None, "twinstar.upstream": None})
    assert (await bench.engine("a").inspect()).upstream is None
    assert server.read_settings().keys() & {"primary_conninfo", "synchronous_standby_names"} == {
        "synchronous_standby_names"
    }


async def test_drift_is_seen_and_reload_takes_it_away(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    assert (await until_told(bench, "a")).drift == ()
    with (bench.settings["a"].paths.data / "postgresql.auto.conf").open("a") as file:
        file.write("synchronous_standby_names = ''\n")
    assert (await until_told(bench, "a")).drift == ("synchronous_standby_names",)
    await bench.engine("a").reload({"work_mem": "6MB"}, ())
    await bench.until(lambda: inspected(bench, drift=()))
    await shows(bench, "work_mem", "6MB")
    assert not await bench.commit("a", SHORT_MS)


async def test_reload_takes_over_all_or_nothing(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    engine = bench.engine("a")
    for wrong, word in (
        ({"work_mem": "6MB", "shared_buffers": "much"}, "shared_buffers"),
        ({"work_mem": "6MB", "nosuch_setting": "1"}, "nosuch_setting"),
        ({"work_mem": "6MB", "fsync": "off"}, "fsync"),
    ):
        with pytest.raises(EngineError, match=word):
            await engine.reload(wrong, ())
    rules = bench.settings["a"].paths.conf / "pg_hba.conf"
    before = rules.read_text()
    with pytest.raises(EngineError, match=r"postgresql\.hba"):
        await engine.reload({"work_mem": "6MB"}, ("host all all 300.0.0.1/8 md5",))
    assert rules.read_text() == before
    await engine.reload({"work_mem": "7MB", "max_connections": "120"}, ("host all web all scram-sha-256",))
    assert "host all web" in rules.read_text()
    await bench.until(lambda: inspected(bench, restart_pending=("max_connections", "shared_buffers")))
    await shows(bench, "work_mem", "7MB")


# -- who may connect --------------------------------------------------------------------------------------------------


def tcp(bench: PostgresqlBench, user: str, password: str | None, database: str = "postgres", **more: str) -> str:
    """Connects over TCP and says who one is there."""
    address = bench.settings["a"].address
    with psycopg.connect(
        host=address.host,
        port=address.port,
        user=user,
        password=password,
        dbname=database,
        passfile="/dev/null",
        sslmode="disable",
        connect_timeout=10,
        autocommit=True,
        **more,  # type: ignore[arg-type]
    ) as connection:
        row = connection.execute(b"SELECT current_user::text").fetchone()
        assert row is not None
        return str(row[0])


async def test_who_may_connect_over_tcp(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    for role, database in ((REPLICATION_ROLE, "postgres"), (REWIND_ROLE, "postgres"), (ROUTER_ROLE, "postgres")):
        more = {"replication": "database"} if role == REPLICATION_ROLE else {}
        assert tcp(bench, role, PASSWORDS[role], database, **more) == role
    assert tcp(bench, "app", PASSWORDS["app"], "app") == "app"
    for role, password, database in (
        ("postgres", None, "postgres"),
        (AGENT_ROLE, PASSWORDS[AGENT_ROLE], "postgres"),
        (REWIND_ROLE, PASSWORDS[REWIND_ROLE], "app"),
        ("app", PASSWORDS["app"], "postgres"),
        ("app", "wrong", "app"),
        ("app", None, "app"),
    ):
        with pytest.raises(psycopg.OperationalError):
            tcp(bench, role, password, database)


@pytest.mark.parametrize("then", ["follow", "promote"])
async def test_a_started_server_lets_no_client_in_before_it_follows_or_is_open(
    bench: PostgresqlBench, then: str
) -> None:
    """What it was may have been a leader; as a standby it would show what waited for confirmation."""
    bench.change("a", hba=("host all all all trust",))
    await bench.given_copy("a")
    engine, server = bench.engine("a"), bench.server("a")
    await engine.start()
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            tcp(bench, "app", PASSWORDS["app"], "app")
        assert tcp(bench, REWIND_ROLE, PASSWORDS[REWIND_ROLE]) == REWIND_ROLE
        await engine.reload({"work_mem": "6MB"}, ())
        await shows(bench, "work_mem", "6MB")
    if then == "follow":
        await engine.follow(bench.upstream("b", 2))
    else:
        await engine.promote(2, Names(2, frozenset({"b"}), 1))
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            tcp(bench, "app", PASSWORDS["app"], "app")
        await engine.admit()
        await engine.admit()
    assert tcp(bench, "app", PASSWORDS["app"], "app") == "app"
    assert not is_closed(server.settings)


async def test_no_line_of_the_users_opens_our_roles(bench: PostgresqlBench) -> None:
    bench.change("a", hba=("host all all all trust", "host replication all all trust"))
    await bench.given_primary("a")
    for role in (AGENT_ROLE, REPLICATION_ROLE, REWIND_ROLE, ROUTER_ROLE):
        with pytest.raises(psycopg.OperationalError):
            tcp(bench, role, None, "app")


async def test_no_password_is_written_anywhere_but_the_password_file(bench: PostgresqlBench) -> None:
    bench.change("a", parameters={"shared_buffers": "16MB", "log_statement": "all"})
    engine = await bench.given_primary("a")
    assert await engine.stop(LONG_MS)  # a server that runs makes and removes files while they are read
    root = bench.settings["a"].directory
    for path in root.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            found = [role for role, password in PASSWORDS.items() if password.encode() in text]
            if path == bench.settings["a"].paths.passfile:
                assert sorted(found) == [REPLICATION_ROLE, REWIND_ROLE]
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            else:
                assert found == [], path
    assert "SCRAM-SHA-256" not in (root / "log" / "postgresql.log").read_text()
    assert PASSWORDS["app"] not in repr(bench.settings["a"])


async def test_roles_have_what_they_need_and_no_more(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    async with bench.session("a") as connection:
        cursor = await connection.execute("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'")
        assert await cursor.fetchall() == []
        cursor = await connection.execute("SELECT rolname FROM pg_roles WHERE rolreplication AND NOT rolsuper")
        assert sorted(await cursor.fetchall()) == [(AGENT_ROLE,), (REPLICATION_ROLE,)]
    server = bench.server("a")
    await server.query("CHECKPOINT")
    with pytest.raises(EngineError, match="permission denied"):
        await server.query("CREATE TABLE nothing ()")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the database as somebody else")
async def test_the_databases_user_owns_nothing_that_root_writes_through(bench: PostgresqlBench) -> None:
    await bench.given_primary("a")
    paths = bench.settings["a"].paths
    assert {path.stat().st_uid for path in (paths.root, paths.conf, paths.log, paths.state)} == {0}
    assert 0 not in {path.stat().st_uid for path in (paths.data, paths.run, paths.forks)}


# -- without a server -------------------------------------------------------------------------------------------------


def test_names_are_read_back_as_they_were_meant() -> None:
    for names in (BLOCKED, Names(7, frozenset({"b", "c"}), 1), Names(3, frozenset(), 0), Names(3, frozenset({"b"}), 0)):
        assert parse_names(names_settings(names)["twinstar.names"] or "") == names
    assert standby_names(Names(7, frozenset({"c", "b"}), 1)) == 'ANY 1 ("b@7", "c@7")'
    assert standby_names(Names(7, frozenset({"b"}), 0)) == ""
    assert untagged(tagged("b", 12)) == ("b", 12)
    assert [untagged(name) for name in ("b", "@3", "b@", "b@x", "")] == [None] * 5
    assert [parse_names(text) for text in ("", "x", "1", "1 x b")] == [None] * 4


def test_a_value_stands_in_its_line_as_it_was_given() -> None:
    for value in ("", "plain", "it's", "back\\slash", "'", "a = 'b'", "\\'", "# no comment"):
        assert parse_assignments(assignment("name", value)) == {"name": value}
    with pytest.raises(EngineError, match="line break"):
        assignment("name", "two\nlines")


def test_what_is_raised_reaches_standbys_first_and_what_is_lowered_the_leader() -> None:
    assert restart_order({}, {"max_connections": "200"}) == (RestartStep({"max_connections": "200"}, True),)
    assert restart_order({"max_connections": "200"}, {}) == (RestartStep({}, False),)
    assert restart_order({}, {"max_connections": "100"}) == (RestartStep({"max_connections": "100"}, True),)
    both = restart_order(
        {"max_connections": "200", "work_mem": "1MB"}, {"max_connections": "50", "max_worker_processes": "20"}
    )
    assert both == (
        RestartStep({"max_connections": "200", "max_worker_processes": "20"}, True),
        RestartStep({"max_connections": "50", "max_worker_processes": "20"}, False),
    )


def test_parameters_of_ours_are_refused_with_what_to_do_instead() -> None:
    assert refused_parameters({"work_mem": "4MB", "max_connections": "200"}) == []
    for name in ("synchronous_standby_names", "FSYNC", "twinstar.names", "allow_alter_system", "include"):
        (complaint,) = refused_parameters({name: "x"})
        assert name.lower() in complaint.lower()
    for name, value in (("max_slot_wal_keep_size", "-1"), ("Archive_Mode", "ALWAYS")):
        (complaint,) = refused_parameters({name: value})
        assert name.lower() in complaint
    assert refused_parameters({"archive_mode": "on"}) == []


async def test_what_was_stopped_in_order_is_no_primary_for_whoever_starts_it(bench: PostgresqlBench) -> None:
    """By hand, or a service of the distribution's: with the files as they are."""
    engine = await bench.given_primary("a")
    await engine.open_names(Names(1, frozenset(), 0))
    assert await engine.stop(LONG_MS)
    stopped = await engine.inspect()
    assert stopped.shut_down_at is not None
    await launch(bench.server("a"))
    found = await until_told(bench, "a")
    assert (found.status, found.upstream, found.receiving) == (EngineStatus.STANDBY, None, False)
    assert found.position is not None
    assert found.position > stopped.shut_down_at, "its log is as it was"


def test_placeholders_go_only_above_the_newest_real_history(tmp_path: Path) -> None:
    wal = tmp_path / "pg_wal"
    wal.mkdir()
    (wal / "00000004.history").write_text("1\t0/3000148\tno recovery target specified\n")
    for timeline in (2, 3, 5, 6):
        (wal / f"{timeline:08X}.history").write_text("# reserved\n" if timeline == 5 else "")
    assert files.remove_placeholders(tmp_path) == (5, 6)
    assert sorted(path.name for path in wal.iterdir()) == [f"{n:08X}.history" for n in (2, 3, 4)]


def test_a_pid_file_that_is_no_servers_names_nobody(tmp_path: Path) -> None:
    assert files.pid_file(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("-12\n/data\n")
    assert files.pid_file(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("12\n/data\n1\n5432\n/run\n127.0.0.1\n  1 2\n")
    assert files.pid_file(tmp_path) == files.PidFile(12, "starting")


async def test_a_directory_too_deep_for_a_socket_is_refused(bench: PostgresqlBench, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="too long"):
        bench.change("a", directory=tmp_path / ("d" * 100))
