"""Nodes whose changes a test carries from one to the other itself, in whatever order, as often as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from tests.engine.postgresql.lab import Server
from twinstar.engine.postgresql.multiwriter.applying import Applied, Applier, applier_of
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image, Swath
from twinstar.engine.postgresql.multiwriter.objects import APPLIER_ROLE, install, take_in
from twinstar.engine.postgresql.multiwriter.session import SESSION_SETTINGS
from twinstar.engine.postgresql.multiwriter.table import GROUPS, STAMP, Policy, Table

Connection = AsyncConnection[tuple[Any, ...]]


SETTINGS = {**SESSION_SETTINGS, "lock_timeout": "60s", "search_path": "", "TimeZone": "UTC"}
"""Of a session that applies, without an origin. Where it waits for a lock, it is for the test to end that."""


@dataclass
class Node:
    """One database. `user` is an ordinary session, `applier` one that applies."""

    number: int
    conninfo: str
    user: Connection
    applier: Connection
    tables: dict[str, Applier] = field(default_factory=dict)

    async def do(self, statement: str) -> None:
        await self.user.execute(statement.encode())

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await (await self.user.execute(query.encode())).fetchall()

    async def ask(self, query: str) -> Any:
        found = await self.rows(query)
        return found[0][0] if found else None

    async def take_in(self, name: str, policy: Policy | None = None) -> Table:
        table = await take_in(self.user, "public", name, policy)
        self.tables[name] = applier_of(table)
        return table

    async def clock(self, us: int | None) -> None:
        """Sets this node's clock, None for the real one."""
        now = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint" if us is None else f"{us}::bigint"
        await self.do(f"CREATE OR REPLACE FUNCTION twinstar.now_us() RETURNS bigint LANGUAGE sql VOLATILE RETURN {now}")

    async def apply(self, name: str, changes: Changes, peer: str = "peer") -> Applied:
        async with self.applier.transaction():
            return await self.tables[name].apply(self.applier, changes, peer)

    async def image(self, name: str, where: str, was: int = 0, knew: str = "") -> Image:
        """The image of a row as the transport would bring it, with what it replaced."""
        table = self.tables[name].table
        values = ", ".join(f'"{column.name}"::text' for column in table.sent_columns)
        ((*row,),) = await self.rows(f'SELECT {values} FROM "{name}" WHERE {where}')
        stamp = next(
            int(value or 0) for column, value in zip(table.sent_columns, row, strict=True) if column.name == STAMP
        )
        return Image(tuple(row), stamp, was, was, knew, knew)

    async def burial(self, name: str, where: str) -> Burial:
        table = self.tables[name].table
        key = ", ".join(f'"{column}"::text' for column in table.key)
        ((*row, stamp, was, image),) = await self.rows(
            f"SELECT {key}, twinstar_stamp, twinstar_was, twinstar_image::text FROM twinstar.{table.companion} "
            f"WHERE {where}"
        )
        return Burial(tuple(row), stamp, was, image)

    async def write(self, name: str, statement: str, where: str) -> Image:
        """Runs a statement that writes one row and returns what would be sent of it."""
        was = await self.ask(f'SELECT twinstar_stamp FROM "{name}" WHERE {where}') or 0
        knew, table = "", self.tables[name].table
        if table.groups:
            versions = await self.rows(f'SELECT {GROUPS} FROM "{name}" WHERE {where}')
            knew = ",".join(
                map(str, (versions[0][0] or [0] * len(table.cells)) if versions else [-1] * len(table.cells))
            )
        await self.do(statement)
        return await self.image(name, where, was, knew)

    async def contributions(self, name: str, where: str) -> list[Contribution]:
        """What every node is known to have added to a row."""
        table = self.tables[name].table
        key = ", ".join(f'"{column}"::text' for column in table.key)
        sums = ", ".join(f'"{column}"::text' for column in table.counters)
        found = await self.rows(
            f"SELECT ARRAY[{key}], twinstar_born, twinstar_node, twinstar_writes, ARRAY[{sums}] "
            f"FROM twinstar.{table.counted} WHERE {where}"
        )
        return [Contribution(tuple(of), born, node, writes, tuple(added)) for of, born, node, writes, added in found]

    async def delete(self, name: str, where: str) -> Burial:
        await self.do(f'DELETE FROM "{name}" WHERE {where}')
        return await self.burial(name, where)

    async def state(self, name: str) -> tuple[list[Any], list[Any]]:
        """Rows and tombstones."""
        table = self.tables[name].table
        key = ", ".join(f'"{column}"' for column in table.key)
        rows = await self.rows(f'SELECT to_jsonb(t) FROM "{name}" AS t ORDER BY {key}')
        tombstones = await self.rows(f"SELECT {key}, twinstar_stamp FROM twinstar.{table.companion} ORDER BY {key}")
        return rows, tombstones

    async def conflicts(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT kind, winner, winner_image, loser_image FROM twinstar.conflicts ORDER BY id")


async def prepare(nodes: Sequence[Node], *definitions: str, policy: Policy | None = None) -> None:
    """The same objects everywhere, the table `t` among them taken in."""
    for each in nodes:
        for definition in definitions:
            await each.do(definition)
        await each.take_in("t", policy)


def swath(table: Table, images: list[Image], *, inserted: bool) -> Changes:
    """The same images as one swath."""
    names = tuple(column.name for column in table.sent_columns)
    rows = [tuple([None if value is None else value.encode() for value in each.values]) for each in images]
    if inserted:
        return Changes(swaths=[Swath(names, rows, None, names, "twinstar_stamp")])
    rows = [(str(each.was).encode(), *row) for each, row in zip(images, rows, strict=True)]
    return Changes(swaths=[Swath(("", *names), rows, 0, names, "twinstar_stamp")])


def images(*changes: Image) -> Changes:
    return Changes(images=list(changes))


def burials(*changes: Burial) -> Changes:
    return Changes(burials=list(changes))


def part(change: Image | Burial) -> Changes:
    return images(change) if isinstance(change, Image) else burials(change)


@asynccontextmanager
async def connected(
    server: Server, database: str, settings: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Connection]:
    connection = await AsyncConnection.connect(server.conninfo(), dbname=database, autocommit=True, **options)
    async with connection:
        for name, value in (settings or {}).items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        yield connection


@asynccontextmanager
async def node(server: Server, database: str, number: int) -> AsyncIterator[Node]:
    async with connected(server, database) as user:
        await install(user, number)
        async with connected(server, database, SETTINGS, user=APPLIER_ROLE) as applier:
            conninfo = f"{server.conninfo()} dbname={database}"
            yield Node(number, conninfo, user, applier)
