"""What sessions do to each other: real ones, held at the point that matters by a transaction that is not committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from tests.engine.multiwriter.world import SETTINGS, Connection, Node, burials, images, prepare, swath
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Image
from twinstar.engine.postgresql.multiwriter.fragments import function
from twinstar.engine.postgresql.multiwriter.objects import APPLIER_ROLE
from twinstar.engine.postgresql.multiwriter.resolving import LOST
from twinstar.engine.postgresql.multiwriter.table import Policy
from twinstar.engine.postgresql.multiwriter.upkeep import settle

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text)"
FUTURE = (2 * 10**15) << 10 | 9
"""A stamp of a node whose clock is far ahead."""


def far(key: int, value: str, stamp: int = FUTURE) -> Image:
    """An image of `PLAIN`, as its columns are sent."""
    return Image((str(key), value, str(stamp)), stamp, 0, 0)


@asynccontextmanager
async def session(node: Node, *, applies: bool = False) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(
        f"{node.conninfo} user={APPLIER_ROLE}" if applies else node.conninfo, autocommit=True
    ) as connection:
        for name, value in (SETTINGS if applies else {}).items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        yield connection


async def waits(node: Node, connection: Connection) -> None:
    """Returns when the session waits for a lock."""
    query = f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {connection.info.backend_pid}"
    for _ in range(10_000):
        if await node.ask(query) == "Lock":
            return
        await asyncio.sleep(0.005)
    pytest.fail("the session waits for nothing")


async def equal(node: Node) -> None:
    """No row is older than its tombstone."""
    table = node.tables["t"].table
    assert not await node.rows(
        f"SELECT FROM t JOIN twinstar.{table.companion} d USING (id) WHERE t.twinstar_stamp <= d.twinstar_stamp"
    )


async def test_a_tombstone_waits_for_no_open_insertion_and_is_looked_at_again(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one) as writer, session(one) as upkeep:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (1, 'open')")
        await one.apply("t", burials(Burial(("1",), FUTURE, 5, None)))
        assert await settle(upkeep) == 1
        await writer.execute("COMMIT")
        assert await one.rows("SELECT v FROM t") == [("open",)]
        assert await settle(upkeep) == 0
    assert await one.rows("SELECT v FROM t") == []
    ((kind, winner, _, lost),) = await one.conflicts()
    assert (kind, winner, lost["v"]) == ("update/delete", "incoming", "open")


@pytest.mark.parametrize("policy", [None, Policy(groups=(("v",),))], ids=["rows", "groups"])
async def test_who_looks_again_does_not_settle_what_came_meanwhile(trio: list[Node], policy: Policy | None) -> None:
    """A row between two tombstones: the first was looked at again, the greater one would never have been."""
    one = trio[0]
    await prepare([one], PLAIN, policy=policy)
    async with session(one) as writer, session(one) as upkeep, session(one, applies=True) as other:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (1, 'open')")
        await one.apply("t", burials(Burial(("1",), 1000 << 10 | 9, 5, None)))
        async with other.transaction():
            await one.tables["t"].apply(other, burials(Burial(("1",), FUTURE, 5, None)), "n2")
            await writer.execute("COMMIT")
            settling = asyncio.create_task(settle(upkeep))
            await waits(one, upkeep)
        async with asyncio.timeout(60):
            assert await settling == 1
        assert await settle(upkeep) == 0
    await equal(one)
    assert await one.rows("SELECT v FROM t") == []


async def test_an_insertion_after_the_tombstone_is_newer(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    await one.apply("t", burials(Burial(("1",), FUTURE, 5, None)))
    await one.do("INSERT INTO t VALUES (1, 'later')")
    await equal(one)
    assert await one.rows("SELECT v FROM t") == [("later",)]


async def test_an_insertion_that_waited_for_a_tombstone_is_newer(trio: list[Node]) -> None:
    """The applier has the bucket, the user's insertion waits for it and then sees the tombstone."""
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one) as writer, one.applier.transaction():
        changes = burials(Burial(("1",), FUTURE, 5, None))
        await one.tables["t"].apply(one.applier, changes, "peer")
        inserting = asyncio.create_task(writer.execute("INSERT INTO t VALUES (1, 'later')"))
        await waits(one, writer)
    async with asyncio.timeout(60):
        await inserting
    await equal(one)
    assert await one.rows("SELECT v FROM t") == [("later",)]


