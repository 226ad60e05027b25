"""What Twinstar has inside a database: its schema, its role, and the objects of each table that was taken in.

All of it is made by a superuser's session, in one transaction each, and can be made again: what is there is brought up
to what this program makes. The applier's role is no superuser; it may write to the tables that were taken in and may
set what makes triggers and foreign keys silent, and nothing else.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.fragments import columns, companion, ident, literal, relation
from twinstar.engine.postgresql.multiwriter.names import PUBLICATION
from twinstar.engine.postgresql.multiwriter.obstacles import obstacles
from twinstar.engine.postgresql.multiwriter.resolving import resolving_functions
from twinstar.engine.postgresql.multiwriter.table import STAMP, Policy, Table, describe
from twinstar.engine.postgresql.multiwriter.triggers import (
    TRIGGERS,
    trigger_functions,
    triggers,
)
from twinstar.model.errors import EngineError, UsageError

APPLIER_ROLE = "twinstar_applier"
OWNER_ROLE = "twinstar_owner"
GREATEST_NODE = 1022
"""1,023 is no node's number (`docs/decisions/active-active-engine.md`)."""

Connection = AsyncConnection[tuple[Any, ...]]


async def install(connection: Connection, node: int) -> None:
    """Makes the schema `twinstar`, its roles and the publication, or brings them up to this program's.

    Raises UsageError for a node number out of range, EngineError when the database is another node already.
    """
    if not 1 <= node <= GREATEST_NODE:
        raise UsageError(f"The node number {node} is out of range: choose one from 1 to {GREATEST_NODE}.")
    async with connection.transaction():
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        await connection.execute(schema.encode())
        await connection.execute("INSERT INTO twinstar.node (number) VALUES (%s) ON CONFLICT DO NOTHING", (node,))
        known = await node_number(connection)
        if known != node:
            raise EngineError(
                f"This database is node {known} and cannot become node {node}: its rows carry that number. "
                "Keep it, or rebuild this node by copying another one."
            )
        for schema_name, name in await taken_in(connection):
            await _make(connection, await describe(connection, schema_name, name), node)


async def node_number(connection: Connection) -> int:
    """Which node this database is. Raises EngineError when that was never said."""
    row = await (await connection.execute("SELECT number FROM twinstar.node")).fetchone()
    if row is None:
        raise EngineError("This database is not a node yet: install first.")
    return int(row[0])


