"""The same writes, brought to two databases in every order, grouped and repeated, leave them equal."""

from __future__ import annotations

import itertools
import random

from tests.engine.multiwriter.world import Node, burials, images, part, prepare
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Image

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10, 2))"
UNIQUE = "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, v text)"


async def test_a_successor_replaces_without_conflict(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    first = await one.write("t", "INSERT INTO t VALUES (1, 'a', 1.5)", "id = 1")
    second = await one.write("t", "UPDATE t SET v = NULL", "id = 1")
    assert second.was == first.stamp
    assert (await two.apply("t", images(first))).rows == 1
    assert (await two.apply("t", images(second))).rows == 1
    assert (await two.apply("t", images(second))).rows == 0
    assert (await two.apply("t", images(first))).rows == 0
    assert await one.state("t") == await two.state("t")
    assert await two.conflicts() == []


async def test_an_update_of_a_row_that_is_missing_brings_it(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    await one.write("t", "INSERT INTO t VALUES (1, 'a', 1)", "id = 1")
    second = await one.write("t", "UPDATE t SET v = 'b'", "id = 1")
    await two.apply("t", images(second))
    assert await two.rows("SELECT v FROM t") == [("b",)]
    assert await two.conflicts() == []


async def test_concurrent_updates_keep_the_later_and_log_the_other(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    base = await one.write("t", "INSERT INTO t VALUES (1, 'base', 1)", "id = 1")
    await two.apply("t", images(base))
    ours = await one.write("t", "UPDATE t SET v = 'ours'", "id = 1")
    theirs = await two.write("t", "UPDATE t SET v = 'theirs'", "id = 1")
    assert theirs.stamp > ours.stamp
    assert (await one.apply("t", images(theirs))).conflicts == 1
    assert (await two.apply("t", images(ours))).conflicts == 1
    assert await one.state("t") == await two.state("t")
    for each, winner in ((one, "incoming"), (two, "local")):
        ((kind, won, winner_image, loser_image),) = await each.conflicts()
        assert (kind, won, winner_image["v"], loser_image["v"]) == ("update/update", winner, "theirs", "ours")


async def test_a_deletion_beats_what_is_older_and_yields_to_what_is_newer(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, three = trio
    base = await one.write("t", "INSERT INTO t VALUES (1, 'base', 1)", "id = 1")
    for each in (two, three):
        await each.apply("t", images(base))
    older = await three.write("t", "UPDATE t SET v = 'older'", "id = 1")
    buried = await one.delete("t", "id = 1")
    newer = await two.write("t", "UPDATE t SET v = 'newer'", "id = 1")
    await two.apply("t", burials(buried))
    assert await two.rows("SELECT v FROM t") == [("newer",)]
    await one.apply("t", images(newer))
    await one.apply("t", images(older))
    await three.apply("t", burials(buried))
    assert await three.rows("SELECT v FROM t") == []
    await three.apply("t", images(newer))
    await two.apply("t", images(older))
    assert await one.state("t") == await two.state("t") == await three.state("t")


async def test_a_batch_that_inserts_and_deletes_leaves_a_tombstone_and_no_conflict(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    made = await one.write("t", "INSERT INTO t VALUES (1, 'a', 1)", "id = 1")
    buried = await one.delete("t", "id = 1")
    again = await one.write("t", "INSERT INTO t VALUES (1, 'b', 1)", "id = 1")
    assert again.stamp > buried.stamp
    await two.apply("t", Changes(images=[made], burials=[buried]))
    assert await two.rows("SELECT id FROM t") == []
    await two.apply("t", images(again))
    await two.apply("t", images(made))
    assert await one.state("t") == await two.state("t")
    assert await two.conflicts() == []


async def test_a_changed_key_is_a_deletion_and_an_insertion(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    made = await one.write("t", "INSERT INTO t VALUES (1, 'a', 1)", "id = 1")
    await two.apply("t", images(made))
    await one.do("UPDATE t SET id = 2")
    moved, buried = await one.image("t", "id = 2"), await one.burial("t", "id = 1")
    await two.apply("t", Changes(images=[moved], burials=[buried]))
    assert await two.rows("SELECT id, v FROM t") == [(2, "a")]
    assert await one.state("t") == await two.state("t")


def orders(changes: list[Image | Burial], limit: int) -> list[tuple[Image | Burial, ...]]:
    every = list(itertools.permutations(changes))
    return every if len(every) <= limit else random.Random(len(changes)).sample(every, limit)


async def test_every_order_and_repetition_ends_the_same(trio: list[Node]) -> None:
    """Three nodes write to one key without hearing of each other; a fourth is given all of it in every order."""
    await prepare(trio, PLAIN)
    one, two, three = trio
    base = await one.write("t", "INSERT INTO t VALUES (1, 'base', 1)", "id = 1")
    for each in (two, three):
        await each.apply("t", images(base))
    changes: list[Image | Burial] = [base]
    changes.append(await two.write("t", "UPDATE t SET v = 'two'", "id = 1"))
    changes.append(await one.delete("t", "id = 1"))
    changes.append(await three.write("t", "UPDATE t SET v = 'three'", "id = 1"))
    changes.append(await one.write("t", "INSERT INTO t VALUES (1, 'again', 2)", "id = 1"))
    changes.append(await three.delete("t", "id = 1"))
    seen = set()
    for number, order in enumerate(orders(changes, 60)):
        # Each order has a key of its own, so that one database does for all.
        for change in (*order, *order[: number % 4]):
            await two.apply("t", part(_under(change, 1000 + number)))
        key = f"id = {1000 + number}"
        seen.add((str(await two.rows(f"SELECT v, n FROM t WHERE {key}")), (await two.burial("t", key)).stamp))
    assert len(seen) == 1


def _under(change: Image | Burial, key: int) -> Image | Burial:
    if isinstance(change, Burial):
        return change._replace(key=(str(key),))
    return change._replace(values=(str(key), *change.values[1:]))


async def test_of_two_rows_with_one_unique_value_the_later_stays_everywhere(trio: list[Node]) -> None:
    await prepare(trio, UNIQUE)
    one, two, _ = trio
    ours = await one.write("t", "INSERT INTO t VALUES (1, 'x', 'ours')", "id = 1")
    theirs = await two.write("t", "INSERT INTO t VALUES (2, 'x', 'theirs')", "id = 2")
    assert (await one.apply("t", images(theirs))).conflicts == 1
    assert (await two.apply("t", images(ours))).conflicts == 1
    assert await one.rows("SELECT v FROM t") == [("theirs",)]
    assert await one.state("t") == await two.state("t")
    assert [kind for kind, *_ in await one.conflicts()] == ["unique"]
    for each in (one, two):
        assert await each.rows("SELECT key ->> 'id', stamp FROM twinstar.repairs") == [("1", ours.stamp | 1023)]


async def test_unique_values_that_change_hands_in_one_batch_are_no_conflict(trio: list[Node]) -> None:
    await prepare(trio, UNIQUE)
    one, two, _ = trio
    first = await one.write("t", "INSERT INTO t VALUES (1, 'x', '')", "id = 1")
    second = await one.write("t", "INSERT INTO t VALUES (2, 'y', '')", "id = 2")
    await two.apply("t", images(first, second))
    await one.clock(1)  # stamps follow the rows now, not the time
    for statement in ("SET u = 'z' WHERE id = 1", "SET u = 'x' WHERE id = 2", "SET u = 'y' WHERE id = 1"):
        await one.do(f"UPDATE t {statement}")
    swapped = [await one.image("t", "id = 1", first.stamp), await one.image("t", "id = 2", second.stamp)]
    await two.apply("t", images(*swapped))
    assert await one.state("t") == await two.state("t")
    assert await two.conflicts() == []


async def test_a_slow_clock_neither_loses_its_update_nor_its_insertion(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    await one.clock(10**15 * 3)
    made = await one.write("t", "INSERT INTO t VALUES (1, 'fast', 1)", "id = 1")
    await two.apply("t", images(made))
    slow = await two.write("t", "UPDATE t SET v = 'slow'", "id = 1")
    await one.apply("t", images(slow))
    assert await one.rows("SELECT v FROM t") == [("slow",)]
    await two.apply("t", burials(await one.delete("t", "id = 1")))
    again = await two.write("t", "INSERT INTO t VALUES (1, 'again', 1)", "id = 1")
    await one.apply("t", images(again))
    assert await one.rows("SELECT v FROM t") == [("again",)]
    assert await one.state("t") == await two.state("t")
