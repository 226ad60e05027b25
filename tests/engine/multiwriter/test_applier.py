"""Streams between real servers, with rules that are as simple as can be: of two versions the greater one stays."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.engine.postgresql.lab import Server
from twinstar.engine.postgresql.multiwriter.applier import run_applier
from twinstar.engine.postgresql.multiwriter.batch import Changes
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.link import Link
from twinstar.engine.postgresql.multiwriter.session import Connection
from twinstar.engine.postgresql.multiwriter.settings import ApplierSettings
from twinstar.engine.postgresql.multiwriter.table import Table, slug_of
from twinstar.model.errors import EngineError
from twinstar.ports.clock import SystemClock
from twinstar.ports.randomness import SystemRandomness

SET_UP = f"""
CREATE SCHEMA twinstar;
CREATE TABLE twinstar.tables (schema text, name text, slug text, counters text[], groups jsonb, merge text);
INSERT INTO twinstar.tables VALUES ('public', 't', '{slug_of("public", "t")}', '{{}}', '[]', NULL);
CREATE TABLE letters (change jsonb, error text);
CREATE SEQUENCE stamps;
CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'bad here'), twinstar_stamp bigint);
ALTER TABLE t REPLICA IDENTITY FULL;
CREATE PUBLICATION twinstar FOR TABLE t WITH (publish = 'insert, update');
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.twinstar_stamp := greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, OLD.twinstar_stamp + 1);
  RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
