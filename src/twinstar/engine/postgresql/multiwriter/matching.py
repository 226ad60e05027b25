"""Tables that are made while the nodes run are taken in by themselves, when the configuration's patterns match them.

The agent asks every second. A trigger on DDL would do it at once, but inside the user's own statement, which then could
fail because of us. Rows that were written in that second are sent, as this node's own: so whatever was in the table,
and in whatever order nodes take it in, they end up equal. What comes from a peer for a table that is not there yet
waits (`catalog`, `dead_letters`).

What is made is not sent: a table, a column or an index has to be made on every node, by whoever makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.config.schema import TableRule
from twinstar.config.tables import rule_of
from twinstar.engine.postgresql.multiwriter.objects import policies, refresh, take_in
from twinstar.engine.postgresql.multiwriter.obstacles import Obstacle
from twinstar.engine.postgresql.multiwriter.table import Policy
from twinstar.model.errors import UsageError

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Matched:
    """Schemas and names."""

    taken_in: tuple[tuple[str, str], ...]
    """Just now."""
    refreshed: tuple[tuple[str, str], ...]
    """Their columns or indexes had changed."""
    refused: tuple[Obstacle, ...]
    """They match, and cannot be taken in."""


def policy_from(rule: TableRule) -> Policy:
    return Policy(rule.counters, tuple(rule.groups.values()), rule.function)


_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'twinstar') AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""


async def take_in_matching(connection: Connection, rules: tuple[TableRule, ...], *, send_rows: bool) -> Matched:
    """Takes in every table that a rule matches and that is not in yet, and brings up to date what was changed.

    `send_rows` as for `take_in`: True as soon as this node is one of several. What is in stays in, also when no rule
    matches it any more. To be called every second or so, by a superuser's session.
    """
    known = await policies(connection)
    new, refused = [], []
    cursor = await connection.execute(_TABLES.encode())
    for schema, name in await cursor.fetchall():
        rule = rule_of(rules, schema, name)
        if rule is None:
            continue
        if known.get((schema, name)) == policy_from(rule):
            continue
        try:
            await take_in(connection, schema, name, policy_from(rule), send_rows=send_rows)
        except UsageError as error:
            refused.append(Obstacle(f"{schema}.{name}", str(error)))
        else:
            new.append((schema, name))
    return Matched(tuple(new), await refresh(connection), tuple(refused))
