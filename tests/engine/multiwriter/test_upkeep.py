"""Conflicts brought back, users' functions called, tombstones forgotten, tables taken in by themselves."""

from __future__ import annotations

import psycopg
import pytest

from tests.engine.multiwriter.test_merging import COUNTED, COUNTERS, bring, same, write
from tests.engine.multiwriter.test_races import session
from tests.engine.multiwriter.world import Node, burials, images, prepare
from twinstar.config.schema import TableRule
from twinstar.engine.postgresql.multiwriter.applying import applier_of
from twinstar.engine.postgresql.multiwriter.batch import Burial
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.collecting import (
    collect,
    cut,
    note_cut,
    raise_floor,
    report,
    reports,
)
from twinstar.engine.postgresql.multiwriter.conflicts import list_conflicts, restore_conflict
from twinstar.engine.postgresql.multiwriter.matching import take_in_matching
from twinstar.engine.postgresql.multiwriter.objects import leave_out, node_number, renumber, taken_in
from twinstar.engine.postgresql.multiwriter.ruling import SqlRules
from twinstar.engine.postgresql.multiwriter.table import Policy, describe
from twinstar.engine.postgresql.multiwriter.upkeep import run_merges, run_repairs
from twinstar.model.errors import UsageError

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text)"
FUTURE = (2 * 10**15) << 10 | 9


async def crossed(one: Node, two: Node) -> None:
    """Both write row 1; the second one wins on both."""
    await two.apply("t", images(await one.write("t", "INSERT INTO t VALUES (1, 'base')", "id = 1")))
    lesser = await one.write("t", "UPDATE t SET v = 'lesser'", "id = 1")
    greater = await two.write("t", "UPDATE t SET v = 'greater'", "id = 1")
    await one.apply("t", images(greater), "n2")
    await two.apply("t", images(lesser), "n1")


