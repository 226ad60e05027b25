"""Messages of a peer become batches in which each key occurs once."""

from __future__ import annotations

import pytest

from tests.engine.multiwriter.encoding import encoded
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image
from twinstar.engine.postgresql.multiwriter.collapse import (
    Batch,
    Burials,
    Collector,
    Contributions,
    Rows,
    Strays,
)
from twinstar.engine.postgresql.multiwriter.pgoutput import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    Relation,
    Update,
    Values,
)
from twinstar.engine.postgresql.multiwriter.table import Column as TableColumn
from twinstar.engine.postgresql.multiwriter.table import Table

TEXT = "pg_catalog.text"


def column(name: str, generated: bool = False) -> TableColumn:
    return TableColumn(name, TEXT, generated, nullable=True)


TABLE = Table(
    "public",
    "t",
    (column("id"), column("v"), column("twice", generated=True), column("n"), column("twinstar_stamp")),
    key=("id",),
    counters=("n",),
    slug="t_1",
)


def relation(oid: int, *names: str) -> Relation:
    return Relation(oid, "public", f"t{oid}", "f", tuple(Column(name, 25, -1, key=True) for name in names))


ROWS = relation(1, "id", "v", "n", "twinstar_stamp")
BURIALS = relation(2, "id", "twinstar_stamp", "twinstar_was", "twinstar_image", "twinstar_unsettled")
COUNTED = relation(3, "id", "twinstar_born", "twinstar_node", "twinstar_writes", "n")


def collector(maximum_rows: int = 100, maximum_bytes: int = 10_000) -> Collector:
    made = Collector(maximum_rows, maximum_bytes)
    made.relate(ROWS, Rows(TABLE, ROWS))
    made.relate(BURIALS, Burials(TABLE, BURIALS))
    made.relate(COUNTED, Contributions(TABLE, COUNTED))
    return made


def transaction(made: Collector, end_lsn: int, *messages: Insert | Update | Delete) -> None:
    add(made, Begin(end_lsn - 1, 7, 1), *messages, Commit(end_lsn - 1, end_lsn, 7))


def add(made: Collector, *messages: Begin | Commit | Insert | Update | Delete) -> None:
    sent = [encoded(message) for message in messages]
    made.add(sent, bytes([message[0] for message in sent]))


def changes(batch: Batch) -> Changes:
    ((table, found),) = batch.parts
    assert table is TABLE
    return found


def row(key: str, value: str, stamp: int) -> Values:
    return (key, value, "0", str(stamp))


def test_a_key_occurs_once_with_its_first_and_last_predecessor_and_its_last_image() -> None:
    made = collector()
    transaction(made, 10, Update(1, row("a", "x", 1), row("a", "y", 2)), Insert(1, row("b", "x", 3)))
    transaction(made, 20, Update(1, row("a", "y", 2), row("a", "z", 4)), Update(1, row("b", "x", 3), row("b", "y", 5)))
    batch = made.take()
    assert changes(batch).images == [Image(row("a", "z", 4), 4, 1, 2), Image(row("b", "y", 5), 5, 0, 3)]
    assert (batch.rows, batch.transactions, batch.end_lsn, batch.time_us, batch.complete) == (4, 2, 20, 7, True)
    assert made.empty


def test_a_row_under_a_new_key_is_new() -> None:
    made = collector()
    transaction(made, 10, Update(1, row("a", "x", 1), row("b", "x", 2)))
    assert changes(made.take()).images == [Image(row("b", "x", 2), 2, 0, 0)]


def test_a_row_that_was_never_written_has_version_0() -> None:
    made = collector()
    transaction(made, 10, Update(1, ("a", "x", "0", None), row("a", "y", 2)))
    assert changes(made.take()).images == [Image(row("a", "y", 2), 2, 0, 0)]


def test_companions_are_read_by_their_columns_names() -> None:
    made = collector()
    transaction(
        made,
        10,
        Insert(2, ("a", "8", "5", None, "f")),
        Update(2, ("b", "1", "0", None, "f"), ("b", "9", "6", "{}", "f")),
        Insert(3, ("a", "0", "2", "1", "10")),
        Update(3, ("a", "0", "2", "1", "10"), ("a", "0", "2", "2", "11")),
        Insert(3, ("a", "8", "2", "1", "1")),
    )
    found = changes(made.take())
    assert found.burials == [Burial(("a",), 8, 5, None), Burial(("b",), 9, 6, "{}")]
    assert found.contributions == [Contribution(("a",), 0, 2, 2, ("11",)), Contribution(("a",), 8, 2, 1, ("1",))]


def test_columns_in_another_order_are_arranged_as_here() -> None:
    other = relation(4, "twinstar_stamp", "n", "id", "v")
    made = collector()
    made.relate(other, Rows(TABLE, other))
    transaction(made, 10, Update(4, ("1", "0", "a", "x"), ("2", "0", "a", "y")))
    assert changes(made.take()).images == [Image(row("a", "y", 2), 2, 1, 1)]


def test_a_table_that_changes_begins_another_part() -> None:
    made = collector()
    transaction(made, 10, Insert(1, row("a", "x", 1)))
    assert made.knows(ROWS)
    other = relation(1, "twinstar_stamp", "n", "id", "v")
    assert not made.knows(other)
    made.relate(other, Rows(TABLE, other))
    transaction(made, 20, Update(1, ("1", "0", "a", "x"), ("2", "0", "a", "y")))
    assert [part.images for _, part in made.take().parts] == [
        [Image(row("a", "x", 1), 1, 0, 0)],
        [Image(row("a", "y", 2), 2, 1, 1)],
    ]


def test_a_batch_ends_with_a_transaction_unless_that_is_too_large() -> None:
    made = collector(maximum_rows=3)
    add(made, Begin(9, 7, 1))
    for number in range(2):
        add(made, Insert(1, row(str(number), "x", 1)))
    assert not made.ready
    assert not made.empty
    add(made, Insert(1, row("2", "x", 1)))
    assert made.full
    batch = made.take()
    assert (batch.rows, batch.complete, batch.transactions) == (3, False, 0)
    assert not made.ready
    assert not made.empty
    add(made, Commit(9, 10, 7))
    batch = made.take()
    assert (batch.rows, batch.complete, batch.end_lsn) == (0, True, 10)


def test_many_bytes_are_too_much_as_many_rows_are() -> None:
    of_one = len(encoded(Insert(1, row("a", "x", 1))))
    made = collector(maximum_bytes=2 * of_one)
    add(made, Begin(9, 7, 1), Insert(1, row("a", "x", 1)))
    assert not made.full
    add(made, Insert(1, row("b", "x", 1)))
    assert made.full


@pytest.mark.parametrize("values", [("a", UNCHANGED, "0", "2")])
def test_what_cannot_be_an_image_strays(values: Values) -> None:
    made = collector()
    transaction(made, 10, Update(1, None, values))
    batch = made.take()
    ((stray,), ()) = batch.strays, batch.parts
    assert stray.values == {"id": "a", "n": "0", "twinstar_stamp": "2"}
    assert "REPLICA IDENTITY FULL" in stray.reason


def test_rows_of_a_table_that_is_not_here_stray() -> None:
    made = collector()
    unknown = relation(5, "id")
    made.relate(unknown, Strays(unknown, "there is no such table"))
    transaction(made, 10, Insert(5, ("a",)), Delete(1, row("a", "x", 1)))
    batch = made.take()
    assert [(stray.name, stray.values, stray.reason) for stray in batch.strays] == [
        ("t5", {"id": "a"}, "there is no such table")
    ]
    assert (batch.rows, batch.parts) == (1, ())
