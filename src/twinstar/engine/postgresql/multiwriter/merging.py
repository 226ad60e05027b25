"""The functions that decide what one change of a peer does to a table with counters or groups of columns.

As in `rules.active_active.state`: of each group the version with the greater stamp, of the tombstones the greatest, of
each contribution the one with more writes behind it. So what comes in is always merged and never put in place of what
is here, and what loses to a tombstone is merged into what the tombstone keeps: whoever brings the row back finds it.

*Locks.* First the row, then, if there is none, the tombstone, and then it is looked again whether there is a row: who
brings a row back has the tombstone locked until that is committed, so nothing is merged into a tombstone whose row is
just being made of it. A tombstone that was not there yet is looked for once more when the row is in its place: the row
may have waited for somebody who deleted.

*Counters* are summed in a statement of their own, after the row is locked: one that waited for the lock would sum what
was there before. Contributions are written before the images of a batch, so that a row is never seen without them.

What a write knew is a list of versions, those of all groups one after the other: what the first write of a batch
replaced, then what the last one did.
"""

from __future__ import annotations

from twinstar.engine.postgresql.multiwriter.fragments import (
    TEXTS,
    body,
    bucket,
    columns,
    companion,
    counted,
    function,
    ident,
    image,
    key_of,
    literal,
    relation,
    same_key,
    same_writer,
    stamps,
    zeros,
)
from twinstar.engine.postgresql.multiwriter.merged_triggers import found
from twinstar.engine.postgresql.multiwriter.resolving import (
    ATTEMPTS,
    CONFLICT,
    DONE,
    KNOWN,
    LOST,
    check_shape,
    displace,
    log,
    write,
    yield_to,
)
from twinstar.engine.postgresql.multiwriter.summing import recount, total
from twinstar.engine.postgresql.multiwriter.table import BORN, GROUPS, STAMP, Table

_WRITE_KIND = "CASE WHEN coalesce(tw__ancestors[1], -1) < 0 THEN 'insert/insert' ELSE 'update/update' END"


def merging_functions(table: Table) -> list[str]:
    """The statements that make, or make anew, the functions of a table that is not plain."""
    on, dead = relation(table), companion(table)
    int4, int8, text, jsonb = "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.text", "pg_catalog.jsonb"
    known = f"tw__ancestors {int8}[], tw__peer {text}"
    signatures = {
        "image": (f"tw__row {on}", jsonb, TEXTS, _image(table)),
        "read": (f"tw__image {jsonb}", on, TEXTS, _read(table)),
        "merge": (f"tw__one {on}, tw__other {on}", on, "", _merge(table)),
        "keep": (f"tw__one {jsonb}, tw__other {jsonb}", jsonb, "", _keep(table)),
        "apply": (f"tw__shape {text}, tw__came {on}, {known}, tw__remove pg_catalog.bool", int4, "", _apply(table)),
        "entomb": (f"tw__dead {dead}, {known}", int4, "", _entomb(table)),
        "settle": ("", int8, "", _settle(table)),
    }
    if table.counters:
        signatures["total"] = (f"tw__row {on}", on, "", total(table))
        signatures["recount"] = (f"tw__of {counted(table)}", int4, "", recount(table))
    return [
        f"CREATE OR REPLACE FUNCTION {function(table, name)}({parameters}) RETURNS {returns} "
        f"LANGUAGE plpgsql SET search_path = ''{settings} AS {body(code)}"
        for name, (parameters, returns, settings, code) in signatures.items()
    ]


def _image(table: Table) -> str:
    return f"BEGIN RETURN {image('tw__row', table.sent_columns)}; END"


def _read(table: Table) -> str:
    values = " ".join(
        f"tw__row.{ident(column.name)} := (tw__image ->> {literal(column.name)})::{column.type_sql};"
        for column in table.sent_columns
    )
    return f"DECLARE tw__row {relation(table)}%ROWTYPE; BEGIN {values} RETURN tw__row; END"