async def taken_in(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of every table that this node has taken in, in the order in which appliers write to them."""
    cursor = await connection.execute("SELECT schema, name FROM twinstar.tables ORDER BY schema, name")
    return [(schema, name) for schema, name in await cursor.fetchall()]


async def take_in(connection: Connection, schema: str, name: str, policy: Policy | None = None) -> Table:
    """Gives a table its columns, triggers, functions and tombstones, and publishes it. Its rows stay as they are.

    Rows that nobody has written to since have version 0: nodes must have the same ones before their streams begin.
    Raises UsageError with every obstacle.
    """
    policy = policy or Policy()
    async with connection.transaction():
        node = await node_number(connection)
        found = await obstacles(connection, await describe(connection, schema, name), policy)
        if found:
            raise UsageError(" ".join(obstacle.sentence for obstacle in found))
        on = f"{ident(schema)}.{ident(name)}"
        await _run(
            connection,
            [f"ALTER TABLE {on} ADD COLUMN IF NOT EXISTS {STAMP} bigint", f"ALTER TABLE {on} REPLICA IDENTITY FULL"],
        )
        table = await describe(connection, schema, name)
        await connection.execute(
            "INSERT INTO twinstar.tables (schema, name, slug, counters, groups, merge) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (schema, name) DO NOTHING",
            (schema, name, table.slug, list(policy.counters), json.dumps(policy.groups), policy.merge),
        )
        table = await describe(connection, schema, name)
        await _make(connection, table, node)
    return table


async def leave_out(connection: Connection, schema: str, name: str) -> None:
    """Makes the table an ordinary one again. Its tombstones are gone: taking it in again needs equal copies."""
    async with connection.transaction():
        table = await describe(connection, schema, name)
        on = relation(table)
        await _publish(connection, on, wanted=False)
        await _publish(connection, companion(table), wanted=False)
        cursor = await connection.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p "
            "WHERE p.pronamespace = 'twinstar'::regnamespace AND p.proname LIKE %s",
            (r"%\_" + table.slug.replace("_", r"\_"),),
        )
        functions = [function for (function,) in await cursor.fetchall()]
        await _run(
            connection,
            [
                *(f"DROP TRIGGER IF EXISTS {ident(trigger)} ON {on}" for trigger in TRIGGERS),
                *(f"DROP FUNCTION {function}" for function in functions),
                f"DROP TABLE IF EXISTS {companion(table)}",
                *(f"ALTER TABLE {on} DROP COLUMN {ident(column.name)}" for column in table.columns if column.ours),
                f"ALTER TABLE {on} REPLICA IDENTITY DEFAULT",
                f"REVOKE ALL ON {on} FROM {APPLIER_ROLE}, {OWNER_ROLE}",
                f"DELETE FROM twinstar.tables WHERE slug = {literal(table.slug)}",
                f"DELETE FROM twinstar.repairs WHERE slug = {literal(table.slug)}",
            ],
        )


async def _make(connection: Connection, table: Table, node: int) -> None:
    on, deleted = relation(table), companion(table)
    await _run(connection, await _companion(connection, table))
    await _run(
        connection,
        [
            *resolving_functions(table),
            *trigger_functions(table, node),
            *triggers(table),
            f"GRANT USAGE ON SCHEMA {ident(table.schema)} TO {APPLIER_ROLE}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {on}, {deleted} TO {APPLIER_ROLE}",
            # To stamp a row once more.
            f"GRANT USAGE ON SCHEMA {ident(table.schema)} TO {OWNER_ROLE}",
            f"GRANT SELECT, UPDATE ({STAMP}) ON {on} TO {OWNER_ROLE}",
        ],
    )
    await _own_functions(connection, table)
    await _publish(connection, on, wanted=True)
    await _publish(connection, deleted, wanted=True)
    secured = await connection.execute(
        "SELECT FROM pg_class WHERE oid = to_regclass(%s) AND relrowsecurity", (relation(table),)
    )
    if await secured.fetchone():
        # What other nodes have written is not a question of who may see it.
        await _run(connection, [f"ALTER ROLE {role} BYPASSRLS" for role in (APPLIER_ROLE, OWNER_ROLE)])


async def _companion(connection: Connection, table: Table) -> list[str]:
    deleted = companion(table)
    there = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (deleted,))
    if await there.fetchone() == (True,):
        return []
    return [
        # Types, modifiers and collations are the table's own.
        f"CREATE TABLE {deleted} AS SELECT {columns(table.key_columns)} FROM {relation(table)} WITH NO DATA",
        f"ALTER TABLE {deleted} ADD COLUMN twinstar_stamp bigint NOT NULL, ADD COLUMN twinstar_was bigint NOT NULL, "
        "ADD COLUMN twinstar_image jsonb, ADD COLUMN twinstar_unsettled boolean, "
        f"ADD PRIMARY KEY ({columns(table.key_columns)})",
        f"CREATE INDEX {ident('unsettled_' + table.slug)} ON {deleted} (twinstar_unsettled) WHERE twinstar_unsettled",
        f"ALTER TABLE {deleted} OWNER TO {OWNER_ROLE}",
    ]


async def _own_functions(connection: Connection, table: Table) -> None:
    for prefix in ("stamp", "place", "bury"):
        await _run(connection, [f"ALTER FUNCTION twinstar.{ident(f'{prefix}_{table.slug}')}() OWNER TO {OWNER_ROLE}"])


async def _publish(connection: Connection, which: str, *, wanted: bool) -> None:
    cursor = await connection.execute(
        "SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid "
        "WHERE p.pubname = %s AND r.prrelid = to_regclass(%s)",
        (PUBLICATION, which),
    )
    if (await cursor.fetchone() is not None) != wanted:
        await _run(connection, [f"ALTER PUBLICATION {PUBLICATION} {'ADD' if wanted else 'DROP'} TABLE {which}"])


async def _run(connection: Connection, statements: list[str]) -> None:
    for statement in statements:
        await connection.execute(statement.encode())
