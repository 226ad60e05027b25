"""Streams between real servers, with rules that are as simple as can be: of two versions the greater one stays."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql

from tests.engine.postgresql.lab import Server
from twinstar.engine.postgresql.multiwriter.applier import run_applier
from twinstar.engine.postgresql.multiwriter.batch import Changes
from twinstar.engine.postgresql.multiwriter.beginning import Cause, GapFound
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.link import Link
from twinstar.engine.postgresql.multiwriter.names import slot_name
from twinstar.engine.postgresql.multiwriter.places import begin_at, forget, give_up_place, make_place, standing
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
CREATE TABLE twinstar.node (number int);
CREATE TABLE twinstar.dead_letters ();
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
    async def apply(self, connection: Connection, table: Table, changes: Changes, peer: str) -> int:
        changes.spread()
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
        return 0

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
    number: int

    @property
    def parameters(self) -> dict[str, str | int]:
        return {"host": str(self.server.root), "port": self.server.port, "user": "lab", "dbname": self.database}

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return self.server.connect(dbname=self.database, **options)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        connection = await psycopg.AsyncConnection.connect(
            self.server.conninfo(), dbname=self.database, autocommit=True
        )
        async with connection:
            yield connection

    def do(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.conninfo(), dbname=self.database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def table(self) -> list[tuple[Any, ...]]:
        return self.do("SELECT id, v, twinstar_stamp FROM t ORDER BY id")


@pytest.fixture
def nodes(running: list[Server], database: str) -> list[Node]:
    made = [Node(server, database, number) for number, server in enumerate(running[:2], 1)]
    for node in made:
        node.do(f"{SET_UP}; INSERT INTO twinstar.node VALUES ({node.number})")
    return made


def link(here: Node, peer: Node, folder: Path, durability: Literal["async", "quorum"] = "async") -> Link:
    settings = ApplierSettings(
        local=here.parameters,
        peer=peer.parameters,
        peer_name=peer.server.name,
        number=here.number,
        peer_number=peer.number,
        durability=durability,
        spool=folder / f"{here.server.name}.spool",
        state_file=folder / f"{here.server.name}.json",
    )
    return Link(settings, GreaterStays(), SystemClock(), SystemRandomness())


async def join(here: Node, peer: Node) -> None:
    """From now on the peer keeps what `here` has to receive."""
    async with peer.session() as connection:
        position = await make_place(connection, here.number)
    async with here.session() as connection:
        await begin_at(connection, peer.number, position)


@asynccontextmanager
async def applying(link: Link) -> AsyncIterator[asyncio.Task[None]]:
    """An applier that is cancelled in the end."""
    task = asyncio.create_task(run_applier(link))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


Linked = Callable[[Node, Node], Awaitable[Link]]


@pytest.fixture(params=["async", "quorum"])
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> Linked:
    async def made(here: Node, peer: Node) -> Link:
        await join(here, peer)
        return link(here, peer, tmp_path, request.param)

    return made


async def test_rows_arrive_also_those_written_while_nobody_reads(nodes: list[Node], linked: Linked) -> None:
    a, b = nodes
    to_b = await linked(b, a)
    a.do("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 3) AS i")
    async with applying(to_b):
        await eventually(lambda: a.table() == b.table(), "the first rows are there")
        a.do("UPDATE t SET v = 'new' WHERE id = 2")
        await eventually(lambda: a.table() == b.table(), "the change is there")
    a.do("INSERT INTO t VALUES (4, 'later'); UPDATE t SET v = 'newer' WHERE id = 2")
    async with applying(to_b):
        await eventually(lambda: a.table() == b.table(), "what was missed is there")


async def test_a_transaction_larger_than_a_batch_is_seen_as_a_whole(nodes: list[Node], linked: Linked) -> None:
    a, b = nodes
    to_b = await linked(b, a)
    seen = set()

    def count() -> int:
        ((number,),) = b.do("SELECT count(*) FROM t")
        seen.add(number)
        return int(number)

    async with applying(to_b):
        a.do("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 10000) AS i")
        await eventually(lambda: count() == 10_000, "all rows are there")
    assert seen <= {0, 10_000}


async def test_what_cannot_be_applied_is_kept_and_the_rest_goes_on(nodes: list[Node], linked: Linked) -> None:
    a, b = nodes
    to_b = await linked(b, a)
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


async def test_a_lock_is_waited_for(nodes: list[Node], linked: Linked) -> None:
    a, b = nodes
    to_b = await linked(b, a)
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


async def test_sessions_that_are_ended_begin_anew(nodes: list[Node], linked: Linked) -> None:
    a, b = nodes
    to_b = await linked(b, a)
    async with applying(to_b):
        for number in range(20):
            a.do(f"INSERT INTO t SELECT i, 'x' FROM generate_series({number * 100}, {number * 100 + 99}) AS i")
            victim = a if number % 2 else b
            victim.do(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        await eventually(lambda: a.table() == b.table(), "all rows are there")
    assert len(b.table()) == 2000


async def gap(link: Link) -> Cause:
    with pytest.raises(GapFound) as found:
        async with asyncio.timeout(30):
            await run_applier(link)
    return found.value.gap.cause


async def over(node: Node) -> None:
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'twinstar%'"
    await eventually(lambda: node.do(sessions) == [(0,)], "the sessions are over")


async def test_a_gap_is_never_read_over(nodes: list[Node], tmp_path: Path) -> None:
    a, b = nodes
    to_b = link(b, a, tmp_path)
    origin, slot = to_b.settings.origin, to_b.settings.slot
    assert await gap(to_b) is Cause.NO_ORIGIN
    await join(b, a)
    await join(b, a)
    async with applying(to_b):
        a.do("INSERT INTO t VALUES (1, 'x')")
        await eventually(lambda: a.table() == b.table(), "the row is there")
    ((reached,),) = b.do(f"SELECT pg_replication_origin_progress('{origin}', false)")
    for position, cause in (("0/1", Cause.SLOT_BEYOND), ("F/0", Cause.LOG_ENDS_BEFORE)):
        await over(b)
        b.do(f"SELECT pg_replication_origin_advance('{origin}', '{position}')")
        assert await gap(to_b) is cause
    for node in nodes:
        await over(node)
    b.do(f"SELECT pg_replication_origin_advance('{origin}', '{reached}')")
    a.do(f"SELECT pg_drop_replication_slot('{slot}')")
    assert await gap(to_b) is Cause.NO_SLOT
    await over(b)
    b.do(f"SELECT pg_replication_origin_drop('{origin}')")
    assert await gap(to_b) is Cause.NO_ORIGIN


async def test_a_place_whose_log_was_removed_is_a_gap(own: list[Server], tmp_path: Path) -> None:
    a, b = (Node(server, "postgres", number) for number, server in enumerate(own[:2], 1))
    for node in (a, b):
        node.do(f"{SET_UP}; INSERT INTO twinstar.node VALUES ({node.number})")
    await join(b, a)
    a.server.set(max_slot_wal_keep_size="1")
    for _ in range(4):
        a.do("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 1000) AS i; DELETE FROM t")
        a.do("SELECT pg_switch_wal(); CHECKPOINT")
    async with a.session() as connection:
        assert (await standing(connection)).places[b.number].wal_status == "lost"
    assert await gap(link(b, a, tmp_path)) is Cause.SLOT_LOST


async def test_another_life_of_a_member_is_not_taken_for_the_one_it_was(nodes: list[Node], tmp_path: Path) -> None:
    a, b = nodes
    await join(b, a)
    for node, whose in ((a, "n1"), (b, "this node")):
        node.do("UPDATE twinstar.node SET number = number + 10")
        with pytest.raises(EngineError, match=f"of {whose} is node {node.number + 10} and not node {node.number}"):
            await run_applier(link(b, a, tmp_path))
        node.do("UPDATE twinstar.node SET number = number - 10")


async def test_a_node_says_how_far_it_is(nodes: list[Node], tmp_path: Path) -> None:
    a, b = nodes
    await join(b, a)
    await join(a, b)
    async with applying(link(b, a, tmp_path)):
        a.do("INSERT INTO t VALUES (1, 'x')")
        await eventually(lambda: a.table() == b.table(), "the row is there")
    await over(b)
    async with a.session() as connection:
        at_a = await standing(connection)
    async with b.session() as connection:
        at_b = await standing(connection)
        await give_up_place(connection, a.number)
        await forget(connection, a.number)
        after = await standing(connection)
    assert at_a.places[b.number].confirmed <= at_b.applied[a.number] <= at_a.log_end
    assert (at_a.dead_letters, list(at_a.places), list(at_b.places)) == (0, [2], [1])
    assert (after.places, after.applied) == ({}, {})


async def test_two_nodes_that_write_the_same_row_and_wait_for_each_other_do_not_hang(
    nodes: list[Node], tmp_path: Path
) -> None:
    a, b = nodes
    links = [link(here, peer, tmp_path, "quorum") for here, peer in ((a, b), (b, a))]
    for here, peer in ((a, b), (b, a)):
        await join(here, peer)
    a.do("INSERT INTO t VALUES (1, 'x')")

    async def write(node: Node, times: int) -> None:
        async with node.session() as connection:
            for number in range(times):
                await connection.execute("UPDATE t SET v = %s WHERE id = 1", (f"{node.server.name} {number}",))

    async with AsyncExitStack() as stack:
        for each in links:
            await stack.enter_async_context(applying(each))
        await eventually(lambda: a.table() == b.table(), "the row is there")
        for node, peer in ((a, b), (b, a)):
            node.server.set(synchronous_standby_names=f"ANY 1 ({slot_name(peer.number)})")
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(write(a, 100), write(b, 100))
        finally:
            for node in nodes:
                node.server.set(synchronous_standby_names="")
        await eventually(lambda: a.table() == b.table(), "both have the same in the end")