def _merge(table: Table) -> str:
    lines = []
    for place, cell in enumerate(table.cells, 1):
        taken = " ".join(f"tw__row.{ident(each.name)} := {{0}}.{ident(each.name)};" for each in cell) or "NULL;"
        lines.append(
            f"IF tw__theirs[{place}] > tw__mine[{place}] THEN {taken.format('tw__other')} "
            f"ELSE {taken.format('tw__one')} END IF;"
        )
    if table.groups:
        greatest = ", ".join(f"greatest(tw__mine[{at}], tw__theirs[{at}])" for at, _ in enumerate(table.cells, 1))
        lines.append(f"tw__row.{GROUPS} := ARRAY[{greatest}];")
    return f"""
DECLARE
  tw__row {relation(table)}%ROWTYPE;
  tw__mine CONSTANT pg_catalog.int8[] := {stamps(table, "tw__one")};
  tw__theirs CONSTANT pg_catalog.int8[] := {stamps(table, "tw__other")};
BEGIN
  -- Key, stamp and what the counters are made on are those of the newest write.
  IF coalesce(tw__other.{STAMP}, 0) > coalesce(tw__one.{STAMP}, 0) THEN
    tw__row := tw__other;
  ELSE
    tw__row := tw__one;
  END IF;
  {" ".join(lines)}
  RETURN tw__row;
END
"""


def _keep(table: Table) -> str:
    read, merge, write_image = (function(table, name) for name in ("read", "merge", "image"))
    return f"""
BEGIN
  IF tw__one IS NULL OR tw__other IS NULL THEN
    RETURN coalesce(tw__one, tw__other);
  END IF;
  RETURN {write_image}({merge}({read}(tw__one), {read}(tw__other)));
END
"""


def _apply(table: Table) -> str:
    on = relation(table)
    sums = f"tw__in := {function(table, 'total')}(tw__in);" if table.counters else ""
    return f"""
DECLARE
  tw__in {on}%ROWTYPE;
  tw__here {on}%ROWTYPE;
  tw__held {on}%ROWTYPE;
  tw__dead {companion(table)}%ROWTYPE;
  tw__theirs CONSTANT pg_catalog.int8[] := {stamps(table, "tw__came")};
  tw__mine pg_catalog.int8[];
  tw__stamp pg_catalog.int8;
  tw__exists pg_catalog.bool;
  tw__answer pg_catalog.int4 := {DONE};
BEGIN
  {check_shape(table)}
  FOR tw__attempt IN 1..{ATTEMPTS} LOOP
    {_meet(table)}
    tw__stamp := coalesce(tw__in.{STAMP}, 0);
    {"".join(yield_to(table, unique) for unique in table.uniques)}
    {"".join(displace(table, unique) for unique in table.uniques)}
    {sums}
    {write(table)}
    IF tw__exists THEN
      {_losses(table)}
    END IF;
    RETURN tw__answer;
  END LOOP;
  RAISE EXCEPTION 'other sessions kept changing what a row of a peer needs' USING ERRCODE = 'serialization_failure';
END
"""


def _meet(table: Table) -> str:
    """Makes of what came in and what is here the row that there should be, and is done when that is no news."""
    on, here = relation(table), same_key(table, "t", "tw__came")
    read, merge = function(table, "read"), function(table, "merge")
    first = f"IF tw__here.{BORN} IS NULL THEN {found(table, 'tw__here')} END IF;" if table.counters else ""
    return f"""SELECT t.* INTO tw__here FROM ONLY {on} AS t WHERE {here} FOR UPDATE;
    tw__exists := FOUND;
    IF tw__exists THEN
      {first}
      tw__mine := {stamps(table, "tw__here")};
      tw__in := {merge}(tw__here, tw__came);
      IF {stamps(table, "tw__in")} = tw__mine THEN
        tw__answer := {KNOWN};
        {_losses(table)}
        RETURN tw__answer;
      END IF;
    ELSE
      PERFORM pg_catalog.pg_advisory_xact_lock_shared({table.lock_class}, {bucket(table, key_of(table, "tw__came"))});
      SELECT d.* INTO tw__dead FROM {companion(table)} AS d WHERE {same_key(table, "d", "tw__came")} FOR UPDATE;
      PERFORM FROM ONLY {on} AS t WHERE {here};
      CONTINUE WHEN FOUND;
      IF tw__dead.{STAMP} >= tw__came.{STAMP} THEN
        {_refuse(table)}
      END IF;
      tw__in := tw__came;
      IF tw__dead.twinstar_image IS NOT NULL THEN
        tw__in := {merge}(tw__came, {read}(tw__dead.twinstar_image));
      END IF;
    END IF;"""


