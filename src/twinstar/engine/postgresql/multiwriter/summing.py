"""The functions that make a row's counters out of what every node has added."""

from __future__ import annotations

from twinstar.engine.postgresql.multiwriter.fragments import counted, function, ident, relation, same_key
from twinstar.engine.postgresql.multiwriter.resolving import DONE
from twinstar.engine.postgresql.multiwriter.table import BASE, BORN, Table


def total(table: Table) -> str:
    """The row with its counters as they are. Its lock is the caller's."""
    sums = ", ".join(f"sum(c.{ident(name)})" for name in table.counters)
    names = [f"tw__sum{place}" for place, _ in enumerate(table.counters)]
    declared = " ".join(f"{name} numeric;" for name in names)
    taken = " ".join(
        f"tw__row.{ident(column)} := coalesce({name}, 0);" for column, name in zip(table.counters, names, strict=True)
    )
    return f"""
DECLARE
  tw__count pg_catalog.int8;
  {declared}
BEGIN
  SELECT count(*), {sums} INTO tw__count, {", ".join(names)} FROM {counted(table)} AS c
    WHERE {same_key(table, "c", "tw__row")} AND c.{BORN} > coalesce(tw__row.{BASE}, -1);
  IF tw__count > 0 OR tw__row.{BORN} IS NOT NULL THEN
    {taken}
  END IF;
  RETURN tw__row;
END
"""


def recount(table: Table) -> str:
    """After a contribution was written: sets the row's counters, if there is a row."""
    on, same = relation(table), same_key(table, "t", "tw__of")
    changes = ", ".join(f"{ident(name)} = tw__row.{ident(name)}" for name in table.counters)
    differs = " OR ".join(f"tw__row.{ident(name)} <> tw__here.{ident(name)}" for name in table.counters)
    return f"""
DECLARE
  tw__here {on}%ROWTYPE;
  tw__row {on}%ROWTYPE;
BEGIN
  SELECT t.* INTO tw__here FROM ONLY {on} AS t WHERE {same} FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN {DONE};
  END IF;
  tw__row := {function(table, "total")}(tw__here);
  IF {differs} THEN
    UPDATE ONLY {on} AS t SET {changes} WHERE {same};
  END IF;
  RETURN {DONE};
END
"""
