"""Rules and streams together: real servers, real applier processes of a role that is no superuser."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.engine.multiwriter.appliers import Node, join, same
from tests.engine.postgresql.lab import Server, until
from twinstar.engine.postgresql.multiwriter.collecting import report, reports
from twinstar.engine.postgresql.multiwriter.dead_letters import dead_letters, retry_dead_letters
from twinstar.engine.postgresql.multiwriter.objects import APPLIER_ROLE
from twinstar.engine.postgresql.multiwriter.table import Policy
from twinstar.engine.postgresql.multiwriter.upkeep import run_repairs

TYPES = {
    "int2": "-32768",
    "int8": "9223372036854775807",
    "numeric": "12345678901234567890.123456789",
    "numeric(10, 3)": "1.500",
    "float4": "0.1",
    "float8": "0.30000000000000004",
    "bool": "t",
    "text": 'tab\t, "quoted", \\back, \u00e4\u4e2d, {curly}',
    "varchar(5)": "abcde",
    "char(5)": "ab",
    "bytea": "\\x00ff10",
    "date": "2026-11-23",
    "time": "13:45:01.123456",
    "timetz": "13:45:01.5+05:30",
    "timestamp": "2026-11-23 13:45:01.123456",
    "timestamptz": "infinity",
    "interval": "1 year 2 mons -3 days +04:05:06.7",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "json": '{"b": 1,  "a": null}',
    "jsonb": '"a string"',
    "int[]": "{1,NULL,3}",
    "text[]": '{a,"b c",NULL,"","null"}',
    "point": "(1.5,-2)",
    "inet": "10.1.2.3/8",
    "macaddr": "08:00:2b:01:02:03",
    "bit(3)": "101",
    "varbit": "10101",
    "money": "$1.50",
    "tsvector": "'a':1 'b':2",
    "int4range": "[1,5)",
    "tstzrange": '["2026-01-01 00:00:00+00",)',
    "mood": "it's fine",
    "short": "xyz",
    "pair": '(1,"a ""b"", c")',
    "pair[]": '{"(1,x)",NULL}',
}
DEFINITIONS = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s fine')",
    "CREATE DOMAIN short AS text CHECK (length(value) < 5)",
    "CREATE TYPE pair AS (n int, t text)",
    "CREATE TABLE t (id int PRIMARY KEY, "
    + ", ".join(f"c{place} {name}" for place, name in enumerate(TYPES))
    + ", long text, doubled int GENERATED ALWAYS AS (id * 2) STORED)",
    "ALTER TABLE t ALTER long SET STORAGE EXTERNAL",
    "CREATE TABLE plain (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, u text UNIQUE, w int, UNIQUE (w, u))",
    "CREATE TABLE counted (id int PRIMARY KEY, v text, n bigint NOT NULL CHECK (n >= 0))",
    "CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES counted)",
)
TABLES: dict[str, Policy | None] = {
    "t": None,
    "plain": None,
    "counted": Policy(counters=("n",)),
    "child": None,
}


@pytest.fixture(params=["plain", "groups"])
async def nodes(own: list[Server], tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    made = [Node(number, server, "postgres", tmp_path) for number, server in enumerate(own, 1)]
    groups = Policy(groups=(("c0", "c1"), ("long",))) if request.param == "groups" else None
    await join(made, *DEFINITIONS, tables={**TABLES, "t": groups})
    for node in made:
        for applier in node.appliers.values():
            applier.start()
    yield made
    for node in made:
        for applier in node.appliers.values():
            applier.end(signal.SIGKILL)


def apart(nodes: list[Node]) -> None:
    """Nobody hears of anybody."""
    for node in nodes:
        for applier in node.appliers.values():
            applier.end()


def together(nodes: list[Node]) -> None:
    for node in nodes:
        for applier in node.appliers.values():
            applier.start()


def everywhere(nodes: list[Node], query: str, answer: list[tuple[Any, ...]]) -> None:
    until(lambda: all(node.do(query) == answer for node in nodes), f"{answer} everywhere: {query}", 60)


def equal(nodes: list[Node], name: str) -> None:
    same(nodes, f"SELECT to_jsonb(t) FROM {name} AS t ORDER BY id")


async def test_all_types_arrive_as_they_were_and_what_did_not_change_too(nodes: list[Node]) -> None:
    a, b, c = nodes
    names = ", ".join(f"c{place}" for place, _ in enumerate(TYPES))
    places = ", ".join(["%s"] * len(TYPES))
    with psycopg.connect(a.conninfo(), autocommit=True) as connection:
        insert = f"INSERT INTO t (id, long, {names}) VALUES (%s, repeat('long', 50000), {places})"
        connection.execute(insert.encode(), (1, *TYPES.values()))
    a.do("INSERT INTO t (id) VALUES (2)")
    values = f"SELECT id, doubled, length(long), {', '.join(f'c{at}::text' for at, _ in enumerate(TYPES))} FROM t"
    everywhere(nodes, "SELECT count(*) FROM t", [(2,)])
    rows = same(nodes, f"{values} ORDER BY id")
    assert list(rows[0][3:]) == [{"t": "true"}.get(text, text) for text in TYPES.values()]
    assert rows[0][:3] == (1, 2, 200_000) and set(rows[1][2:]) == {None}
    # The long value is not sent again with these.
    a.do("UPDATE t SET c0 = 7 WHERE id = 1")
    b.do("UPDATE t SET c2 = 8 WHERE id = 2")
    look = "SELECT id, doubled, c0, c2, length(long) FROM t ORDER BY id"
    everywhere(nodes, look, [(1, 2, 7, Decimal(TYPES["numeric"]), 200_000), (2, 4, None, 8, None)])
    c.do("UPDATE t SET id = id + 10")
    everywhere(nodes, "SELECT id, doubled, length(long) FROM t ORDER BY id", [(11, 22, 200_000), (12, 24, None)])
    a.do("DELETE FROM t WHERE id = 12")
    everywhere(nodes, "SELECT id FROM t", [(11,)])
    equal(nodes, "t")


async def test_everything_at_once(nodes: list[Node]) -> None:
    a, b, c = nodes
    b.do("INSERT INTO counted VALUES (7, 'parent', 0); INSERT INTO child VALUES (1, 7)")
    everywhere(nodes, "SELECT id FROM child", [(1,)])
    apart(nodes)
    for node in nodes:
        node.do(
            f"INSERT INTO plain (id, u, w) OVERRIDING SYSTEM VALUE VALUES ({node.number}, 'same', {node.number}); "
            f"INSERT INTO counted VALUES (1, '{node.number}', {node.number}); "
            f"UPDATE counted SET n = n + 100 WHERE id = 1; UPDATE counted SET v = v || '!'"
        )
    together(nodes)
    everywhere(nodes, "SELECT n FROM counted WHERE id = 1", [(306,)])
    for node in nodes:
        node.do("UPDATE counted SET n = n - 1 WHERE id = 1; UPDATE plain SET w = w + 10")

    async def repaired() -> None:
        for node in nodes:
            async with await node.session() as connection:
                await run_repairs(connection)

    everywhere(nodes, "SELECT n FROM counted WHERE id = 1", [(303,)])
    await repaired()
    everywhere(nodes, "SELECT count(*) FROM plain", [(1,)])
    # A child is made while its parent is deleted elsewhere: appliers ask no foreign keys.
    apart(nodes)
    b.do("INSERT INTO child VALUES (2, 1)")
    a.do("DELETE FROM child; DELETE FROM counted")
    together(nodes)
    everywhere(nodes, "SELECT id, parent FROM child", [(2, 1)])
    everywhere(nodes, "SELECT id FROM counted", [])
    for name in TABLES:
        equal(nodes, name)
    for node in nodes:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="Use DELETE"):
            node.do("TRUNCATE t")
    assert c.do("SELECT count(*) > 0 FROM twinstar.conflicts") == [(True,)]


async def test_a_row_that_cannot_be_applied_stops_nothing_and_reports_travel(nodes: list[Node]) -> None:
    a, b, _ = nodes
    b.do("ALTER TABLE counted ADD CHECK (v <> 'bad')")
    a.do("INSERT INTO counted VALUES (1, 'bad', 5)")
    a.do("INSERT INTO counted VALUES (2, 'good', 6)")
    until(lambda: b.do("SELECT id FROM counted") == [(2,)], "the stream goes on", 60)
    async with await b.session() as connection:
        assert len(await dead_letters(connection)) == 1
        assert not await report(connection, 1000.0)
        b.do("ALTER TABLE counted DROP CONSTRAINT counted_v_check")
        assert await retry_dead_letters(connection) == 1
        assert await report(connection, 1000.0)
    everywhere(nodes, "SELECT id, v, n FROM counted ORDER BY id", [(1, "bad", 5), (2, "good", 6)])
    everywhere(nodes, "SELECT member FROM twinstar.reports", [(2,)])
    async with await a.session() as connection:
        assert (await reports(connection))[2].applied.keys() == {1, 3}


def test_the_applier_is_no_superuser_and_may_do_nothing_else(nodes: list[Node]) -> None:
    a = nodes[0]
    role = (
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = '{}'"
    )
    assert a.do(role.format(APPLIER_ROLE)) == [(False, False, False, False, True)]
    a.do("CREATE TABLE private (secret text); INSERT INTO private VALUES ('x')")
    with psycopg.connect(a.conninfo(), user=APPLIER_ROLE, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in (
            "SELECT * FROM private",
            "ALTER TABLE t ADD COLUMN x int",
            "CREATE TABLE public.mine (x int)",
            'DROP TRIGGER "~twinstar_stamp" ON t',
            "UPDATE twinstar.tables SET merge = 'pg_catalog.now'",
            "SELECT pg_read_file('/etc/passwd')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
