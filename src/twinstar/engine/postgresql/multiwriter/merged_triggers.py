"""What a user's write does to a table with counters or groups of columns, beside what `triggers` says.

*Groups.* A group whose columns were changed gets the new stamp, the others keep theirs; the row's stamp is the
greatest. An update that changes no column is none.

*Counters.* What an update adds goes to this node's contribution, tagged with the insertion that made the row (`born`).
It changes no stamp: otherwise the image with which an increment travels would take away what another node wrote at the
same time to the other columns. A row that was there when the table was taken in is node 0's contribution, made by
whoever first writes to it, and the same everywhere.

*Base.* Of a row that is inserted: all that is over, which is the tombstone, what was born before, and the tombstones
that were forgotten. What was born above it counts. Read with the key's lock, after the row is in its place; only when
that shows more than the first look did is the row written once more. An old snapshot cannot show it, so under
REPEATABLE READ and above a row counts from itself on.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinstar.engine.postgresql.multiwriter.fragments import (
    body,
    columns,
    companion,
    counted,
    function,
    ident,
    key_of,
    literal,
    next_stamp,
    relation,
    same_key,
    stamps,
)
from twinstar.engine.postgresql.multiwriter.table import BASE, BORN, GROUPS, STAMP, Column, Table
from twinstar.engine.postgresql.multiwriter.triggers import DEFINER, SNAPSHOT, lock_key

_PLACING = "twinstar.placing"
"""A setting: the update comes from the trigger that places an insertion."""


def merged_trigger_functions(table: Table) -> list[str]:
    """The statements that make, or make anew, the functions behind the triggers of a table that is not plain."""
    bodies = {"stamp": _stamp(table), "place": _place(table), "bury": _bury(table)}
    return [
        f"CREATE OR REPLACE FUNCTION {function(table, name)}() RETURNS trigger {DEFINER} AS {body(code)}"
        for name, code in bodies.items()
    ]


def _stamp(table: Table) -> str:
    stamped = [f"NEW.{STAMP} := tw__stamp;"]
    if table.groups:
        stamped.append(f"NEW.{GROUPS} := pg_catalog.array_fill(tw__stamp, ARRAY[{len(table.cells)}]);")
    if table.counters:
        stamped.append(f"NEW.{BORN} := tw__stamp;")
    everything = " ".join(stamped)
    return f"""
DECLARE
  tw__stamp pg_catalog.int8;
  tw__below pg_catalog.int8;
  tw__base pg_catalog.int8;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF {same_key(table, "OLD", "NEW")} THEN
      IF NEW.{STAMP} > OLD.{STAMP} AND pg_catalog.current_setting('{_PLACING}', true) = 'on' THEN
        tw__stamp := {next_stamp(f"NEW.{STAMP}")};
        {everything}
        RETURN NEW;
      END IF;
      {_update(table)}
      RETURN NEW;
    END IF;
    {_tombstone(table)}
  END IF;
  {_look(table)}
  tw__stamp := {next_stamp("greatest(tw__below, tw__base)")};
  {everything}
  {f"NEW.{BASE} := CASE WHEN {SNAPSHOT} THEN tw__stamp - 1 ELSE tw__base END;" if table.counters else ""}
  RETURN NEW;
