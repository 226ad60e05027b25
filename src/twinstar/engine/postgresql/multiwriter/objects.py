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

from twinstar.engine.postgresql.multiwriter.fragments import (
    columns,
    companion,
    counted,
    function,
    ident,
    literal,
    next_stamp,
    relation,
)
from twinstar.engine.postgresql.multiwriter.merged_triggers import merged_trigger_functions
from twinstar.engine.postgresql.multiwriter.merging import merging_functions
from twinstar.engine.postgresql.multiwriter.names import PUBLICATION
from twinstar.engine.postgresql.multiwriter.obstacles import obstacles
from twinstar.engine.postgresql.multiwriter.resolving import resolving_functions
from twinstar.engine.postgresql.multiwriter.table import (
    BASE,
    BORN,
    GROUPS,
    OWN_SCHEMA,
    REPORTS,
    STAMP,
    Policy,
    Table,
    describe,
    slug_of,
)
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

_THERE = f"""EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE (n.nspname, c.relname) = (schema, name) AND a.attname = '{STAMP}' AND NOT a.attisdropped)"""
"""That a table that was taken in was not dropped since, and perhaps made anew."""
_LOOK = """(SELECT md5(
    (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attnotnull, a.attgenerated, a.attidentity),
      ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)
    || coalesce((SELECT string_agg(concat_ws(' ', i.indexrelid, i.indkey, i.indexprs, i.indpred, i.indisunique,
      i.indnullsnotdistinct), ',' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid), ''))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) = (schema, name))"""
"""Says cheaply, of a row of `twinstar.tables`, that nothing about the table's columns and indexes has changed."""


async def install(connection: Connection, node: int) -> None:
    """Makes the schema `twinstar`, its roles and the publication, or brings them up to this program's.

    Raises UsageError for a node number out of range, EngineError when the database is another node already.
    """
    if not 1 <= node <= GREATEST_NODE:
        raise UsageError(f"The node number {node} is out of range: choose one from 1 to {GREATEST_NODE}.")
    async with connection.transaction():
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        await connection.execute(schema.encode())
        known = await node_number(connection)
        if known is None:
            await _run(connection, _number(node))
        elif known != node:
            raise EngineError(
                f"This database is node {known} and cannot become node {node}: its rows carry that number. "
                "Keep it, or rebuild this node by copying another one."
            )
        for schema_name, name in [*await taken_in(connection), REPORTS]:
            await _register(connection, schema_name, name, policy_of(await describe(connection, schema_name, name)))


async def node_number(connection: Connection) -> int | None:
    """Which node this database is. None: that was never said."""
    there = await connection.execute("SELECT to_regprocedure('twinstar.this_node()') IS NOT NULL")
    if await there.fetchone() != (True,):
        return None
    row = await (await connection.execute("SELECT twinstar.this_node()")).fetchone()
    return int(row[0]) if row else None


async def renumber(connection: Connection, node: int) -> None:
    """Makes a copy of another node's database a node of its own, before anybody writes to it.

    The number must never have been given out before. Raises UsageError for one out of range.
    """
    if not 1 <= node <= GREATEST_NODE:
        raise UsageError(f"The node number {node} is out of range: choose one from 1 to {GREATEST_NODE}.")
    async with connection.transaction():
        await _run(connection, [*_number(node), "DELETE FROM twinstar.cut"])


def _number(node: int) -> list[str]:
    """The one place where a node's number is; stable, so that plans have it in them and are made anew with it."""
    return [
        "CREATE OR REPLACE FUNCTION twinstar.this_node() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE "
        f"RETURN {node}::pg_catalog.int8",
        f"ALTER FUNCTION twinstar.this_node() OWNER TO {OWNER_ROLE}",
        "CREATE OR REPLACE VIEW twinstar.node AS SELECT twinstar.this_node()::integer AS number",
        f"ALTER VIEW twinstar.node OWNER TO {OWNER_ROLE}",
        "GRANT SELECT ON twinstar.node TO PUBLIC",
    ]