"""


class GreaterStays:
    async def apply(self, connection: Connection, table: Table, changes: Changes, peer: str) -> None:
        names = [sql.Identifier(column.name) for column in table.sent_columns]
        statement = sql.SQL(
            "INSERT INTO {table} AS t ({names}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {changes} "
            "WHERE EXCLUDED.twinstar_stamp > coalesce(t.twinstar_stamp, 0)"
        ).format(
            table=sql.Identifier(table.schema, table.name),
            names=sql.SQL(", ").join(names),
            places=sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
            changes=sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names),
        )
        async with connection.cursor() as cursor:
            await cursor.executemany(statement, sorted(image.values for image in changes.images))

    async def keep_failed(
        self, connection: Connection, table: Table, changes: Changes, peer: str, error: psycopg.Error
    ) -> None:
        (image,) = changes.images
        await self._keep(connection, list(image.values), error.sqlstate or "")

    async def keep_stray(self, connection: Connection, stray: Stray, peer: str) -> None:
        await self._keep(connection, stray.values, stray.reason)

    async def _keep(self, connection: Connection, change: object, error: str) -> None:
        await connection.execute("INSERT INTO public.letters VALUES (%s, %s)", (json.dumps(change), error))


@dataclass
class Node:
    server: Server
    database: str

    @property
    def parameters(self) -> dict[str, str | int]:
        return {"host": str(self.server.root), "port": self.server.port, "user": "lab", "dbname": self.database}

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return self.server.connect(dbname=self.database, **options)

    def do(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.conninfo(), dbname=self.database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def identifier(self) -> str:
        return str(self.do("SELECT system_identifier FROM pg_control_system()")[0][0])

    def table(self) -> list[tuple[Any, ...]]:
        return self.do("SELECT id, v, twinstar_stamp FROM t ORDER BY id")


@pytest.fixture
def nodes(running: list[Server], database: str) -> list[Node]:
    made = [Node(server, database) for server in running[:2]]
    for node in made:
        node.do(SET_UP)
    return made


def link(here: Node, peer: Node, spool: Path | None = None) -> Link:
    settings = ApplierSettings(
        local=here.parameters,
        peer=peer.parameters,
        peer_name=peer.server.name,
        system_identifier=peer.identifier(),
        slot=f"{here.database}_{here.server.name}",
        application_name=f"{here.database}_{here.server.name}",
        spool=spool,
    )
    return Link(settings, GreaterStays(), SystemClock(), SystemRandomness())


@asynccontextmanager
async def applying(link: Link) -> AsyncIterator[asyncio.Task[None]]:
    """An applier that is cancelled in the end."""
    task = asyncio.create_task(run_applier(link))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


@pytest.fixture(params=["passed on", "spooled"])
def spool_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Node], Path | None]:
    return lambda node: tmp_path / node.server.name if request.param == "spooled" else None


async def test_rows_arrive_also_those_written_while_nobody_reads(
    nodes: list[Node], spool_of: Callable[[Node], Path | None]
) -> None:
    a, b = nodes
    to_b = link(b, a, spool_of(b))
    await to_b.prepare()
    await to_b.prepare()
    a.do("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 3) AS i")
    async with applying(to_b):
        await eventually(lambda: a.table() == b.table(), "the first rows are there")
        a.do("UPDATE t SET v = 'new' WHERE id = 2")
        await eventually(lambda: a.table() == b.table(), "the change is there")
    a.do("INSERT INTO t VALUES (4, 'later'); UPDATE t SET v = 'newer' WHERE id = 2")
    async with applying(to_b):
        await eventually(lambda: a.table() == b.table(), "what was missed is there")


async def test_a_transaction_larger_than_a_batch_is_seen_as_a_whole(
    nodes: list[Node], spool_of: Callable[[Node], Path | None]
) -> None:
    a, b = nodes
    to_b = link(b, a, spool_of(b))
    await to_b.prepare()
    seen = set()

    def count() -> int:
        ((number,),) = b.do("SELECT count(*) FROM t")
        seen.add(number)
        return int(number)

    async with applying(to_b):
        a.do("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 10000) AS i")
        await eventually(lambda: count() == 10_000, "all rows are there")
    assert seen <= {0, 10_000}


async def test_what_cannot_be_applied_is_kept_and_the_rest_goes_on(
    nodes: list[Node], spool_of: Callable[[Node], Path | None]
) -> None:
    a, b = nodes
    to_b = link(b, a, spool_of(b))
    await to_b.prepare()
    a.do("ALTER TABLE t DROP CONSTRAINT t_v_check")
    a.do(
        "INSERT INTO t SELECT i, CASE WHEN i IN (3, 40) THEN 'bad here' ELSE 'good' END "
        "FROM generate_series(1, 50) AS i"
    )
    async with applying(to_b):
        await eventually(lambda: b.do("SELECT count(*) FROM t") == [(48,)], "the others are there")
        a.do("INSERT INTO t VALUES (51, 'good')")
        await eventually(lambda: b.do("SELECT count(*) FROM t") == [(49,)], "the stream goes on")
    letters = b.do("SELECT change ->> 0, error FROM letters ORDER BY 1")
    assert letters == [("3", "23514"), ("40", "23514")]


async def test_a_lock_is_waited_for(nodes: list[Node], spool_of: Callable[[Node], Path | None]) -> None:
    a, b = nodes
    to_b = link(b, a, spool_of(b))
    await to_b.prepare()
    async with applying(to_b):
        a.do("INSERT INTO t VALUES (1, 'x')")
        await eventually(lambda: a.table() == b.table(), "the row is there")
        holder = b.connect()
        holder.execute("BEGIN")
        holder.execute("SELECT FROM t FOR UPDATE")
        a.do("UPDATE t SET v = 'y'; INSERT INTO t VALUES (2, 'z')")
        await asyncio.sleep(1.5)
        assert len(b.table()) == 1
        holder.execute("ROLLBACK")
        await eventually(lambda: a.table() == b.table(), "the change is there")


async def test_sessions_that_are_ended_begin_anew(nodes: list[Node], spool_of: Callable[[Node], Path | None]) -> None:
    a, b = nodes
    to_b = link(b, a, spool_of(b))
    await to_b.prepare()
    async with applying(to_b):
        for number in range(20):
            a.do(f"INSERT INTO t SELECT i, 'x' FROM generate_series({number * 100}, {number * 100 + 99}) AS i")
            victim = a if number % 2 else b
            victim.do(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        await eventually(lambda: a.table() == b.table(), "all rows are there", within_s=40)
    assert len(b.table()) == 2000


async def test_a_slot_that_was_confirmed_further_than_is_known_here_is_refused(nodes: list[Node]) -> None:
    a, b = nodes
    to_b = link(b, a)
    await to_b.prepare()
    async with applying(to_b):
        a.do("INSERT INTO t VALUES (1, 'x')")
        await eventually(lambda: a.table() == b.table(), "the row is there")
    origin = to_b.settings.origin
    await eventually(
        lambda: b.do("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'twinstar%'") == [(0,)],
        "the sessions are over",
    )
    b.do(f"SELECT pg_replication_origin_drop('{origin}')")
    with pytest.raises(EngineError, match="join this node anew"):
        await run_applier(to_b)
    b.do(f"SELECT pg_replication_origin_create('{origin}')")
    b.do(f"SELECT pg_replication_origin_advance('{origin}', '0/1')")
    with pytest.raises(EngineError, match="copy this node anew"):
        await run_applier(to_b)
    a.do(f"SELECT pg_drop_replication_slot('{to_b.settings.slot}')")
    with pytest.raises(EngineError, match="copy this node anew"):
        await run_applier(to_b)


async def test_two_nodes_that_write_the_same_row_and_wait_for_each_other_do_not_hang(
    nodes: list[Node], tmp_path: Path
) -> None:
    a, b = nodes
    links = [link(here, peer, tmp_path / here.server.name) for here, peer in ((a, b), (b, a))]
    for each in links:
        await each.prepare()
    a.do("INSERT INTO t VALUES (1, 'x')")

    async def write(node: Node, times: int) -> None:
        connection = await psycopg.AsyncConnection.connect(
            node.server.conninfo(), dbname=node.database, autocommit=True
        )
        async with connection:
            for number in range(times):
                await connection.execute("UPDATE t SET v = %s WHERE id = 1", (f"{node.server.name} {number}",))

    async with AsyncExitStack() as stack:
        for each in links:
            await stack.enter_async_context(applying(each))
        await eventually(lambda: a.table() == b.table(), "the row is there")
        for node, peer in ((a, b), (b, a)):
            node.server.set(synchronous_standby_names=f"ANY 1 ({peer.database}_{peer.server.name})")
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(write(a, 100), write(b, 100))
        finally:
            for node in nodes:
                node.server.set(synchronous_standby_names="")
        await eventually(lambda: a.table() == b.table(), "both have the same in the end")
