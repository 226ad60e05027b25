"""Changes of a peer that could not be applied here: kept, so that the stream goes on, until somebody has helped.

While one is open this node differs from the others in that row. It then forgets no tombstone, and does not say that
others may (`collecting`): what waits may be older than any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from twinstar.engine.postgresql.connections import sentence
from twinstar.engine.postgresql.multiwriter.applying import applier_of
from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image
from twinstar.engine.postgresql.multiwriter.collapse import Stray
from twinstar.engine.postgresql.multiwriter.session import quietly
from twinstar.engine.postgresql.multiwriter.table import OWN_SCHEMA, STAMP, Table, describe
from twinstar.model.errors import EngineError, UsageError

Connection = AsyncConnection[tuple[Any, ...]]
RETRIED_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class DeadLetter:
    id: int
    at: datetime
    schema: str
    name: str
    peer: str
    kind: str
    """`image`, `burial`, `contribution`; `stray`: no table here could take it."""
    stamp: int
    change: dict[str, Any]
    error: str


_SELECT = "SELECT id, at, schema, name, peer, kind, stamp, change, error FROM twinstar.dead_letters"


async def keep_failed(connection: Connection, table: Table, changes: Changes, peer: str, error: psycopg.Error) -> None:
    """Keeps what failed, in the transaction in which the stream goes on."""
    failed: list[Image | Burial | Contribution] = [*changes.images, *changes.burials, *changes.contributions]
    for change in failed:
        kind, stamp, content = _content(table, change)
        await _keep(connection, (table.schema, table.name, peer, kind, stamp, Jsonb(content), sentence(error)))


async def keep_stray(connection: Connection, stray: Stray, peer: str) -> None:
    """Keeps a row that no table here can take."""
    stamp = int(stray.values.get(STAMP) or 0)
    await _keep(connection, (stray.schema, stray.name, peer, "stray", stamp, Jsonb(stray.values), stray.reason))


async def _keep(connection: Connection, letter: tuple[object, ...]) -> None:
    await connection.execute(
        "INSERT INTO twinstar.dead_letters (schema, name, peer, kind, stamp, change, error) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        letter,
    )


async def dead_letters(connection: Connection) -> tuple[DeadLetter, ...]:
    """Those that are open, oldest first."""
    cursor = await connection.execute(f"{_SELECT} ORDER BY id".encode())
    return tuple([DeadLetter(*row) for row in await cursor.fetchall()])


async def retry_dead_letters(connection: Connection) -> int:
    """Tries all of them again, oldest first; how many could be applied. What still fails stays, with its new reason.

    For a session that may set `session_replication_role`.
    """
    applied = 0
    for letter in (await dead_letters(connection))[:RETRIED_AT_ONCE]:
        try:
            await retry_dead_letter(connection, letter.id)
            applied += 1
        except EngineError as error:
            # Behind the others, so that a hundred that never succeed hold up nobody.
            await connection.execute(
                "UPDATE twinstar.dead_letters SET error = %s, id = DEFAULT WHERE id = %s", (str(error), letter.id)
            )
    return applied


async def retry_dead_letter(connection: Connection, letter_id: int) -> None:
    """Applies it again. Raises UsageError when there is none, EngineError when it still cannot be applied."""
    try:
        async with quietly(connection):
            letter = await _take(connection, letter_id)
            table, changes = await _read(connection, letter)
            await applier_of(table).apply(connection, changes, letter.peer)
    except psycopg.Error as error:
        raise EngineError(
            f"Dead letter {letter_id} still cannot be applied ({sentence(error)}): change what stands in its way."
        ) from error


async def drop_dead_letter(connection: Connection, letter_id: int) -> None:
    """Gives it up: this node may then differ from the others in that row. Raises UsageError when there is none."""
    async with connection.transaction():
        await _take(connection, letter_id)


async def _take(connection: Connection, letter_id: int) -> DeadLetter:
    cursor = await connection.execute(f"{_SELECT} WHERE id = %s FOR UPDATE".encode(), (letter_id,))
    row = await cursor.fetchone()
    if row is None:
        raise UsageError(f"There is no dead letter {letter_id} on this node: list them to see the numbers.")
    await connection.execute("DELETE FROM twinstar.dead_letters WHERE id = %s", (letter_id,))
    return DeadLetter(*row)


def _content(table: Table, change: Image | Burial | Contribution) -> tuple[str, int, dict[str, Any]]:
    """By the names of columns: the table may have others when it is tried again."""
    if isinstance(change, Image):
        values = dict(zip((column.name for column in table.sent_columns), change.values, strict=True))
        return "image", change.stamp, {"values": values, "was": change.was, "last_was": change.last_was}
    key = dict(zip(table.key, change.key, strict=True))
    if isinstance(change, Burial):
        return "burial", change.stamp, {"key": key, "was": change.was, "image": change.image}
    sums = dict(zip(table.counters, change.sums, strict=True))
    content = {"key": key, "born": change.born, "node": change.node, "writes": change.writes, "sums": sums}
    return "contribution", change.born, content


async def _read(connection: Connection, letter: DeadLetter) -> tuple[Table, Changes]:
    """The letter as a change of a table that is here. Raises EngineError while there is none."""
    table = await _table(connection, letter)
    content = letter.change
    if letter.kind == "image" or (letter.kind == "stray" and letter.schema != OWN_SCHEMA):
        image: dict[str, Any] = {"values": content, "was": 0, "last_was": 0} | (
            content if letter.kind == "image" else {}
        )
        missing = set(image["values"]) - {column.name for column in table.columns}
        if missing:
            raise EngineError(
                f"{letter.schema}.{letter.name} has no {', '.join(sorted(missing))} on this node: add it."
            )
        values = tuple([image["values"].get(column.name) for column in table.sent_columns])
        return table, Changes(images=[Image(values, letter.stamp, image["was"], image["last_was"])])
    if letter.kind == "stray":
        content = _companion_row(table, content)
    key = tuple([content["key"][name] for name in table.key])
    if letter.kind == "burial" or (letter.kind == "stray" and letter.name == table.companion):
        return table, Changes(burials=[Burial(key, letter.stamp, content["was"], content["image"])])
    sums = tuple([content["sums"].get(name, "0") for name in table.counters])
    return table, Changes(contributions=[Contribution(key, content["born"], content["node"], content["writes"], sums)])


async def _table(connection: Connection, letter: DeadLetter) -> Table:
    cursor = await connection.execute(
        "SELECT schema, name FROM twinstar.tables WHERE (schema, name) = (%s, %s) OR (%s AND slug = %s)",
        (
            letter.schema,
            letter.name,
            letter.schema == OWN_SCHEMA and letter.kind == "stray",
            letter.name.partition("_")[2],
        ),
    )
    row = await cursor.fetchone()
    if row is None:
        raise EngineError(f"{letter.schema}.{letter.name} is not taken in on this node: take it in.")
    return await describe(connection, *row)


def _companion_row(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """A row of one of the tables beside a user's table, as `_content` writes it."""
    return {
        "key": {name: values[name] for name in table.key},
        "was": int(values.get("twinstar_was") or 0),
        "image": values.get("twinstar_image"),
        "born": int(values.get("twinstar_born") or 0),
        "node": int(values.get("twinstar_node") or 0),
        "writes": int(values.get("twinstar_writes") or 0),
        "sums": {name: values[name] for name in table.counters if name in values},
    }