async def taken_in(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of every table that this node has taken in, in the order in which appliers write to them."""
    cursor = await connection.execute(
        f"SELECT schema, name FROM twinstar.tables WHERE schema <> %s AND {_THERE} ORDER BY schema, name",
        (OWN_SCHEMA,),
    )
    return [(schema, name) for schema, name in await cursor.fetchall()]


async def policies(connection: Connection) -> dict[tuple[str, str], Policy]:
    """Of every table that this node has taken in."""
    cursor = await connection.execute(
        f"SELECT schema, name, counters, groups, merge FROM twinstar.tables WHERE schema <> %s AND {_THERE}".encode(),
        (OWN_SCHEMA,),
    )
    return {
        (schema, name): Policy(tuple(counters), tuple(map(tuple, groups)), merge)
        for schema, name, counters, groups, merge in await cursor.fetchall()
    }


async def take_in(
    connection: Connection, schema: str, name: str, policy: Policy | None = None, *, send_rows: bool = False
) -> Table:
    """Gives a table its columns, triggers, functions and tombstones, and publishes it.

    Rows that are there have version 0, which means that all nodes have the same ones: so it is when they are copies of
    this node that are still to be made. Otherwise `send_rows`: each is a new version of this node's, and is sent.
    Raises UsageError with every obstacle.
    """
    policy = policy or Policy()
    async with connection.transaction():
        if await node_number(connection) is None:
            raise EngineError("This database is not a node yet: install first.")
        table = await describe(connection, schema, name)
        if (schema, name) in await taken_in(connection) and policy_of(table) != policy:
            raise UsageError(
                f"{schema}.{name} is taken in with another policy: leave it out first, on every node, and take it in "
                "again while its rows are equal everywhere."
            )
        found = await obstacles(connection, table, policy)
        if found:
            raise UsageError(" ".join(obstacle.sentence for obstacle in found))
        table = await _register(connection, schema, name, policy)
        if send_rows:
            await send_unwritten(connection, table)
    return table


async def _register(connection: Connection, schema: str, name: str, policy: Policy) -> Table:
    on = f"{ident(schema)}.{ident(name)}"
    additions = [f"ADD COLUMN IF NOT EXISTS {column}" for column in _additions(policy)]
    # Nobody writes to it until all of this is committed.
    await _run(connection, [f"ALTER TABLE {on} {', '.join(additions)}", f"ALTER TABLE {on} REPLICA IDENTITY FULL"])
    await connection.execute(
        "INSERT INTO twinstar.tables (schema, name, slug, counters, groups, merge) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (schema, name) DO UPDATE "
        "SET counters = EXCLUDED.counters, groups = EXCLUDED.groups, merge = EXCLUDED.merge",
        (schema, name, slug_of(schema, name), list(policy.counters), json.dumps(policy.groups), policy.merge),
    )
    table = await describe(connection, schema, name)
    await _make(connection, table)
    return table


async def send_unwritten(connection: Connection, table: Table) -> int:
    """Makes a version of this node's of each row that has none yet, past the users' triggers; how many."""
    # One stamp for all: those of different keys may be equal.
    cursor = await connection.execute(f"SELECT {next_stamp('f.last_value')} FROM twinstar.floor AS f".encode())
    ((stamp,),) = await cursor.fetchall()
    changes = [f"{STAMP} = {stamp}"]
    if table.groups:
        changes.append(f"{GROUPS} = array_fill({stamp}::int8, ARRAY[{len(table.cells)}])")
    if table.counters:
        changes += [f"{BORN} = {stamp}", f"{BASE} = -1"]
    before = await (await connection.execute("SELECT current_setting('session_replication_role')")).fetchone()
    assert before is not None, "a setting has a value"
    await connection.execute("SET LOCAL session_replication_role = replica")
    sent = await connection.execute(
        f"UPDATE ONLY {relation(table)} SET {', '.join(changes)} WHERE {STAMP} IS NULL".encode()
    )
    if table.counters:
        counters = ", ".join(map(ident, table.counters))
        await connection.execute(
            f"INSERT INTO {counted(table)} ({columns(table.key_columns)}, {BORN}, twinstar_node, twinstar_writes, "
            f"{counters}) SELECT {columns(table.key_columns)}, {BORN}, twinstar.this_node(), 1, {counters} "
            f"FROM ONLY {relation(table)} WHERE {BORN} = {stamp} ON CONFLICT DO NOTHING".encode()
        )
    await connection.execute("SELECT set_config('session_replication_role', %s, true)", before)
    return sent.rowcount


def _additions(policy: Policy) -> list[str]:
    return [
        f"{STAMP} bigint",
        *([f"{BORN} bigint", f"{BASE} bigint"] if policy.counters else []),
        *([f"{GROUPS} bigint[]"] if policy.groups else []),
    ]


def policy_of(table: Table) -> Policy:
    return Policy(table.counters, table.groups, table.policy)


async def leave_out(connection: Connection, schema: str, name: str) -> None:
    """Makes the table an ordinary one again. Its tombstones are gone: taking it in again needs equal copies."""
    async with connection.transaction():
        table = await describe(connection, schema, name)
        on = relation(table)
        await _publish(connection, on, wanted=False)
        for beside in (companion(table), counted(table)):
            await _publish(connection, beside, wanted=False)
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
                # Some return or take rows of the tables.
                *(f"DROP FUNCTION {function}" for function in functions),
                f"DROP TABLE IF EXISTS {companion(table)}, {counted(table)}",
                *(f"ALTER TABLE {on} DROP COLUMN {ident(column.name)}" for column in table.columns if column.ours),
                f"ALTER TABLE {on} REPLICA IDENTITY DEFAULT",
                f"REVOKE ALL ON {on} FROM {APPLIER_ROLE}, {OWNER_ROLE}",
                f"DELETE FROM twinstar.tables WHERE slug = {literal(table.slug)}",
                f"DELETE FROM twinstar.repairs WHERE slug = {literal(table.slug)}",
            ],
        )


async def refresh(connection: Connection) -> tuple[tuple[str, str], ...]:
    """Makes anew what is made for tables whose columns or indexes have changed since; which these were.

    To be called every second or so: until then, rows of such a table that meet others are not applied (they become dead
    letters, which are tried again), and changes of a new column alone are not stamped where there are groups.
    """
    async with connection.transaction():
        changed = []
        cursor = await connection.execute(
            f"SELECT schema, name, shape FROM twinstar.tables WHERE {_THERE} "
            f"AND looked IS DISTINCT FROM {_LOOK} ORDER BY schema, name".encode()
        )
        for schema, name, shape in await cursor.fetchall():
            table = await describe(connection, schema, name)
            if table.shape != shape:
                await _make(connection, table)
                changed.append((schema, name))
            else:
                await _run(connection, [f"UPDATE twinstar.tables SET looked = {_LOOK} WHERE slug = '{table.slug}'"])
    return tuple(changed)


async def _make(connection: Connection, table: Table) -> None:
    on = relation(table)
    beside = [companion(table), *([counted(table)] if table.counters else [])]
    await _run(connection, await _beside(connection, table))
    await _run(
        connection,
        [
            *(resolving_functions(table) if table.plain else merging_functions(table)),
            *(trigger_functions(table) if table.plain else merged_trigger_functions(table)),
            *triggers(table),
            f"GRANT USAGE ON SCHEMA {ident(table.schema)} TO {APPLIER_ROLE}, {OWNER_ROLE}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join([on, *beside])} TO {APPLIER_ROLE}",
            # To stamp a row once more.
            f"GRANT SELECT, UPDATE ({', '.join(column.name for column in table.columns if column.ours)}) "
            f"ON {on} TO {OWNER_ROLE}",
            f"UPDATE twinstar.tables SET shape = '{table.shape}', looked = {_LOOK} WHERE slug = {literal(table.slug)}",
            *(f"ALTER FUNCTION {function(table, name)}() OWNER TO {OWNER_ROLE}" for name in ("stamp", "place", "bury")),
        ],
    )
    for published in (on, *beside):
        await _publish(connection, published, wanted=True)
    secured = await connection.execute("SELECT FROM pg_class WHERE oid = to_regclass(%s) AND relrowsecurity", (on,))
    if await secured.fetchone():
        # What other nodes have written is not a question of who may see it.
        await _run(connection, [f"ALTER ROLE {role} BYPASSRLS" for role in (APPLIER_ROLE, OWNER_ROLE)])


async def _beside(connection: Connection, table: Table) -> list[str]:
    """What makes the tables of tombstones and of contributions, where they are missing."""
    keys, deleted, contributions = columns(table.key_columns), companion(table), counted(table)
    # Types, modifiers and collations are the table's own.
    like = f"AS SELECT {keys} FROM {relation(table)} WITH NO DATA"
    made = []
    if not await _exists(connection, deleted):
        made += [
            f"CREATE TABLE {deleted} {like}",
            f"ALTER TABLE {deleted} ADD COLUMN twinstar_stamp bigint NOT NULL, "
            "ADD COLUMN twinstar_was bigint NOT NULL, "
            f"ADD COLUMN twinstar_image jsonb, ADD COLUMN twinstar_unsettled boolean, ADD PRIMARY KEY ({keys})",
            f"CREATE INDEX {ident('unsettled_' + table.slug)} ON {deleted} (twinstar_unsettled) "
            "WHERE twinstar_unsettled",
            f"ALTER TABLE {deleted} OWNER TO {OWNER_ROLE}",
        ]
    if table.counters and not await _exists(connection, contributions):
        sums = "".join(f", ADD COLUMN {ident(name)} numeric NOT NULL" for name in table.counters)
        made += [
            f"CREATE TABLE {contributions} {like}",
            f"ALTER TABLE {contributions} ADD COLUMN twinstar_born bigint NOT NULL, "
            "ADD COLUMN twinstar_node integer NOT NULL, ADD COLUMN twinstar_writes bigint NOT NULL"
            f"{sums}, ADD PRIMARY KEY ({keys}, twinstar_born, twinstar_node)",
            f"ALTER TABLE {contributions} OWNER TO {OWNER_ROLE}",
        ]
    return made


async def _exists(connection: Connection, which: str) -> bool:
    return await (await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (which,))).fetchone() == (True,)


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
