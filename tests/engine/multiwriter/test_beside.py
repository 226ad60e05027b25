"""What happens beside users' writes: their triggers, foreign keys, updates that change nothing, sums without room."""

from __future__ import annotations

import psycopg
import pytest

from tests.engine.multiwriter.test_merging import GROUPED, GROUPS, bring, write
from tests.engine.multiwriter.world import Node, burials, images, prepare
from twinstar.engine.postgresql.multiwriter.conflicts import list_conflicts, restore_conflict
from twinstar.engine.postgresql.multiwriter.table import Policy

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text)"
AUDITED = (
    PLAIN,
    "CREATE TABLE audit (what text)",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN INSERT INTO public.audit VALUES (TG_OP || ' ' || NEW.v); RETURN NULL; END $$",
    "CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
)


async def test_users_triggers_run_where_a_user_writes_and_where_a_conflict_is_brought_back(trio: list[Node]) -> None:
    await prepare(trio, *AUDITED)
    one, two, _ = trio
    await two.apply("t", images(await one.write("t", "INSERT INTO t VALUES (1, 'base')", "id = 1")))
    assert await one.rows("SELECT what FROM audit") == [("INSERT base",)]
    assert await two.rows("SELECT what FROM audit") == []
    await one.write("t", "UPDATE t SET v = 'lesser'", "id = 1")
    await one.apply("t", images(await two.write("t", "UPDATE t SET v = 'greater'", "id = 1")), "n2")
    (conflict,) = await list_conflicts(one.user)
    await restore_conflict(one.user, conflict.id)
    assert await one.rows("SELECT what FROM audit") == [("INSERT base",), ("UPDATE lesser",), ("UPDATE lesser",)]


async def test_a_cascade_is_the_deletions_that_it_made_and_arrivals_ask_no_foreign_key(trio: list[Node]) -> None:
    one, two, _ = trio
    for node in (one, two):
        await node.do("CREATE TABLE parents (id int PRIMARY KEY)")
        await node.do("CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE)")
        for name in ("parents", "t"):
            await node.take_in(name)
    parent = await one.write("parents", "INSERT INTO parents VALUES (1)", "id = 1")
    child = await one.write("t", "INSERT INTO t VALUES (7, 1)", "id = 7")
    await two.apply("t", images(child))
    assert await two.rows("SELECT id FROM t") == [(7,)], "before its parent"
    await two.apply("parents", images(parent))
    buried = await one.delete("parents", "id = 1")
    assert await one.rows("SELECT id FROM t") == []
    await two.apply("parents", burials(buried))
    assert await two.rows("SELECT id FROM t") == [(7,)], "nothing cascades there"
    await two.apply("t", burials(await one.burial("t", "id = 7")))
    for name in ("parents", "t"):
        assert await one.state(name) == await two.state(name)


async def test_an_update_that_changes_nothing_is_none_where_groups_are_declared(trio: list[Node]) -> None:
    await prepare(trio, GROUPED, policy=GROUPS)
    one, two, three = trio
    first = await write(one, "INSERT INTO t VALUES (1, 'a', 'b', '[1]', 'd')")
    await bring(two, first)
    await bring(three, first)
    theirs = await write(two, "UPDATE t SET a = 'theirs' WHERE id = 1")
    ours = await write(one, "UPDATE t SET a = a, b = b, d = 'ours' WHERE id = 1")
    for node, sent in ((one, theirs), (two, ours)):
        await bring(node, sent)
    await bring(three, theirs, ours)
    for node in trio:
        assert await node.rows("SELECT a, b, d FROM t") == [("theirs", "b", "ours")]
        assert await list_conflicts(node.user) == ()


async def test_a_sum_that_its_column_cannot_hold_is_not_applied(trio: list[Node]) -> None:
    await prepare(trio, "CREATE TABLE t (id int PRIMARY KEY, n smallint NOT NULL)", policy=Policy(counters=("n",)))
    one, two, _ = trio
    first = await write(one, "INSERT INTO t VALUES (1, 30000)")
    await bring(two, first)
    ours = await write(one, "UPDATE t SET n = n + 2000")
    await two.do("UPDATE t SET n = n + 2000")
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        await bring(two, ours)
    assert await two.rows("SELECT n FROM t") == [(32_000,)]
    await two.do("UPDATE t SET n = n - 2000")
    await bring(two, ours)
    assert await two.rows("SELECT n FROM t") == [(32_000,)], "and is, once there is room"
