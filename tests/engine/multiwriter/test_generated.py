"""Generated columns: everybody computes them, and no update is refused because of them."""

from __future__ import annotations

import pytest

from tests.engine.multiwriter.world import Node, images, prepare
from twinstar.engine.postgresql.multiwriter.catalog import Catalog
from twinstar.engine.postgresql.multiwriter.collapse import Rows, Strays
from twinstar.engine.postgresql.multiwriter.objects import take_in
from twinstar.engine.postgresql.multiwriter.pgoutput import Column, Relation
from twinstar.engine.postgresql.multiwriter.table import STAMP
from twinstar.model.errors import UsageError
from twinstar.ports.clock import SystemClock

STORED = "CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)"


async def test_rows_with_generated_columns_are_updated_and_arrive(trio: list[Node]) -> None:
    one, two, _ = trio
    await prepare([one, two], STORED)
    first = await one.write("t", "INSERT INTO t VALUES (1, 2)", "id = 1")
    second = await one.write("t", "UPDATE t SET n = 5", "id = 1")
    await two.apply("t", images(first))
    await two.apply("t", images(second))
    assert await two.rows("SELECT id, n, twice FROM t") == [(1, 5, 10)]


@pytest.mark.parametrize("more", [(), ("twice",)])
async def test_whether_or_not_they_are_sent(trio: list[Node], more: tuple[str, ...]) -> None:
    one = trio[0]
    await prepare([one], STORED)
    catalog = Catalog(one.user, SystemClock(), patience_ms=0)
    names = ("id", "n", *more, STAMP)
    sink = await catalog.sink(_relation(*names))
    assert isinstance(sink, Rows)
    assert isinstance(await catalog.sink(_relation(*names, "unknown")), Strays)


def _relation(*names: str) -> Relation:
    return Relation(1, "public", "t", "f", tuple(Column(name, 23, -1, key=True) for name in names))


async def test_virtual_ones_are_an_obstacle(trio: list[Node]) -> None:
    one = trio[0]
    if one.user.info.server_version < 180_000:
        pytest.skip("there are none before PostgreSQL 18")
    await one.do("CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL)")
    with pytest.raises(UsageError, match="has the generated column twice, which is VIRTUAL"):
        await take_in(one.user, "public", "t")
