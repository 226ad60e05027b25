"""What cannot be applied waits, and is applied when somebody has helped."""

from __future__ import annotations

import psycopg
import pytest

from tests.engine.multiwriter.world import Node, burials, images, prepare
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.dead_letters import (
    dead_letters,
    drop_dead_letter,
    retry_dead_letter,
    retry_dead_letters,
)
from twinstar.engine.postgresql.multiwriter.ruling import SqlRules
from twinstar.model.errors import EngineError, UsageError

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text)"


async def test_a_row_that_fails_waits_and_is_applied_once_somebody_has_helped(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    await two.do("ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 3)")
    image = await one.write("t", "INSERT INTO t VALUES (1, 'long')", "id = 1")
    with pytest.raises(psycopg.errors.CheckViolation) as failure:
        await two.apply("t", images(image))
    table = two.tables["t"].table
    await SqlRules().keep_failed(two.applier, table, images(image), "n1", failure.value)
    (letter,) = await dead_letters(two.user)
    assert (letter.schema, letter.name, letter.peer, letter.kind, letter.stamp) == (
        "public",
        "t",
        "n1",
        "image",
        image.stamp,
    )
    with pytest.raises(EngineError, match="still cannot be applied"):
        await retry_dead_letter(two.user, letter.id)
    assert await retry_dead_letters(two.user) == 0
    await two.do("ALTER TABLE t DROP CONSTRAINT short")
    assert await retry_dead_letters(two.user) == 1
    assert await one.state("t") == await two.state("t")
    assert await dead_letters(two.user) == ()


async def test_a_letter_does_not_undo_what_came_after_it(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    image = await one.write("t", "INSERT INTO t VALUES (1, 'first')", "id = 1")
    await SqlRules().keep_failed(two.applier, two.tables["t"].table, images(image), "n1", psycopg.Error("failed"))
    await two.apply("t", burials(await one.delete("t", "id = 1")))
    assert await retry_dead_letters(two.user) == 1
    assert await one.state("t") == await two.state("t")
    assert await two.rows("SELECT FROM t") == []


async def test_rows_of_a_table_that_is_not_there_wait_for_it(trio: list[Node]) -> None:
    one, two, _ = trio
    await prepare([one], PLAIN)
    await one.do("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    buried = await one.delete("t", "id = 2")
    image = await one.image("t", "id = 1")
    names = [column.name for column in one.tables["t"].table.sent_columns]
    row = Stray("public", "t", dict(zip(names, image.values, strict=True)), "t was not taken in")
    tombstone = {"id": "2", "twinstar_stamp": str(buried.stamp), "twinstar_was": str(buried.was)}
    below = Stray("twinstar", one.tables["t"].table.companion, dict(tombstone), "t was not taken in")
    for stray in (row, below):
        await SqlRules().keep_stray(two.applier, stray, "n1")
    assert await retry_dead_letters(two.user) == 0
    for letter in await dead_letters(two.user):
        assert letter.error.endswith("is not taken in on this node: take it in.")
    await prepare([two], PLAIN)
    assert await retry_dead_letters(two.user) == 2
    assert await one.state("t") == await two.state("t")


async def test_a_letter_can_be_given_up(trio: list[Node]) -> None:
    one = trio[0]
    await SqlRules().keep_stray(one.applier, Stray("public", "gone", {"id": "1"}, "not here"), "n2")
    (letter,) = await dead_letters(one.user)
    await drop_dead_letter(one.user, letter.id)
    with pytest.raises(UsageError, match="There is no dead letter"):
        await drop_dead_letter(one.user, letter.id)