async def test_an_insertion_that_waited_for_a_deletion_is_newer_than_its_tombstone(trio: list[Node]) -> None:
    """Its trigger has fired when it waits in the key's index; the deleted row came from a clock far ahead."""
    one = trio[0]
    await prepare([one], PLAIN)
    await one.apply("t", images(far(1, "ahead")))
    async with session(one) as deleter, session(one) as writer:
        await deleter.execute("BEGIN")
        await deleter.execute("DELETE FROM t")
        inserting = asyncio.create_task(writer.execute("INSERT INTO t VALUES (1, 'later')"))
        await waits(one, writer)
        await deleter.execute("COMMIT")
        async with asyncio.timeout(60):
            await inserting
    await equal(one)
    assert await one.rows("SELECT v FROM t") == [("later",)]


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_appliers_insertion_that_waited_for_a_deletion_stays_below_its_tombstone(
    trio: list[Node], at_once: bool
) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    await one.apply("t", images(far(1, "here")))
    older = far(1, "older", FUTURE - 1024)
    changes = swath(one.tables["t"].table, [older], inserted=True) if at_once else images(older)
    async with session(one) as deleter:
        await deleter.execute("BEGIN")
        await deleter.execute("DELETE FROM t")
        applying = asyncio.create_task(one.apply("t", changes))
        await waits(one, one.applier)
        await deleter.execute("COMMIT")
        async with asyncio.timeout(60):
            await applying
    await equal(one)
    assert await one.rows("SELECT v FROM t") == []


async def test_rows_of_which_one_waited_for_an_insertion_are_decided_one_by_one(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    brought = [far(key, "newer", FUTURE + (key << 10)) for key in (1, 2, 3)]
    async with session(one) as writer:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (2, 'open')")
        changes = swath(one.tables["t"].table, brought, inserted=True)
        applying = asyncio.create_task(one.apply("t", changes))
        await waits(one, one.applier)
        await writer.execute("COMMIT")
        async with asyncio.timeout(60):
            done = await applying
    assert (done.rows, done.conflicts) == (3, 1)
    assert await one.rows("SELECT v FROM t") == [("newer",)] * 3
    ((kind, winner, _, lost),) = await one.conflicts()
    assert (kind, winner, lost["v"]) == ("insert/insert", "incoming", "open")


async def test_an_insertion_that_is_open_beside_a_tombstone_of_another_key_is_waited_for_by_nobody(
    trio: list[Node],
) -> None:
    """Who brings many rows has the locks of all keys: a tombstone that comes meanwhile is looked at again."""
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one, applies=True) as other, session(one) as upkeep:
        async with other.transaction():
            changes = swath(one.tables["t"].table, [far(1, "new", FUTURE - 1024)], inserted=True)
            await one.tables["t"].apply(other, changes, "n2")
            await one.apply("t", burials(*[Burial((str(key),), FUTURE, 5, None) for key in (1, 2)]))
            assert await settle(upkeep) == 2
        assert await settle(upkeep) == 0
    await equal(one)
    assert await one.rows("SELECT v FROM t") == []


async def test_of_three_rows_with_one_value_the_newest_stays_also_when_two_come_at_once(trio: list[Node]) -> None:
    """The second one waits for who removes the oldest, and then meets the newest, which it must not remove."""
    one = trio[0]
    await prepare([one], "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE)")
    oldest, middle, newest = (far(key, "same", FUTURE + (key << 10)) for key in (1, 2, 3))
    await one.apply("t", images(oldest))
    table = one.tables["t"].table
    resolve = f"SELECT {function(table, 'apply')}(%s, %s, 0, 0, 'n2', true)"
    async with session(one, applies=True) as second:
        async with one.applier.transaction():
            await one.tables["t"].apply(one.applier, images(newest), "n3")
            resolving = asyncio.create_task(second.execute(resolve.encode(), [table.shape, list(middle.values)]))
            await waits(one, second)
        async with asyncio.timeout(60):
            found = await resolving
    assert await found.fetchone() == (LOST,)
    await equal(one)
    assert await one.rows("SELECT id FROM t") == [(3,)]


