"""Counters and groups of columns: the same writes, brought to databases in any order, leave them equal."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass

import pytest

from tests.engine.multiwriter.test_races import session, waits
from tests.engine.multiwriter.world import Node, burials, images, prepare
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image
from twinstar.engine.postgresql.multiwriter.table import Policy
from twinstar.engine.postgresql.multiwriter.upkeep import settle

COUNTED = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, n bigint NOT NULL DEFAULT 0, m numeric(12, 2) NOT NULL DEFAULT 0)"
)
COUNTERS = Policy(counters=("n", "m"))
GROUPED = "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c json, d text)"
GROUPS = Policy(groups=(("a", "b"), ("c",)))
BOTH = Policy(counters=("n",), groups=(("v",),))


@dataclass
class Sent:
    """What one write of a user would make the streams bring."""

    image: Image | None = None
    burial: Burial | None = None
    contributions: tuple[Contribution, ...] = ()

    @property
    def changes(self) -> Changes:
        return Changes(
            [self.image] if self.image else [], [self.burial] if self.burial else [], list(self.contributions)
        )


async def write(node: Node, statement: str, where: str = "id = 1") -> Sent:
    image = await node.write("t", statement, where)
    return Sent(image, None, await own(node, where))


async def delete(node: Node, where: str = "id = 1") -> Sent:
    return Sent(None, await node.delete("t", where))


async def own(node: Node, where: str) -> tuple[Contribution, ...]:
    if not node.tables["t"].table.counters:
        return ()
    return tuple(each for each in await node.contributions("t", where) if each.node in (0, node.number))


async def bring(node: Node, *sent: Sent) -> None:
    for each in sent:
        await node.apply("t", each.changes)


async def same(*nodes: Node) -> None:
    first, *others = [await node.state("t") for node in nodes]
    for other in others:
        assert other == first


async def test_increments_on_all_nodes_count(trio: list[Node]) -> None:
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, three = trio
    base = await write(one, "INSERT INTO t VALUES (1, 'a', 5)")
    await bring(two, base)
    await bring(three, base)
    adds = [await write(node, f"UPDATE t SET n = n + {10**node.number}, m = m - 1.25") for node in trio]
    for node in trio:
        await bring(node, *(sent for other, sent in zip(trio, adds, strict=True) if other is not node))
    assert await one.rows("SELECT n, m::text FROM t") == [(1115, "-3.75")]
    await same(*trio)
    assert await one.conflicts() == []


async def test_an_increment_does_not_take_away_what_was_written_elsewhere(trio: list[Node]) -> None:
    """Finding 6: an update of counters alone leaves the stamp alone."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, _ = trio
    await bring(two, await write(one, "INSERT INTO t VALUES (1, 'a', 0)"))
    written = await write(two, "UPDATE t SET v = 'written'")
    added = await write(one, "UPDATE t SET n = n + 1")
    await bring(one, written)
    await bring(two, added)
    assert await one.rows("SELECT v, n FROM t") == [("written", 1)]
    await same(one, two)


async def test_an_increment_counts_also_when_the_rest_of_its_row_loses(trio: list[Node]) -> None:
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, _ = trio
    await bring(two, await write(one, "INSERT INTO t VALUES (1, 'a', 0)"))
    lesser = await write(one, "UPDATE t SET v = 'lesser', n = n + 1")
    greater = await write(two, "UPDATE t SET v = 'greater', n = n + 10")
    await bring(one, greater)
    await bring(two, lesser)
    assert await one.rows("SELECT v, n FROM t") == [("greater", 11)]
    await same(one, two)
    assert [
        (won, lost["v"]) for _, _, won, lost in [(k, w, wi["v"], li) for k, w, wi, li in await one.conflicts()]
    ] == [("greater", "lesser")]