def _refuse(table: Table) -> str:
    """What came in is not newer than the tombstone, which keeps what is newer than what it has kept."""
    came = f"{function(table, 'image')}(tw__came)"
    logs = " ".join(
        f"IF tw__theirs[{at}] > 0 AND tw__theirs[{at}] <> tw__mine[{at}] "
        f"AND tw__ancestors[{at}] IS DISTINCT FROM tw__theirs[{at}] "
        f"AND NOT {same_writer(f'tw__dead.{STAMP}', f'tw__theirs[{at}]')} THEN "
        + log(
            table,
            "'delete/update'",
            "local",
            won=(f"tw__dead.{STAMP}", "NULL"),
            lost=(f"tw__theirs[{at}]", came),
            key="tw__came",
            of=table.cells[at - 1] if table.groups else None,
        )
        + f" tw__answer := {LOST}; END IF;"
        for at, _ in enumerate(table.cells, 1)
    )
    read = function(table, "read")
    return f"""tw__here := {read}(tw__dead.twinstar_image);
        tw__mine := {stamps(table, "tw__here")};
        UPDATE {companion(table)} AS d SET twinstar_image = {function(table, "keep")}(d.twinstar_image, {came})
          WHERE {same_key(table, "d", "tw__came")};
        tw__answer := {KNOWN};
        {logs}
        RETURN tw__answer;"""


def _losses(table: Table) -> str:
    """Logs the groups of the row that is here, and of the one that came in, which nobody knowingly replaced."""
    here, came = (f"{function(table, 'image')}({row})" for row in ("tw__here", "tw__came"))
    lines = []
    for at, cell in enumerate(table.cells, 1):
        mine, theirs = f"tw__mine[{at}]", f"tw__theirs[{at}]"
        of = cell if table.groups else None
        apart = f"NOT {same_writer(mine, theirs)}"
        gone = log(table, _WRITE_KIND, "incoming", won=(theirs, came), lost=(mine, here), key="tw__came", of=of)
        refused = log(table, _WRITE_KIND, "local", won=(mine, here), lost=(theirs, came), key="tw__came", of=of)
        named = f"twinstar.named(tw__ancestors, {len(table.cells)}, {at}, {mine})"
        lines.append(
            f"IF {theirs} > {mine} AND {mine} > 0 AND {apart} AND NOT {named} THEN {gone} tw__answer := {CONFLICT}; "
            f"ELSIF {theirs} < {mine} AND {theirs} > 0 AND {apart} "
            f"AND tw__ancestors[{at}] IS DISTINCT FROM {theirs} THEN {refused} tw__answer := {LOST}; END IF;"
        )
    return " ".join(lines)