async def test_a_conflict_says_who_wrote_what_and_can_be_brought_back(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, three = trio
    await crossed(one, two)
    (conflict,) = await list_conflicts(one.user, ("public", "t"))
    assert (conflict.loser_node, conflict.winner_node, conflict.peer, conflict.key) == (1, 2, "n2", {"id": "1"})
    assert conflict.lost_at_us < conflict.won_at_us
    assert await list_conflicts(one.user, since=conflict.at, limit=5) == (conflict,)
    assert await list_conflicts(one.user, ("public", "other")) == ()
    await restore_conflict(one.user, conflict.id)
    back = await one.image("t", "id = 1", conflict.winner_stamp)
    for node in (two, three):
        await node.apply("t", images(back))
    assert await three.rows("SELECT v FROM t") == [("lesser",)]
    await same(one, two)
    assert len(await list_conflicts(two.user)) == 1
    assert (await list_conflicts(one.user))[0].restored_at is not None
    with pytest.raises(UsageError, match="There is no conflict"):
        await restore_conflict(one.user, conflict.id + 1)


async def test_who_wrote_the_same_has_lost_nothing(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    ours = await one.write("t", "INSERT INTO t VALUES (1, 'same')", "id = 1")
    await two.write("t", "INSERT INTO t VALUES (1, 'same')", "id = 1")
    await two.apply("t", images(ours))
    assert await two.conflicts() == []


FUNCTION = """
CREATE FUNCTION longer(lost t, here t) RETURNS t LANGUAGE sql AS $$
  SELECT here.id, CASE WHEN here.v = 'bad' THEN (1 / 0)::text ELSE lost.v || '+' || here.v END, here.twinstar_stamp
$$
"""


async def merging(trio: list[Node]) -> None:
    for node in trio:
        await node.do(PLAIN)
        # A table's row has our column once it was taken in.
        await node.do("ALTER TABLE t ADD COLUMN twinstar_stamp bigint")
        await node.do(FUNCTION)
        await node.take_in("t", Policy(merge="public.longer"))


async def test_who_lost_calls_the_users_function_and_writes_its_result(trio: list[Node]) -> None:
    await merging(trio)
    one, two, _ = trio
    await crossed(one, two)
    assert await run_merges(two.user) == 0
    before = await one.ask("SELECT twinstar_stamp FROM t")
    assert await run_merges(one.user) == 1
    assert await run_merges(one.user) == 0
    await two.apply("t", images(await one.image("t", "id = 1", before)))
    assert await two.rows("SELECT v FROM t") == [("lesser+greater",)]
    await same(one, two)
    assert len(await list_conflicts(two.user)) == 1


async def test_a_users_function_that_fails_says_why_and_is_not_called_again(trio: list[Node]) -> None:
    await merging(trio)
    one, two, _ = trio
    await crossed(one, two)
    await two.apply("t", images(await two.write("t", "UPDATE t SET v = 'bad'", "id = 1")))
    await one.apply("t", images(await two.image("t", "id = 1")))
    assert await run_merges(one.user) == 0
    conflict = (await list_conflicts(one.user))[0]
    assert "division by zero" in (conflict.merge_error or "")
    assert await one.rows("SELECT v FROM t") == [("bad",)]


async def test_a_removal_is_sent_by_an_ordinary_session(trio: list[Node]) -> None:
    await prepare(trio, "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)")
    one, two, three = trio
    ours = await one.write("t", "INSERT INTO t VALUES (1, 'x')", "id = 1")
    await one.apply("t", images(await two.write("t", "INSERT INTO t VALUES (2, 'x')", "id = 2")))
    version = await one.ask(f"SELECT xmin FROM twinstar.{one.tables['t'].table.companion}")
    assert await run_repairs(one.user) == 1
    assert await run_repairs(one.user) == 0
    assert await one.ask(f"SELECT xmin FROM twinstar.{one.tables['t'].table.companion}") != version
    removal = await one.burial("t", "id = 1")
    assert removal.stamp == ours.stamp | 1023
    await three.apply("t", images(ours))
    await three.apply("t", burials(removal))
    assert await three.rows("SELECT FROM t") == []


async def test_a_floor_is_firm_when_what_ran_before_it_has_ended(trio: list[Node]) -> None:
    """Finding 14."""
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one) as writer:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO t VALUES (1, 'open')")
        assert await raise_floor(one.user, 0.0) == 0
        assert await raise_floor(one.user, 0.0) == 0
        await writer.execute("COMMIT")
    firm = await raise_floor(one.user, 0.0)
    assert firm > (await one.ask("SELECT twinstar_stamp FROM t"))
    await one.clock(5)
    await one.do("INSERT INTO t VALUES (2, 'slow')")
    assert await one.ask("SELECT twinstar_stamp FROM t WHERE id = 2") > firm


async def test_only_tombstones_that_were_here_at_the_cut_are_forgotten(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    await one.do("INSERT INTO t SELECT i, '' FROM generate_series(1, 30) AS i")
    await one.do("DELETE FROM t WHERE id < 20")
    noted = await note_cut(one.user, [2, 3])
    assert noted is not None and noted == await cut(one.user) and noted.streams.keys() == {1, 2, 3}
    await one.do("DELETE FROM t WHERE id = 20")
    await one.apply("t", burials(Burial(("77",), FUTURE, 5, None)))
    await raise_floor(one.user, 0.0)
    deleted = f"SELECT id FROM twinstar.{one.tables['t'].table.companion} ORDER BY id"
    assert await collect(one.user, 5, noted) == 0
    await SqlRules().keep_stray(one.applier, Stray("public", "gone", {"id": "1"}, "not here"), "n2")
    assert await collect(one.user, FUTURE, noted) == 0
    assert await note_cut(one.user, [2, 3]) is None
    assert not await report(one.user, 0.0)
    await one.do("DELETE FROM twinstar.dead_letters")
    assert await collect(one.user, FUTURE, noted, at_most=15) == 15
    assert await collect(one.user, FUTURE, noted) == 4
    assert await one.rows(deleted) == [(20,), (77,)]


async def test_what_a_member_reports_travels_as_rows_do(trio: list[Node]) -> None:
    one = trio[0]
    await one.do("SELECT pg_replication_origin_create('twinstar_2')")
    try:
        await one.do("SELECT pg_replication_origin_advance('twinstar_2', '0/1234')")
        assert await report(one.user, 1000.0)
        said = (await reports(one.user))[1]
        assert said.applied[2] == 0x1234
        published = await one.rows("SELECT tablename FROM pg_publication_tables WHERE schemaname = 'twinstar'")
        assert ("reports",) in published
        assert await one.ask("SELECT twinstar_stamp & 1023 FROM twinstar.reports") == 1
    finally:
        await one.do("SELECT pg_replication_origin_drop('twinstar_2')")


async def test_after_a_tombstone_is_forgotten_old_contributions_do_not_count(trio: list[Node]) -> None:
    """Finding 5: a row that is made anew where the tombstone is gone, and one where it is still there."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one, two, _ = trio
    await bring(two, await write(one, "INSERT INTO t VALUES (1, 'a', 5)"))
    await one.do("DELETE FROM t")
    await two.apply("t", burials(await one.burial("t", "id = 1")))
    noted = await note_cut(one.user, [2])
    assert noted is not None
    await raise_floor(one.user, 0.0)
    assert await collect(one.user, FUTURE, noted) == 1
    assert await one.contributions("t", "id = 1") == []
    again = await write(one, "INSERT INTO t VALUES (1, 'b', 1)")
    await bring(two, again)
    for node in (one, two):
        assert await node.rows("SELECT v, n FROM t") == [("b", 1)]


async def test_what_was_added_before_a_deletion_is_kept_while_the_row_is_newer_than_the_cut(trio: list[Node]) -> None:
    """Finding 20: here the row is made on the tombstone; at a peer one from before it may still win."""
    await prepare(trio, COUNTED, policy=COUNTERS)
    one = trio[0]
    await write(one, "INSERT INTO t VALUES (1, 'a', 5)")
    await one.do("DELETE FROM t")
    noted = await note_cut(one.user, [2])
    assert noted is not None
    await write(one, "INSERT INTO t VALUES (1, 'b', 1)")
    await raise_floor(one.user, 0.0)
    assert await collect(one.user, FUTURE, noted) == 0
    assert len(await one.contributions("t", "id = 1")) == 2
    later = await note_cut(one.user, [2])
    assert later is not None
    assert await collect(one.user, FUTURE, later) == 1
    assert len(await one.contributions("t", "id = 1")) == 1
    assert await one.rows("SELECT v, n FROM t") == [("b", 1)]


async def test_a_copy_gets_a_number_of_its_own_also_in_sessions_that_are_open(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], PLAIN)
    async with session(one) as writer:
        await writer.execute("INSERT INTO t VALUES (1, 'a')")
        await renumber(one.user, 77)
        await writer.execute("INSERT INTO t VALUES (2, 'b')")
        await writer.execute("DELETE FROM t WHERE id = 1")
    assert await node_number(one.user) == 77
    assert await one.rows("SELECT id, twinstar_stamp & 1023 FROM t") == [(2, 77)]
    assert (await one.burial("t", "id = 1")).stamp & 1023 == 77
    with pytest.raises(UsageError, match="out of range"):
        await renumber(one.user, 1023)


RULES = (
    TableRule(pattern="stock", counters=("n",)),
    TableRule(pattern="public.*"),
)


async def test_tables_that_match_are_taken_in_with_the_rows_of_before(trio: list[Node]) -> None:
    one, two, _ = trio
    for node in (one, two):
        await node.do("CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL)")
        await node.do("CREATE TABLE other (id int PRIMARY KEY, v text)")
        await node.do("CREATE TABLE nobodys (v text)")
        await node.do(f"INSERT INTO other VALUES ({node.number}, 'before')")
    for node in (one, two):
        matched = await take_in_matching(node.user, RULES, send_rows=True)
        assert matched.taken_in == (("public", "other"), ("public", "stock"))
        assert [obstacle.table for obstacle in matched.refused] == ["public.nobodys"]
        assert (await take_in_matching(node.user, RULES, send_rows=True)).taken_in == ()
        await node.take_in("other")
    for source, target in ((one, two), (two, one)):
        await target.apply("other", images(await source.image("other", f"id = {source.number}")))
    await same_rows(one, two, "other")
    assert await one.rows("SELECT id, twinstar_stamp & 1023 FROM other ORDER BY id") == [(1, 1), (2, 2)]


async def same_rows(one: Node, two: Node, name: str) -> None:
    assert await one.state(name) == await two.state(name)


async def test_a_new_column_is_known_after_the_refresh(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    await two.apply("t", images(await one.write("t", "INSERT INTO t VALUES (1, 'a')", "id = 1")))
    for node in (one, two):
        await node.do("ALTER TABLE t ADD COLUMN w int")
    table = await describe(one.user, "public", "t")
    for node in (one, two):
        node.tables["t"] = applier_of(table)
    lesser = await one.write("t", "UPDATE t SET w = 1", "id = 1")
    greater = await two.write("t", "UPDATE t SET w = 2", "id = 1")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        async with one.applier.transaction():
            await applier_of(table).apply(one.applier, images(greater), "n2")
    for node in (one, two):
        matched = await take_in_matching(node.user, (), send_rows=True)
        assert matched.refreshed == (("public", "t"),)
        await node.take_in("t")
    await one.apply("t", images(greater))
    await two.apply("t", images(lesser))
    assert await one.rows("SELECT w FROM t") == [(2,)]
    await same(one, two)


async def test_what_is_left_out_is_an_ordinary_table_again(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], COUNTED, policy=COUNTERS)
    await one.do("INSERT INTO t VALUES (1, 'a')")
    await one.do("DELETE FROM t")
    await leave_out(one.user, "public", "t")
    assert await taken_in(one.user) == []
    await one.do("INSERT INTO t VALUES (1, 'a', 1, 2)")
    assert await one.rows("SELECT * FROM t") == [(1, "a", 1, 2)]
    await one.do("TRUNCATE t")
    rest = "SELECT proname FROM pg_proc WHERE pronamespace = 'twinstar'::regnamespace AND proname LIKE '%\\_t\\_%'"
    assert await one.rows(rest) == []
    await one.take_in("t", Policy())


async def test_another_policy_is_refused(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], COUNTED)
    with pytest.raises(UsageError, match="another policy"):
        await one.take_in("t", COUNTERS)