async def test_two_insertions_of_one_key_both_count(trio: list[Node]) -> None:
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, three = trio
    ours = await write(one, "INSERT INTO t VALUES (1, 'one', 1)")
    theirs = await write(two, "INSERT INTO t VALUES (1, 'two', 2)")
    await bring(one, theirs)
    await bring(two, ours)
    await bring(three, theirs, ours)
    assert await three.rows("SELECT v, n FROM t") == [("two", 3)]
    await same(*trio)


async def test_what_was_added_before_a_deletion_does_not_count_after_it(trio: list[Node]) -> None:
    """Finding 5: also when it arrives late, and when the tombstone has been forgotten here."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, three = trio
    made = await write(one, "INSERT INTO t VALUES (1, 'a', 5)")
    await bring(two, made)
    late = await write(two, "UPDATE t SET n = n + 100")
    gone = await delete(one)
    again = await write(one, "INSERT INTO t VALUES (1, 'b', 1)")
    await bring(two, gone, again)
    await bring(one, late)
    await bring(three, again, late, gone, made)
    assert await one.rows("SELECT v, n FROM t") == [("b", 1)]
    await same(*trio)


async def test_rows_that_were_there_before_count_once(trio: list[Node]) -> None:
    for node in trio:
        await node.do(COUNTED)
        await node.do("INSERT INTO t VALUES (1, 'a', 1000), (2, 'b', 2000)")
        await node.take_in("t", COUNTERS)
    one, two, three = trio
    adds = [await write(node, f"UPDATE t SET n = n + {node.number} WHERE id = 1") for node in (one, two)]
    await bring(two, adds[0])
    await bring(one, adds[1])
    await bring(three, *reversed(adds))
    later = await write(three, "UPDATE t SET n = n + 10, v = 'c' WHERE id = 1")
    await bring(one, later)
    await bring(two, later)
    assert await one.rows("SELECT v, n FROM t WHERE id = 1") == [("c", 1013)]
    assert await one.rows("SELECT v, n, twinstar_stamp FROM t WHERE id = 2") == [("b", 2000, None)]
    for node in (two, three):
        assert await node.rows("SELECT v, n FROM t ORDER BY id") == [("c", 1013), ("b", 2000)]


async def test_groups_win_for_themselves(trio: list[Node]) -> None:
    await prepare(trio, GROUPED, policy=GROUPS)
    one, two, three = trio
    base = await write(one, "INSERT INTO t VALUES (1, 'a', 'b', '{}', 'd')")
    await bring(two, base)
    await bring(three, base)
    first = await write(one, "UPDATE t SET a = 'one', d = 'one'")
    second = await write(two, "UPDATE t SET c = '[2]', d = 'two'")
    await bring(one, second)
    await bring(two, first)
    await bring(three, second, first)
    assert await one.rows("SELECT a, b, c::text, d FROM t") == [("one", "b", "[2]", "two")]
    await same(*trio)
    for node in trio:
        assert await node.rows("SELECT columns, loser_image ->> 'd' FROM twinstar.conflicts") == [(["d"], "one")]


async def test_a_row_that_comes_back_finds_the_groups_that_lost_to_the_tombstone(trio: list[Node]) -> None:
    """Finding 9: B wrote one group before the deletion, C another one after it; nobody knew of the others."""
    await prepare(trio, GROUPED, policy=GROUPS)
    one, two, three = trio
    base = await write(one, "INSERT INTO t VALUES (1, 'a', 'b', '{}', 'd')")
    await bring(two, base)
    await bring(three, base)
    before = await write(two, "UPDATE t SET c = '[2]'")
    gone = await delete(one)
    after = await write(three, "UPDATE t SET a = 'three'")
    await bring(one, before, after)
    await bring(two, after, gone)
    await bring(three, gone, before)
    assert await one.rows("SELECT a, b, c::text, d FROM t") == [("three", "b", "[2]", "d")]
    await same(*trio)


@pytest.mark.parametrize(("definition", "policy"), [(COUNTED, COUNTERS), (GROUPED, GROUPS), (COUNTED, BOTH)])
async def test_every_order_and_repetition_ends_the_same(trio: list[Node], definition: str, policy: Policy) -> None:
    await prepare(trio, definition, policy=policy)
    one, two, three = trio
    column, other = ("v", "n") if definition == COUNTED else ("a", "d")
    base = await write(one, f"INSERT INTO t (id, {column}) VALUES (1, 'base')")
    await bring(two, base)
    await bring(three, base)
    sent = [
        base,
        await write(two, f"UPDATE t SET {column} = 'two'"),
        await write(one, f"UPDATE t SET {other} = {'n + 7' if other == 'n' else repr('one')}"),
        await delete(one),
        await write(three, f"UPDATE t SET {other} = {'n + 50' if other == 'n' else repr('three')}, {column} = 'three'"),
        await write(one, f"INSERT INTO t (id, {column}) VALUES (1, 'again')"),
        await write(two, f"UPDATE t SET {other} = {'n + 300' if other == 'n' else repr('late')}"),
        await delete(three),
    ]
    seen = set()
    every = list(itertools.permutations(sent))
    for number, order in enumerate(random.Random(len(sent)).sample(every, 60)):
        # Each order has a key of its own, so that one database does for all.
        key = 1000 + number
        await bring(two, *(_under(each, key) for each in (*order, *order[: number % 4])))
        row = await two.rows(f"SELECT to_jsonb(t) - 'id' FROM t WHERE id = {key}")
        tombstone = await two.burial("t", f"id = {key}")
        seen.add((str(row), tombstone.stamp))
    assert len(seen) == 1


def _under(sent: Sent, key: int) -> Sent:
    text = str(key)
    burial = sent.burial
    if burial is not None:
        image = burial.image.replace('"id": "1"', f'"id": "{key}"') if burial.image else None
        burial = burial._replace(key=(text,), image=image)
    return Sent(
        sent.image._replace(values=(text, *sent.image.values[1:])) if sent.image else None,
        burial,
        tuple([each._replace(key=(text,)) for each in sent.contributions]),
    )


async def test_sums_are_not_those_of_before_the_lock(trio: list[Node]) -> None:
    """Finding 4: two appliers bring increments of one row; the second waited for the first one's lock."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, three = trio
    base = await write(one, "INSERT INTO t VALUES (1, 'a', 0)")
    await bring(two, base)
    await bring(three, base)
    first = await write(two, "UPDATE t SET n = n + 1, v = 'two'")
    second = await write(three, "UPDATE t SET n = n + 10, v = 'three'")
    async with session(one, applies=True) as other:
        async with one.applier.transaction():
            await one.tables["t"].apply(one.applier, first.changes, "n2")

            async def apply_second() -> None:
                async with other.transaction():
                    await one.tables["t"].apply(other, second.changes, "n3")

            applying = asyncio.create_task(apply_second())
            await waits(one, other)
        async with asyncio.timeout(60):
            await applying
    assert await one.rows("SELECT v, n FROM t") == [("three", 11)]