def _entomb(table: Table) -> str:
    """Writes a tombstone, with all that is known of what it keeps, and lets it do its work on the row."""
    on, same, keys = relation(table), same_key(table, "t", "tw__dead"), columns(table.key_columns)
    keep, write_image, read = (function(table, name) for name in ("keep", "image", "read"))
    find = f"SELECT t.* INTO tw__here FROM ONLY {on} AS t WHERE {same} FOR UPDATE;"
    lock = f"pg_catalog.pg_try_advisory_xact_lock({table.lock_class}, {bucket(table, key_of(table, 'tw__dead'))})"
    return f"""
DECLARE
  tw__here {on}%ROWTYPE;
  tw__came {on}%ROWTYPE;
  tw__kept pg_catalog.jsonb := tw__dead.twinstar_image;
  tw__exists pg_catalog.bool;
  tw__open pg_catalog.bool;
  tw__mine pg_catalog.int8[];
  tw__answer pg_catalog.int4 := {DONE};
BEGIN
  IF tw__dead.{STAMP} < 0 THEN
    RETURN {KNOWN};
  END IF;
  {find}
  tw__exists := FOUND;
  IF NOT tw__exists THEN
    IF {lock} THEN
      -- What was inserted before we had the lock is committed now.
      {find}
      tw__exists := FOUND;
    ELSE
      tw__open := true;
    END IF;
  END IF;
  IF tw__exists AND coalesce(tw__here.{STAMP}, 0) <= tw__dead.{STAMP} THEN
    DELETE FROM ONLY {on} AS t WHERE {same};
    tw__exists := false;
    tw__mine := {stamps(table, "tw__here")};
    tw__kept := {keep}(tw__kept, {write_image}(tw__here));
    tw__came := {read}(tw__dead.twinstar_image);
    tw__ancestors := tw__ancestors || {stamps(table, "tw__came")};
    {_buried(table)}
  END IF;
  INSERT INTO {companion(table)} AS d ({keys}, {STAMP}, twinstar_was, twinstar_image, twinstar_unsettled)
    VALUES ({", ".join(key_of(table, "tw__dead"))}, tw__dead.{STAMP}, tw__dead.twinstar_was, tw__kept, tw__open)
    ON CONFLICT ({keys}) DO UPDATE SET {STAMP} = greatest(d.{STAMP}, EXCLUDED.{STAMP}),
      twinstar_was = CASE WHEN EXCLUDED.{STAMP} > d.{STAMP} THEN EXCLUDED.twinstar_was ELSE d.twinstar_was END,
      twinstar_image = {keep}(d.twinstar_image, EXCLUDED.twinstar_image),
      twinstar_unsettled = d.twinstar_unsettled OR EXCLUDED.twinstar_unsettled;
  IF tw__exists THEN
    {_outlived(table)}
  END IF;
  RETURN tw__answer;
END
"""


def _buried(table: Table) -> str:
    here = f"{function(table, 'image')}(tw__here)"
    return " ".join(
        f"IF tw__mine[{at}] > 0 AND NOT twinstar.named(tw__ancestors, {len(table.cells)}, {at}, tw__mine[{at}]) "
        f"AND NOT {same_writer(f'tw__mine[{at}]', f'tw__dead.{STAMP}')} THEN "
        + log(
            table,
            "'update/delete'",
            "incoming",
            won=(f"tw__dead.{STAMP}", "NULL"),
            lost=(f"tw__mine[{at}]", here),
            key="tw__dead",
            of=cell if table.groups else None,
        )
        + f" tw__answer := {CONFLICT}; END IF;"
        for at, cell in enumerate(table.cells, 1)
    )


def _outlived(table: Table) -> str:
    """The row is newer than the tombstone, which may have kept groups that are newer than the row's."""
    here = f"{function(table, 'image')}(tw__here)"
    lost = log(
        table,
        "'update/delete'",
        "local",
        won=(f"tw__here.{STAMP}", here),
        lost=(f"tw__dead.{STAMP}", "NULL"),
        key="tw__dead",
    )
    return f"""IF tw__dead.twinstar_image IS NOT NULL THEN
      tw__came := {function(table, "read")}(tw__dead.twinstar_image);
      PERFORM {function(table, "apply")}('{table.shape}', tw__came, {stamps(table, "tw__came")}, tw__peer, true);
    END IF;
    IF NOT {same_writer(f"tw__here.{STAMP}", f"tw__dead.{STAMP}")} THEN
      {lost}
      RETURN {LOST};
    END IF;
    RETURN {KNOWN};"""


def _settle(table: Table) -> str:
    """Looks again at tombstones beside which an insertion was open; how many still have to wait."""
    lock = f"pg_catalog.pg_try_advisory_xact_lock({table.lock_class}, {bucket(table, key_of(table, 'tw__dead'))})"
    return f"""
DECLARE
  tw__left pg_catalog.int8 := 0;
  tw__dead {companion(table)}%ROWTYPE;
BEGIN
  FOR tw__dead IN SELECT d.* FROM {companion(table)} AS d WHERE d.twinstar_unsettled LOOP
    IF {lock} THEN
      PERFORM {function(table, "entomb")}(tw__dead, {zeros(table)}, '');
      -- A greater one that came meanwhile may be unsettled, too.
      UPDATE {companion(table)} AS d SET twinstar_unsettled = NULL
        WHERE {same_key(table, "d", "tw__dead")} AND d.{STAMP} = tw__dead.{STAMP};
      CONTINUE WHEN FOUND;
    END IF;
    tw__left := tw__left + 1;
  END LOOP;
  RETURN tw__left;
END
"""
