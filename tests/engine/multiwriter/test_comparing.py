"""What nodes tell of their rows: equal where they are equal, whatever the types; and what is sent again arrives."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.engine.multiwriter.world import Node, images, prepare
from twinstar.engine.postgresql.multiwriter.batch import Image
from twinstar.engine.postgresql.multiwriter.comparing import (
    key_at,
    known,
    listing,
    send_again,
    summarise,
    write_anew,
)
from twinstar.engine.postgresql.multiwriter.table import STAMP, Table
from twinstar.model.comparing import Key, Known, Range, Sum, Version
from twinstar.model.errors import EngineError

TYPES = (
    'CREATE TABLE t (a numeric, b varchar(9) COLLATE "C", c timestamptz, f float8, j jsonb, y bytea, n int, '
    "PRIMARY KEY (b, a))"
)
ROWS = (
    "INSERT INTO t SELECT i * 1.50, chr(65 + i % 7) || '''%', '2026-01-01 00:00+00'::timestamptz + i * interval '1 s', "
    "i / 3.0, jsonb_build_object('i', i), decode(to_hex(i * 255), 'escape'), nullif(i % 5, 0) "
    "FROM generate_series(1, 100) AS i"
)


async def copied(here: Node, there: Node, name: str = "t") -> Table:
    """All rows of one node to another, as a physical copy would have them."""
    table = here.tables[name].table
    values = ", ".join(f'"{column.name}"::text' for column in table.sent_columns)
    places = [column.name for column in table.sent_columns].index(STAMP)
    rows = await here.rows(f'SELECT {values} FROM "{name}"')
    await there.apply(name, images(*(Image(tuple(row), int(row[places] or 0), 0, 0) for row in rows)))
    return table


async def test_equal_rows_have_equal_digests_on_nodes_and_in_sessions_that_differ(trio: list[Node]) -> None:
    one, two, _ = trio
    await prepare([one, two], TYPES)
    await one.do(ROWS)
    table = await copied(one, two)
    await two.do("SET \"TimeZone\" = 'Asia/Tokyo'; SET extra_float_digits = -3; SET \"DateStyle\" = 'German'")
    assert await summarise(one.user, table, Range()) == await summarise(two.user, table, Range())
    assert (await summarise(one.user, table, Range())).rows == 100
    assert await listing(one.user, table, Range(), 100) == await listing(two.user, table, Range(), 100)
    before = await summarise(two.user, table, Range())
    await two.applier.execute("UPDATE public.t SET f = f + 1e-15 WHERE a = 1.50")
    after = await summarise(two.user, table, Range())
    assert (before.rows, before.digest == after.digest) == (after.rows, False)


async def test_ranges_take_every_row_once(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], TYPES)
    await one.do(ROWS)
    table = one.tables["t"].table
    whole = await listing(one.user, table, Range(), 1_000)
    cuts: list[Key | None] = [
        None,
        *[await key_at(one.user, table, Range(), place) for place in (1, 40, 99, 100)],
        None,
    ]
    assert None not in cuts[1:-1]
    parts = [Range(after, upto) for after, upto in itertools.pairwise(cuts)]
    found = [await listing(one.user, table, part, 1_000) for part in parts]
    assert [len(part) for part in found] == [1, 39, 59, 1, 0]
    assert {key: version for part in found for key, version in part.items()} == whole
    sums = [await summarise(one.user, table, part) for part in parts]
    digest = 0
    for each in sums:
        digest ^= each.digest
    assert Sum(sum(each.rows for each in sums), digest) == await summarise(one.user, table, Range())
    assert await key_at(one.user, table, Range(), 101) is None
    assert await key_at(one.user, table, parts[1], 39) == cuts[2]
    with pytest.raises(EngineError, match="compare it again"):
        await listing(one.user, table, Range(), 99)


@pytest.mark.parametrize(
    "definition", ["int", "text", "uuid", "date", "boolean", "char(4)", "bytea", "interval", "float4", "inet", '"char"']
)
async def test_keys_of_all_types_find_their_rows_again(trio: list[Node], definition: str) -> None:
    one = trio[0]
    value = {"uuid": "gen_random_uuid()", "inet": "'10.0.0.1'", "interval": "'1 mon 3 days'", "date": "now()",
             "boolean": "true", "float4": "0.1", "int": "-7", "bytea": "'\\xff00'"}.get(definition, "'a'")  # fmt: skip
    await prepare([one], f"CREATE TABLE t (k {definition} PRIMARY KEY, v int)")
    await one.do(f"INSERT INTO t VALUES ({value}, 1)")
    table = one.tables["t"].table
    ((key, version),) = (await listing(one.user, table, Range(), 5)).items()
    assert await known(one.user, table, [key]) == {key: Known(version, None)}
    assert (await summarise(one.user, table, Range(None, key))).rows == 1
    assert (await summarise(one.user, table, Range(key, None))).rows == 0


async def test_the_role_of_appliers_is_enough(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], "CREATE TABLE t (k int PRIMARY KEY, v int)")
    await one.do("INSERT INTO t VALUES (1, 1), (2, 2); DELETE FROM t WHERE k = 2")
    await one.do("SET SESSION AUTHORIZATION twinstar_applier")
    table = one.tables["t"].table
    assert (await summarise(one.user, table, Range())).rows == 1
    both = await known(one.user, table, [("1",), ("2",)])
    gone = both["2",].tombstone
    assert both["2",].row is None
    assert gone is not None
    await send_again(one.user, table, ("1",))
    await send_again(one.user, table, ("2",))
    assert await known(one.user, table, [("1",), ("2",)]) == both, "nothing is changed by being sent again"
    await write_anew(one.user, table, ("1",))
    anew = (await known(one.user, table, [("1",)]))["1",].row
    assert anew is not None
    assert anew.stamp > _row(both["1",]).stamp


def _row(of: Known) -> Version:
    assert of.row is not None
    return of.row


async def test_what_is_sent_again_is_what_the_others_need(trio: list[Node]) -> None:
    one, two, _ = trio
    await prepare([one, two], "CREATE TABLE t (k int PRIMARY KEY, v text)")
    first = await one.write("t", "INSERT INTO t VALUES (1, 'a')", "k = 1")
    newer = await one.write("t", "UPDATE t SET v = 'b'", "k = 1")
    table = one.tables["t"].table
    again = Image(newer.values, newer.stamp, newer.stamp, newer.stamp)
    for lacking in (images(), images(first), images(first, newer)):
        await two.applier.execute("DELETE FROM public.t")
        await two.apply("t", lacking)
        await two.apply("t", images(again))
        assert await known(two.user, table, [("1",)]) == await known(one.user, table, [("1",)])
    assert await two.conflicts() == []


async def test_a_trouble_is_a_sentence(trio: list[Node]) -> None:
    one = trio[0]
    await prepare([one], "CREATE TABLE t (k int PRIMARY KEY, v text)")
    table: Any = one.tables["t"].table
    await one.do("DROP TABLE t")
    with pytest.raises(EngineError, match=r"public\.t cannot be compared"):
        await summarise(one.user, table, Range())
