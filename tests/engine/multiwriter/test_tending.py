"""What agents do for tables now and then, on three nodes with their streams."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.multiwriter.appliers import Node, join
from tests.engine.postgresql.lab import Server
from twinstar.agent.active_active.upkeep import Rounds
from twinstar.config.schema import TableRule
from twinstar.engine.postgresql.multiwriter.session import connect_locally
from twinstar.ports.clock import SystemClock

RULES = (TableRule(pattern="public.*"),)
NUMBERS = frozenset({1, 2, 3})


@pytest.fixture
async def nodes(own: list[Server], tmp_path: Path) -> Any:
    made = [Node(number, server, "postgres", tmp_path) for number, server in enumerate(own, 1)]
    await join(made, "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)", tables={"t": None})
    for node in made:
        for applier in node.appliers.values():
            applier.start()
    yield made
    for node in made:
        for applier in node.appliers.values():
            applier.end(signal.SIGKILL)


async def rounds(nodes: list[Node]) -> None:
    """Everything on each node, once."""
    for node in nodes:
        superuser = await connect_locally({**node.parameters(), "user": "lab"}, "test")
        applier = await connect_locally(node.parameters(), "test")
        try:
            # To one that has just begun everything is due.
            await Rounds(RULES, SystemClock(), 0.0).due(superuser, applier, node.number, NUMBERS - {node.number}, ())
        finally:
            await applier.close()
            await superuser.close()


async def until(done: Callable[[], bool], step: Callable[[], Awaitable[None]], at_most: int = 200) -> None:
    for _ in range(at_most):
        await step()
        if done():
            return
        await asyncio.sleep(0.2)
    pytest.fail("it never happened")


async def test_tables_come_in_removals_are_sent_and_tombstones_are_forgotten(nodes: list[Node]) -> None:
    a, b, _ = nodes
    for node in nodes:
        node.do("CREATE TABLE later (id bigserial PRIMARY KEY, v text)")
        node.do(f"INSERT INTO t VALUES ({node.number}, 'same')")
    await rounds(nodes)
    for node in nodes:
        node.do("INSERT INTO later (v) VALUES ('x')")
    await until(lambda: all(node.do("SELECT count(*) FROM t") == [(1,)] for node in nodes), lambda: rounds(nodes))
    numbers = [(1, "x"), (2, "x"), (3, "x")]
    await until(
        lambda: all(node.do("SELECT id % 1024, v FROM later ORDER BY 1") == numbers for node in nodes),
        lambda: rounds(nodes),
    )
    a.do("DELETE FROM later")
    b.do("DELETE FROM t")
    tombstones = " + ".join(
        f"(SELECT count(*) FROM twinstar.{name})"
        for (name,) in a.do("SELECT relname FROM pg_class WHERE relname LIKE 'deleted\\_%' AND relkind = 'r'")
    )
    await until(lambda: all(node.do(f"SELECT {tombstones}") == [(0,)] for node in nodes), lambda: rounds(nodes))
    a.do("INSERT INTO later (v) VALUES ('again')")
    await until(lambda: all(node.do("SELECT v FROM later") == [("again",)] for node in nodes), lambda: rounds(nodes))
