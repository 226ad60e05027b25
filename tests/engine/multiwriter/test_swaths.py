"""Rows that are read and written many at a time are what they are one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.multiwriter.encoding import encoded
from tests.engine.multiwriter.world import Node, prepare, swath
from twinstar.engine.postgresql.multiwriter.batch import Changes, Image, Swath
from twinstar.engine.postgresql.multiwriter.pgoutput import UNCHANGED, Column, Insert, Relation, Update, Values
from twinstar.engine.postgresql.multiwriter.swaths import FEWEST_ROWS, Swaths
from twinstar.engine.postgresql.multiwriter.table import Column as TableColumn
from twinstar.engine.postgresql.multiwriter.table import Table

SENT = ("id", "v", "twinstar_stamp", "w")
TABLE = Table(
    "public", "t", tuple(TableColumn(name, "pg_catalog.text", generated=False, nullable=True) for name in SENT), ("id",)
)
# The bytes by which messages are told apart, and lengths that have them.
texts = st.one_of(
    st.text(alphabet="tnuNOIUKw\\\t\r\n\x01ä", max_size=6),
    st.sampled_from(["", "x" * 0x74, "N" * 256, "t" * 0x4E00, "n" * 65_535, "I" * 65_536]),
)


def relation(number: int) -> Relation:
    names = ("v", "id", "w", "twinstar_stamp")
    return Relation(number, "public", "t", "f", tuple(Column(name, 25, -1, key=True) for name in names))


def row(key: int, v: str | None, w: str | None, stamp: int | None) -> Values:
    """As the peer sends it."""
    return (v, f"k{key}", w, None if stamp is None else str(stamp))


def image(key: int, v: str | None, w: str | None, stamp: int, was: int) -> Image:
    return Image((f"k{key}", v, str(stamp), w), stamp, was, was)


def read(messages: list[Insert | Update]) -> list[Swath] | None:
    return Swaths(TABLE, relation(messages[0].relation)).of([encoded(message) for message in messages])


@settings(max_examples=60, deadline=None)
@given(
    number=st.sampled_from([1, 0x4940, 0x6E740074, 0xFFFFFFFF]),
    values=st.lists(st.tuples(texts | st.none(), texts | st.none(), st.booleans()), min_size=1, max_size=5),
)
def test_what_is_read_at_once_is_what_was_sent(number: int, values: list[tuple[str | None, str | None, bool]]) -> None:
    messages: list[Insert | Update] = []
    expected = {True: list[Image](), False: list[Image]()}
    for key in range(FEWEST_ROWS):
        v, w, inserted = values[key % len(values)]
        new = row(key, v, w, 100 + key)
        messages.append(Insert(number, new) if inserted else Update(number, row(key, w, v, 1 + key), new))
        expected[inserted].append(image(key, v, w, 100 + key, 0 if inserted else 1 + key))
    swaths = read(messages)
    assert swaths is not None
    found = [swath.images() for swath in swaths]
    assert found == [images for images in expected.values() if images]


@pytest.mark.parametrize(
    "odd",
    [
        Insert(1, row(0, "another of the same key", None, 7)),
        Update(1, row(0, "a", "b", 1), row(0, "c", "d", 2)),
        Update(1, row(1000, "its key is changed", "b", 1), row(1001, "c", "d", 2)),
        Update(1, None, row(1000, "nothing of before", None, 2)),
        Update(1, row(1000, "a row that was never written", None, None), row(1000, "c", "d", 2)),
        Update(1, row(1000, "a row that was never written", None, 0), row(1000, "c", "d", 2)),
        Insert(1, row(1000, UNCHANGED, None, 7)),
    ],
)
def test_one_row_that_is_not_alike_and_all_are_read_one_by_one(odd: Insert | Update) -> None:
    inserted: list[Insert | Update] = [Insert(1, row(key, "v", None, 7)) for key in range(FEWEST_ROWS)]
    assert read(inserted) is not None
    assert read([*inserted, odd]) is None


def test_few_rows_are_read_one_by_one() -> None:
    assert read([Insert(1, row(key, "v", None, 7)) for key in range(FEWEST_ROWS - 1)]) is None


PLAIN = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10, 2))"
ROWS = "SELECT id, v, n FROM t ORDER BY id"
ODD = ["tab\t", "line\nend\r", "back\\slash\\N", "", "\\.", "ä☃", '"quoted", {curly}', None]


async def written(node: Node, statement: str, was: list[Image] | None = None) -> list[Image]:
    """Runs a statement that writes to the whole table; what would be sent of it."""
    before = {each.values[0]: each.stamp for each in was or []}
    await node.do(statement)
    rows = await node.rows("SELECT id::text, v, n::text, twinstar_stamp::text FROM t ORDER BY id")
    return [Image(each, int(each[3]), before.get(each[0], 0), before.get(each[0], 0)) for each in rows]


async def test_many_at_once_end_as_one_by_one(trio: list[Node]) -> None:
    """Rows that meet nothing, and rows that meet older and newer rows and tombstones."""
    await prepare(trio, PLAIN)
    one, two, three = trio
    table = two.tables["t"].table
    texts = ", ".join("NULL" if text is None else "E'" + repr(text)[1:-1].replace("'", "''") + "'" for text in ODD)
    insert = f"INSERT INTO t SELECT i, (ARRAY[{texts}])[i % {len(ODD)} + 1], i FROM generate_series(1, 50) AS i"
    first = await written(one, insert)
    assert [each.values[1] for each in first[: len(ODD)]] == [*ODD[1:], ODD[0]]
    for node, changes in ((two, swath(table, first, inserted=True)), (three, Changes(images=list(first)))):
        assert (await node.apply("t", changes)).rows == 50
        assert await node.conflicts() == []
    # What is here already, what is newer and what is buried stays.
    for node in (two, three):
        await node.clock(2 * 10**15)
        await node.do("DELETE FROM t WHERE id IN (3, 4); UPDATE t SET v = 'newer' WHERE id = 5")
        await node.clock(None)
    again = swath(table, first, inserted=True)
    more = await written(one, "INSERT INTO t SELECT i, 'more', NULL FROM generate_series(51, 90) AS i", first)
    for node, late, rest in (
        (two, again, swath(table, more[50:], inserted=True)),
        (three, Changes(images=list(first)), Changes(images=more[50:])),
    ):
        await node.apply("t", late)
        await node.apply("t", rest)
    assert await two.rows(ROWS) == await three.rows(ROWS)
    second = await written(one, "UPDATE t SET v = concat(v, '\\t2')", more)
    done = await two.apply("t", swath(table, second, inserted=False))
    await three.apply("t", Changes(images=list(second)))
    assert (done.rows, done.conflicts) == (87, 3)
    assert await two.rows(ROWS) == await three.rows(ROWS)
    assert len(await two.conflicts()) == len(await three.conflicts())


async def test_what_is_put_in_its_place_yields_to_a_newer_tombstone(trio: list[Node]) -> None:
    await prepare(trio, PLAIN)
    one, two, _ = trio
    images = await written(one, "INSERT INTO t SELECT i, 'x', i FROM generate_series(1, 20) AS i")
    await two.clock(2 * 10**15)
    await two.do("INSERT INTO t VALUES (7, 'deleted', 1); DELETE FROM t")
    await two.clock(None)
    done = await two.apply("t", swath(two.tables["t"].table, images, inserted=True))
    assert (done.rows, done.conflicts) == (19, 1)
    assert await two.rows("SELECT count(*), count(*) FILTER (WHERE id = 7) FROM t") == [(19, 0)]


VALUES = {
    "int2": ["-32768", "7"],
    "int4": ["-2147483648", "8"],
    "int8": ["9223372036854775807", "9"],
    "float4": ["1e-37", "-Infinity"],
    "float8": ["0.1", "NaN"],
    "numeric": ["1.00", "NaN"],
    "bool": ["true", "false"],
    "uuid": ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"],
    "date": ["0044-03-15 BC", "infinity"],
    "text": ["", 'NULL, "x" \\'],
    "varchar": ["  two  ", "NULL"],
    "bpchar": ["two", ""],
    '"char"': ["a", "b"],
    "timestamptz": ["2000-01-01 00:00:00.000001+00", "-infinity"],
    "int4[]": ["{1,NULL}", "{}"],
    "jsonb": ['{"a": "}"}', "null"],
}


async def test_values_of_every_type_arrive_as_they_were_written(trio: list[Node]) -> None:
    """Also where a unique index wants to know that its value is the same as before."""
    columns = ", ".join(f"v{at} {name}" for at, name in enumerate(VALUES))
    uniques = [f"CREATE UNIQUE INDEX u{at} ON t (v{at}, id)" for at, _ in enumerate(VALUES)]
    await prepare(trio, f"CREATE TABLE t (id int PRIMARY KEY, {columns}, changed int)", *uniques)
    one, two, _ = trio
    for number in range(2):
        values = ", ".join(f"'{each[number]}'::{name}" for name, each in VALUES.items())
        await one.do(f"INSERT INTO t VALUES ({number}, {values}, 0)")
    await one.do("INSERT INTO t VALUES (2)")
    first = [await one.image("t", f"id = {key}", 0) for key in range(3)]
    assert (await two.apply("t", swath(two.tables["t"].table, first, inserted=True))).rows == 3
    await one.do("UPDATE t SET changed = 1")
    second = [await one.image("t", f"id = {image.values[0]}", image.stamp) for image in first]
    for _ in range(2):
        assert (await two.apply("t", swath(two.tables["t"].table, second, inserted=False))).conflicts == 0
        assert await two.state("t") == await one.state("t")
    assert await two.rows("SELECT count(*) FROM t WHERE changed = 1") == [(3,)]
