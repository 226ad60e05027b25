"""A slot of a real server is read, and the server knows how far we are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from tests.engine.postgresql.lab import Server, until
from twinstar.engine.postgresql.multiwriter.pgoutput import Commit, Insert, decode
from twinstar.engine.postgresql.multiwriter.stream import Stream
from twinstar.model.position import format_lsn, parse_lsn
from twinstar.ports.clock import SystemClock

SLOT = "for_n2"


def parameters(server: Server, database: str) -> dict[str, str | int]:
    return {"host": str(server.root), "port": server.port, "user": "lab", "dbname": database}


@pytest.fixture
def peer(running: list[Server]) -> Server:
    return running[0]


@pytest.fixture
def do(peer: Server, database: str) -> Callable[[str], object]:
    connection = peer.connect(dbname=database)

    def run(statement: str) -> object:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    run("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION twinstar FOR TABLE t")
    return run


def make_slot(do: Callable[[str], object]) -> int:
    return parse_lsn(str(do(f"SELECT lsn FROM pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")))


@pytest.fixture
async def stream(peer: Server, database: str) -> AsyncIterator[Stream]:
    opened = await Stream.open(parameters(peer, database), SystemClock())
    yield opened
    await opened.close()


async def rows(stream: Stream, count: int) -> tuple[list[str | None], int]:
    """The first column of so many rows, and where the last transaction ended."""
    found: list[str | None] = []
    end_lsn = 0
    async with asyncio.timeout(20):
        while len(found) < count or not end_lsn:
            for message in map(decode, await stream.read()):
                if isinstance(message, Insert):
                    found.append(message.new[0])
                    end_lsn = 0
                elif isinstance(message, Commit):
                    end_lsn = message.end_lsn
    return found, end_lsn


async def test_a_slot_is_made_and_read_from_there(
    stream: Stream, do: Callable[[str], object], peer: Server, database: str
) -> None:
    assert await stream.slot(SLOT) is None
    do("INSERT INTO t VALUES (0)")
    position = make_slot(do)
    slot = await stream.slot(SLOT)
    assert slot is not None
    assert (slot.confirmed, slot.active, slot.lost) == (position, False, False)
    do("INSERT INTO t SELECT generate_series(1, 20000)")
    await stream.start(SLOT, "twinstar", position)
    found, end_lsn = await rows(stream, 20_000)
    assert found == [str(number) for number in range(1, 20_001)]
    assert end_lsn <= stream.received
    other = await Stream.open(parameters(peer, database), SystemClock())
    with pytest.raises(psycopg.errors.ObjectInUse):
        await other.start(SLOT, "twinstar", position)
    await other.close()


async def test_the_peer_knows_how_far_we_are_and_sends_no_more_of_it(
    stream: Stream, do: Callable[[str], object], peer: Server, database: str
) -> None:
    await stream.start(SLOT, "twinstar", make_slot(do))
    do("INSERT INTO t VALUES (1)")
    _, end_lsn = await rows(stream, 1)
    told = f"""
        SELECT ARRAY[write_lsn - lsn, flush_lsn - lsn, replay_lsn - lsn, confirmed_flush_lsn - lsn]::int[]
        FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid,
            CAST('{format_lsn(end_lsn)}' AS pg_lsn) AS lsn
        WHERE slot_name = '{SLOT}'"""
    heard = f"""
        SELECT reply_time FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
        WHERE slot_name = '{SLOT}'"""
    stream.report(end_lsn + 8, end_lsn, end_lsn - 8, ask=True)
    assert await stream.read() == []
    # It sends such messages of its own accord, too: this may have been one.
    until(lambda: do(told) == [8, 0, -8, 0], "it knows how far we are")
    before = do(heard)
    await asyncio.sleep(0.002)
    stream.report(0, 0, 0)
    until(lambda: do(heard) != before, "it has heard the second report")
    assert do(told) == [8, 0, -8, 0], "never back"
    await stream.close()
    until(lambda: do(f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{SLOT}'"), "the slot is free")
    do("INSERT INTO t VALUES (2)")
    again = await Stream.open(parameters(peer, database), SystemClock())
    try:
        await again.start(SLOT, "twinstar", end_lsn)
        assert (await rows(again, 1))[0] == ["2"]
    finally:
        await again.close()


async def test_a_stream_that_the_peer_ends_raises(stream: Stream, do: Callable[[str], object]) -> None:
    await stream.start(SLOT, "twinstar", make_slot(do))
    do("INSERT INTO t VALUES (1)")
    assert do(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")
    with pytest.raises(psycopg.OperationalError):
        await rows(stream, 2)


async def test_what_a_session_with_an_origin_wrote_is_not_sent(stream: Stream, do: Callable[[str], object]) -> None:
    await stream.start(SLOT, "twinstar", make_slot(do))
    do("SELECT pg_replication_origin_create('elsewhere')")
    do("SELECT pg_replication_origin_session_setup('elsewhere')")
    try:
        do("INSERT INTO t VALUES (1)")
    finally:
        do("SELECT pg_replication_origin_session_reset()")
        do("SELECT pg_replication_origin_drop('elsewhere')")
    do("INSERT INTO t VALUES (2)")
    assert (await rows(stream, 1))[0] == ["2"]