async def test_a_tombstone_reaches_what_was_deleted_and_made_anew_meanwhile(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    await one.do("INSERT INTO t VALUES (1, 'old')")
    was = await one.ask("SELECT twinstar_stamp FROM t")
    async with session(one) as writer, session(one) as upkeep:
        await writer.execute("BEGIN")
        await writer.execute("DELETE FROM t")
        await writer.execute("INSERT INTO t VALUES (1, 'anew')")
        applying = asyncio.create_task(one.apply("t", burials(Burial(("1",), FUTURE, was, None))))
        await waits(one, one.applier)
        await writer.execute("COMMIT")
        async with asyncio.timeout(60):
            await applying
        assert await settle(upkeep) == 0
    await equal(one)
    assert await one.rows("SELECT v FROM t") == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_old_snapshot_does_not_insert_below_a_tombstone_that_it_cannot_see(
    trio: list[Node], level: str
) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one) as writer:
        await writer.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        await writer.execute("SELECT FROM t")
        await one.apply("t", burials(Burial(("1",), FUTURE, 5, None)))
        with pytest.raises(psycopg.errors.SerializationFailure):
            await writer.execute("INSERT INTO t VALUES (1, 'late')")
        await writer.execute("ROLLBACK")
        await writer.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        await writer.execute("INSERT INTO t VALUES (1, 'again'), (2, 'new')")
        await writer.execute("COMMIT")
    await equal(one)
    assert await one.rows("SELECT v FROM t ORDER BY id") == [("again",), ("new",)]
    assert await one.rows(f"SELECT id FROM twinstar.{one.tables['t'].table.companion}") == [(1,)]


async def test_a_local_deletion_and_an_appliers_update_of_the_same_row(trio: list[Node]) -> None:
    one, two, _ = trio
    await prepare([one, two], PLAIN)
    first = await two.write("t", "INSERT INTO t VALUES (1, 'first')", "id = 1")
    await one.apply("t", images(first))
    async with session(one) as deleter:
        await deleter.execute("BEGIN")
        await deleter.execute("DELETE FROM t")
        second = await two.write("t", "UPDATE t SET v = 'second'", "id = 1")
        applying = asyncio.create_task(one.apply("t", images(second)))
        await waits(one, one.applier)
        await deleter.execute("COMMIT")
        async with asyncio.timeout(60):
            await applying
    # The update was written after the deletion and did not know of it.
    assert await one.rows("SELECT v FROM t") == [("second",)]
    await two.apply("t", burials(await one.burial("t", "id = 1")))
    assert await one.state("t") == await two.state("t")
    ((kind, winner, won, lost),) = await one.conflicts()
    assert (kind, winner, won["v"], lost) == ("delete/update", "incoming", "second", None)


async def test_two_appliers_at_once_bring_the_same_rows(trio: list[Node]) -> None:
    """What two peers send of the same keys, in opposite orders; a deadlock is tried again, as the transport does."""
    one, two, three = trio
    await prepare(trio, PLAIN)
    keys = range(1, 41)
    for each in (two, three):
        for key in keys:
            await each.do(f"INSERT INTO t VALUES ({key}, '{each.number}')")
    brought = [
        [[await each.image("t", f"id = {key}") for key in order] for order in (keys, reversed(keys))]
        for each in (two, three)
    ]
    async with session(one, applies=True) as other:
        await asyncio.gather(
            *(
                _until_applied(one, connection, [Changes(images=part) for part in parts])
                for connection, parts in zip((one.applier, other), brought, strict=True)
            )
        )
    assert await one.rows("SELECT DISTINCT v FROM t") == [("3",)]
    assert await one.ask("SELECT count(*) FROM t") == len(keys)


async def _until_applied(node: Node, connection: Connection, parts: list[Changes]) -> None:
    for changes in parts:
        for _ in range(100):
            try:
                async with connection.transaction():
                    await node.tables["t"].apply(connection, changes, "peer")
                break
            except psycopg.errors.DeadlockDetected:
                continue
        else:
            pytest.fail("a hundred deadlocks in a row")