async def test_a_users_increment_and_an_appliers_at_once(trio: list[Node]) -> None:
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, _ = trio
    await bring(two, await write(one, "INSERT INTO t VALUES (1, 'a', 0)"))
    theirs = await write(two, "UPDATE t SET n = n + 10")
    async with session(one) as user:
        await user.execute("BEGIN")
        await user.execute("UPDATE t SET n = n + 1")
        applying = asyncio.create_task(bring(one, theirs))
        await waits(one, one.applier)
        await user.execute("COMMIT")
        async with asyncio.timeout(60):
            await applying
    assert await one.ask("SELECT n FROM t") == 11


async def test_a_row_is_not_brought_back_beside_what_its_tombstone_is_taking_in(trio: list[Node]) -> None:
    """One applier brings the row back while another one adds a late group to the tombstone."""
    await prepare(trio, GROUPED, policy=GROUPS)
    one, two, three = trio
    base = await write(one, "INSERT INTO t VALUES (1, 'a', 'b', '{}', 'd')")
    await bring(two, base)
    await bring(three, base)
    late = await write(two, "UPDATE t SET c = '[2]'")
    await delete(one)
    newer = await write(three, "UPDATE t SET a = 'three'")
    async with session(one, applies=True) as other:
        async with one.applier.transaction():
            await one.tables["t"].apply(one.applier, newer.changes, "n3")

            async def apply_late() -> None:
                async with other.transaction():
                    await one.tables["t"].apply(other, late.changes, "n2")

            applying = asyncio.create_task(apply_late())
            await waits(one, other)
        async with asyncio.timeout(60):
            await applying
    assert await one.rows("SELECT a, c::text FROM t") == [("three", "[2]")]