END
"""


def _look(table: Table) -> str:
    """What an insertion must be above, and what is over."""
    tombstone = f"(SELECT d.{STAMP} FROM {companion(table)} AS d WHERE {same_key(table, 'd', 'NEW')})"
    born = f"(SELECT max(c.{BORN}) FROM {counted(table)} AS c WHERE {same_key(table, 'c', 'NEW')})"
    collected = f"(SELECT r.collected FROM twinstar.tables AS r WHERE r.slug = {literal(table.slug)})"
    base = f"greatest(-1, {tombstone}, {born}, {collected})" if table.counters else "NULL"
    return f"SELECT greatest(f.last_value, {tombstone}), {base} INTO tw__below, tw__base FROM twinstar.floor AS f;"


def _update(table: Table) -> str:
    lines = [f"tw__stamp := {next_stamp(f'OLD.{STAMP}')};", f"NEW.{STAMP} := OLD.{STAMP};"]
    if table.groups:
        lines.append(f"NEW.{GROUPS} := {stamps(table, 'OLD')};")
    if table.counters:
        lines += _contribution(table)
    for place, cell in enumerate(table.cells, 1):
        if cell:
            group = f"NEW.{GROUPS}[{place}] := tw__stamp; " if table.groups else ""
            lines.append(f"IF {_changed(cell)} THEN {group}NEW.{STAMP} := tw__stamp; END IF;")
    return "\n      ".join(lines)


def _changed(cell: Sequence[Column]) -> str:
    """Compares the bytes: that can be done with every type."""
    return f"pg_catalog.record_image_ne(ROW({columns(cell, 'NEW.')}), ROW({columns(cell, 'OLD.')}))"


def _contribution(table: Table) -> list[str]:
    changed = " OR ".join(f"NEW.{ident(name)} <> OLD.{ident(name)}" for name in table.counters)
    added = ", ".join(f"NEW.{ident(name)}::numeric - OLD.{ident(name)}" for name in table.counters)
    return [
        f"NEW.{BORN} := coalesce(OLD.{BORN}, 0);",
        f"NEW.{BASE} := coalesce(OLD.{BASE}, -1);",
        f"IF OLD.{BORN} IS NULL THEN {found(table, 'OLD')} END IF;",
        f"IF {changed} THEN {_add(table, 'NEW', f'NEW.{BORN}', added, 'c.{0} + EXCLUDED.{0}')} END IF;",
    ]


def found(table: Table, row: str) -> str:
    """Makes the contribution of node 0: the counters of a row that was there when the table was taken in."""
    values = ", ".join(f"{row}.{ident(name)}" for name in table.counters)
    return (
        f"INSERT INTO {counted(table)} ({_contributed(table)}) "
        f"VALUES ({', '.join(key_of(table, row))}, 0, 0, 0, {values}) ON CONFLICT DO NOTHING;"
    )


def _contributed(table: Table) -> str:
    counters = ", ".join(map(ident, table.counters))
    return f"{columns(table.key_columns)}, {BORN}, twinstar_node, twinstar_writes, {counters}"


def _add(table: Table, row: str, born: str, amounts: str, sums: str) -> str:
    keys = columns(table.key_columns)
    changes = ", ".join(f"{ident(name)} = {sums.format(ident(name))}" for name in table.counters)
    return (
        f"INSERT INTO {counted(table)} AS c ({_contributed(table)}) "
        f"VALUES ({', '.join(key_of(table, row))}, {born}, twinstar.this_node(), 1, {amounts}) "
        f"ON CONFLICT ({keys}, {BORN}, twinstar_node) DO UPDATE SET twinstar_writes = c.twinstar_writes + 1, {changes};"
    )


def _place(table: Table) -> str:
    on, same = relation(table), same_key(table, "t", "NEW")
    more = f"OR (tw__base > NEW.{BASE} AND NOT {SNAPSHOT})" if table.counters else ""
    bases = f", {BASE} = CASE WHEN {SNAPSHOT} THEN tw__next ELSE tw__base END" if table.counters else ""
    counts = ""
    if table.counters:
        values = ", ".join(f"tw__row.{ident(name)}" for name in table.counters)
        # Another trigger may have added to it already; nobody else's contribution counts yet.
        counts = f"""SELECT t.* INTO tw__row FROM ONLY {on} AS t WHERE {same};
  IF FOUND THEN
    {_add(table, "tw__row", f"tw__row.{BORN}", values, "EXCLUDED.{0}")}
  END IF;"""
    return f"""
DECLARE
  tw__below pg_catalog.int8;
  tw__base pg_catalog.int8;
  tw__next pg_catalog.int8;
  tw__row {on}%ROWTYPE;
BEGIN
  {lock_key(table)}
  {_look(table)}
  IF tw__below >= NEW.{STAMP} {more} THEN
    tw__next := greatest(tw__below, tw__base, NEW.{STAMP}) + 1;
    PERFORM pg_catalog.set_config('{_PLACING}', 'on', true);
    UPDATE ONLY {on} AS t SET {STAMP} = tw__next{bases} WHERE {same};
    PERFORM pg_catalog.set_config('{_PLACING}', 'off', true);
  END IF;
  {counts}
  RETURN NULL;
END
"""


def _bury(table: Table) -> str:
    return f"""
BEGIN
  {_tombstone(table)}
  RETURN OLD;
END
"""


def _tombstone(table: Table) -> str:
    """Buries OLD, with what it held."""
    keys = columns(table.key_columns)
    return f"""INSERT INTO {companion(table)} AS d ({keys}, {STAMP}, twinstar_was, twinstar_image)
    VALUES ({columns(table.key_columns, "OLD.")}, {next_stamp(f"OLD.{STAMP}")}, coalesce(OLD.{STAMP}, 0),
      {function(table, "image")}(OLD))
    ON CONFLICT ({keys}) DO UPDATE SET {STAMP} = greatest(d.{STAMP}, EXCLUDED.{STAMP}),
      twinstar_was = CASE WHEN EXCLUDED.{STAMP} > d.{STAMP} THEN EXCLUDED.twinstar_was ELSE d.twinstar_was END,
      twinstar_image = {function(table, "keep")}(d.twinstar_image, EXCLUDED.twinstar_image);"""