async def test_a_row_that_waited_for_a_deletion_has_what_the_tombstone_keeps(trio: list[Node]) -> None:
    """There was no tombstone yet when it was looked for; the one that came is older than the row, but not all of it."""
    await prepare(trio, GROUPED, policy=GROUPS)
    one, two, _ = trio
    await write(two, "INSERT INTO t VALUES (1, 'a', 'b', '[0]', 'd')")
    async with session(one) as writer:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (1, 'x', 'x', '[1]', 'x')")
        await writer.execute("DELETE FROM t")
        newer = await write(two, "UPDATE t SET a = 'two'")
        applying = asyncio.create_task(one.apply("t", newer.changes))
        await waits(one, one.applier)
        await writer.execute("COMMIT")
        async with asyncio.timeout(60):
            await applying
    assert await one.rows("SELECT a, c::text, d FROM t") == [("two", "[1]", "x")]


async def test_a_tombstone_beside_an_open_insertion_is_settled(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], GROUPED, policy=GROUPS)
    far = (2 * 10**15) << 10 | 9
    async with session(one) as writer, session(one) as upkeep:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (1, 'open')")
        await one.apply("t", burials(Burial(("1",), far, 5, None)))
        assert await settle(upkeep) == 1
        await writer.execute("COMMIT")
        assert await settle(upkeep) == 0
    assert await one.rows("SELECT FROM t") == []
    await one.do("INSERT INTO t VALUES (1, 'later')")
    assert await one.ask("SELECT twinstar_stamp FROM t") > far


async def test_an_insertion_that_waited_counts_on_what_it_then_finds(trio: list[Node]) -> None:
    """Its base is read again after it is in its place: the deleted row's contributions are over."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, _ = trio
    await bring(two, await write(one, "INSERT INTO t VALUES (1, 'a', 5)"))
    async with session(one) as deleter, session(one) as writer:
        await deleter.execute("BEGIN")
        await deleter.execute("UPDATE t SET n = n + 1")
        await deleter.execute("DELETE FROM t")
        inserting = asyncio.create_task(writer.execute("INSERT INTO t VALUES (1, 'b', 2)"))
        await waits(one, writer)
        await deleter.execute("COMMIT")
        async with asyncio.timeout(60):
            await inserting
    row = await one.image("t", "id = 1")
    gone = Sent(None, await one.burial("t", "id = 1"))
    await bring(two, gone, Sent(row, None, await own(one, "id = 1")))
    assert await one.rows("SELECT v, n FROM t") == [("b", 2)]
    await same(one, two)


async def test_a_unique_value_in_a_group_is_held_by_one_row_everywhere(trio: list[Node]) -> None:
    await prepare(trio, "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, v text)", policy=Policy(groups=(("u",),)))
    one, two, three = trio
    ours = await write(one, "INSERT INTO t VALUES (1, 'x', 'ours')")
    theirs = await write(two, "INSERT INTO t VALUES (2, 'x', 'theirs')", "id = 2")
    await bring(one, theirs)
    await bring(two, ours)
    await bring(three, theirs, ours)
    assert await three.rows("SELECT v FROM t") == [("theirs",)]
    await same(*trio)
    await one.apply("t", images(ours.image) if ours.image else Changes())
    await same(*trio)
