"""The functions that decide what one change of a peer does to a table whose rows win or lose as a whole.

The state of a key is the greater of its greatest version and its greatest tombstone; a row is there when the version is
the greater one. Taking maxima does not depend on order, grouping or repetition, so nodes that have learned of the same
changes are in the same state. What is done here beside taking maxima:

* *Conflicts are told from succession.* A version that loses is an ancestor of the winner when the winner says that
  it replaced it, or when one node wrote both, since the versions that a node writes to a key only grow. Every other
  loser is kept in `twinstar.conflicts`. When a version comes before the one it replaced, over another node, that list
  may name an ancestor; it never misses a loser.
* *Another unique key.* Of two rows that hold the same value, the one with the lower version is removed by a tombstone
  at ``version | 1023``: it ends what lost and nothing that was written after it (`rules.active_active.uniques`). What
  the applier's session writes is not sent on, so `twinstar.repairs` remembers to send the tombstone. Which of the two
  nodes sees the collision does not matter: the others get the tombstone.
* *An insertion that is not committed yet* cannot be seen by who applies a tombstone. When the key has no row, and some
  transaction that inserts into its bucket is open, the tombstone is marked as unsettled, and `settle_…` looks again.
  Nobody waits for such a transaction: a lock that is waited for would hold up all later insertions of its bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinstar.engine.postgresql.multiwriter.fragments import (
    body,
    bucket,
    columns,
    companion,
    function,
    ident,
    image,
    key_of,
    literal,
    relation,
    same_key,
    same_writer,
    stamps,
)
from twinstar.engine.postgresql.multiwriter.table import STAMP, Column, Table, Unique

ATTEMPTS = 100
"""So often is a row looked at again because of other sessions' insertions; then the batch is tried again."""
REMOVAL = 1023
"""The number of no node: in the stamps of tombstones that end one version because of a unique key."""
KNOWN, DONE, CONFLICT, LOST, COLLIDES = range(5)
"""What `apply_…` and `entomb_…` answer: nothing new; done; done, and something lost; the change itself lost; and, when
asked not to remove anybody, that another row holds a unique value of this one."""


def resolving_functions(table: Table) -> list[str]:
    """The statements that make, or make anew, the functions of a plain table."""
    int4, int8, text = "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.text"
    signatures = {
        "entomb": (f"tw__tombstone {companion(table)}, tw__ancestors {int8}[], tw__peer {text}", int4, _entomb(table)),
        "apply": (
            f"tw__shape {text}, tw__values {text}[], tw__was {int8}, tw__last_was {int8}, tw__peer {text}, "
            "tw__remove pg_catalog.bool",
            int4,
            _apply(table),
        ),
        "settle": ("", int8, _settle(table)),
    }
    return [
        f"CREATE OR REPLACE FUNCTION {function(table, name)}({parameters}) RETURNS {returns} "
        f"LANGUAGE plpgsql SET search_path = '' AS {body(code)}"
        for name, (parameters, returns, code) in signatures.items()
    ]


def log(
    table: Table,
    kind: str,
    winner: str,
    *,
    won: tuple[str, str],
    lost: tuple[str, str],
    key: str,
    of: Sequence[Column] | None = None,
) -> str:
    """Writes a conflict; `won` and `lost` are each a stamp and an image, `of` the columns that lost, None for all."""
    lost_columns = "NULL" if of is None else f"ARRAY[{', '.join(literal(column.name) for column in of)}]"
    return (
        f"PERFORM twinstar.log_conflict({literal(table.schema)}, {literal(table.name)}, {kind}, tw__peer, "
        f"{image(key, table.key_columns)}, '{winner}', {won[0]}, {won[1]}, {lost[0]}, {lost[1]}, "
        f"{lost_columns}::pg_catalog.text[]);"
    )


def _entomb(table: Table) -> str:
    """Lets a tombstone that was just written do its work on the row, if there is one."""
    here = image("tw__here", table.sent_columns)
    tombstone = ("tw__tombstone.twinstar_stamp", "NULL")
    same = same_key(table, "t", "tw__tombstone")
    find = f"SELECT t.* INTO tw__here FROM ONLY {relation(table)} AS t WHERE {same} FOR UPDATE;"
    hashed = bucket(table, key_of(table, "tw__tombstone"))
    return f"""
DECLARE
  tw__here {relation(table)}%ROWTYPE;
  tw__old pg_catalog.int8;
BEGIN
  {find}
  IF NOT FOUND THEN
    IF NOT pg_catalog.pg_try_advisory_xact_lock({table.lock_class}, {hashed}) THEN
      UPDATE {companion(table)} AS d SET twinstar_unsettled = true WHERE {same_key(table, "d", "tw__tombstone")};
      RETURN {DONE};
    END IF;
    -- What was inserted before we had the lock is committed now.
    {find}
    IF NOT FOUND THEN
      RETURN {DONE};
    END IF;
  END IF;
  tw__old := coalesce(tw__here.twinstar_stamp, 0);
  IF tw__old > tw__tombstone.twinstar_stamp THEN
    IF {same_writer("tw__old", "tw__tombstone.twinstar_stamp")} THEN
      RETURN {KNOWN};
    END IF;
    {log(table, "'update/delete'", "local", won=("tw__old", here), lost=tombstone, key="tw__tombstone")}
    RETURN {LOST};
  END IF;
  DELETE FROM ONLY {relation(table)} AS t WHERE {same_key(table, "t", "tw__tombstone")};
  IF tw__old = 0 OR tw__old = ANY (tw__ancestors) OR {same_writer("tw__old", "tw__tombstone.twinstar_stamp")} THEN
    RETURN {DONE};
  END IF;
  {log(table, "'update/delete'", "incoming", won=tombstone, lost=("tw__old", here), key="tw__tombstone")}
  RETURN {CONFLICT};
END
"""


def _apply(table: Table) -> str:
    """Gives the row the version that came in, unless what is here is newer."""
    sent = table.sent_columns
    assign = "\n  ".join(
        f"tw__in.{ident(column.name)} := (tw__values[{place}])::{column.type_sql};"
        for place, column in enumerate(sent, 1)
    )
    here, came = image("tw__here", sent), image("tw__in", sent)
    write_kind = "CASE WHEN tw__was = 0 THEN 'insert/insert' ELSE 'update/update' END"
    came_over, deletion = ("tw__stamp", came), ("tw__tombstone.twinstar_stamp", "NULL")
    return f"""
DECLARE
  tw__in {relation(table)}%ROWTYPE;
  tw__here {relation(table)}%ROWTYPE;
  tw__held {relation(table)}%ROWTYPE;
  tw__tombstone {companion(table)}%ROWTYPE;
  tw__stamp pg_catalog.int8;
  tw__ancestors pg_catalog.int8[];
  tw__old pg_catalog.int8;
  tw__exists pg_catalog.bool;
  tw__answer pg_catalog.int4 := {DONE};
BEGIN
  {check_shape(table)}
  {assign}
  tw__stamp := tw__in.twinstar_stamp;
  tw__ancestors := ARRAY[tw__stamp, tw__was, tw__last_was];
  FOR tw__attempt IN 1..{ATTEMPTS} LOOP
    {_meet(table, write_kind, here, came)}
    {"".join(yield_to(table, unique) for unique in table.uniques)}
    {"".join(displace(table, unique) for unique in table.uniques)}
    {write(table)}
    IF tw__exists AND NOT (tw__old IN (0, tw__was, tw__last_was) OR {same_writer("tw__old", "tw__stamp")}) THEN
      {log(table, write_kind, "incoming", won=came_over, lost=("tw__old", here), key="tw__in")}
      RETURN {CONFLICT};
    ELSIF tw__was > 0 AND tw__tombstone.twinstar_stamp > tw__was THEN
      -- What was updated there had been deleted here.
      {log(table, "'delete/update'", "incoming", won=came_over, lost=deletion, key="tw__in")}
      RETURN {CONFLICT};
    END IF;
    RETURN tw__answer;
  END LOOP;
  RAISE EXCEPTION 'other sessions kept changing what a row of a peer needs' USING ERRCODE = 'serialization_failure';
END
"""


def check_shape(table: Table) -> str:
    """The function was made for one shape of the table, and nobody's columns may be mixed up by that."""
    return f"""IF tw__shape <> '{table.shape}' THEN
    RAISE EXCEPTION 'the table is another one than the one for which its functions were made'
      USING ERRCODE = 'undefined_column';
  END IF;"""


def _meet(table: Table, write_kind: str, here: str, came: str) -> str:
    """Finds the row that is here, or the tombstone, and is done when what came in is not newer."""
    came_over, deletion = ("tw__stamp", came), ("tw__tombstone.twinstar_stamp", "NULL")
    return f"""
    SELECT t.* INTO tw__here FROM ONLY {relation(table)} AS t WHERE {same_key(table, "t", "tw__in")} FOR NO KEY UPDATE;
    tw__exists := FOUND;
    tw__old := coalesce(tw__here.twinstar_stamp, 0);
    tw__tombstone := NULL;
    IF tw__exists AND tw__old >= tw__stamp THEN
      IF {same_writer("tw__old", "tw__stamp")} THEN
        RETURN {KNOWN};
      END IF;
      {log(table, write_kind, "local", won=("tw__old", here), lost=came_over, key="tw__in")}
      RETURN {LOST};
    ELSIF NOT tw__exists THEN
      PERFORM pg_catalog.pg_advisory_xact_lock_shared({table.lock_class}, {bucket(table, key_of(table, "tw__in"))});
      SELECT d.* INTO tw__tombstone FROM {companion(table)} AS d WHERE {same_key(table, "d", "tw__in")};
      IF tw__tombstone.twinstar_stamp >= tw__stamp THEN
        IF tw__tombstone.twinstar_was = tw__stamp OR {same_writer("tw__tombstone.twinstar_stamp", "tw__stamp")} THEN
          RETURN {KNOWN};
        END IF;
        {log(table, "'delete/update'", "local", won=deletion, lost=came_over, key="tw__in")}
        RETURN {LOST};
      END IF;
    END IF;"""


def write(table: Table) -> str:
    sent = table.sent_columns
    changes = ", ".join(
        f"{ident(column.name)} = tw__in.{ident(column.name)}" for column in sent if not column.always_identity
    )
    # What a tombstone keeps may be newer than some of the row, also when the tombstone is not.
    unseen = "" if table.plain else f"OR tw__dead.{STAMP} IS NULL"
    insert = f"""INSERT INTO {relation(table)} ({columns(sent)}) OVERRIDING SYSTEM VALUE
        VALUES ({columns(sent, "tw__in.")}) ON CONFLICT DO NOTHING;
      CONTINUE WHEN NOT FOUND;
      -- It may have waited for somebody who deleted.
      IF EXISTS (SELECT FROM {companion(table)} AS d
          WHERE {same_key(table, "d", "tw__in")} AND (d.twinstar_stamp >= tw__stamp {unseen})) THEN
        DELETE FROM ONLY {relation(table)} AS t WHERE {same_key(table, "t", "tw__in")};
        CONTINUE;
      END IF;"""
    update = f"UPDATE ONLY {relation(table)} AS t SET {changes} WHERE {same_key(table, 't', 'tw__in')};"
    if table.uniques:
        # Somebody's insertion of the same value may have been committed just now.
        update = f"BEGIN {update} EXCEPTION WHEN unique_violation THEN CONTINUE; END;"
    return f"""IF tw__exists THEN
      {update}
    ELSE
      {insert}
    END IF;"""


def _holder(table: Table, unique: Unique) -> str:
    """Finds another row that holds the same value of a unique index as the row that came in."""
    names = [f"tw__e{place}" for place, _ in enumerate(unique.expressions)]
    values = ", ".join(f"{sql} AS {name}" for sql, name in zip(unique.expressions, names, strict=True))
    where = f"WHERE {unique.predicate}" if unique.predicate else ""
    equal = " AND ".join(
        f"a.{name} {equals} b.{name}"
        if unique.nulls_distinct
        else f"(a.{name} {equals} b.{name} OR (a.{name} IS NULL AND b.{name} IS NULL))"
        for name, equals in zip(names, unique.equals, strict=True)
    )
    return f"""
    SELECT t.* INTO tw__held FROM ONLY {relation(table)} AS t, LATERAL (SELECT {values} {where}) AS a,
      (SELECT {values} FROM (SELECT (tw__in).*) AS i {where}) AS b
      WHERE {equal} AND NOT ({same_key(table, "t", "tw__in")}) LIMIT 1 FOR UPDATE OF t;"""


def yield_to(table: Table, unique: Unique) -> str:
    """Removes the row that came in when another one holds its value by right. It must lose to none before it removes
    any, so all indexes are looked at first."""
    held, came = (image(row, table.sent_columns) for row in ("tw__held", "tw__in"))
    held_stamp = "coalesce(tw__held.twinstar_stamp, 0)"
    return f"""{_holder(table, unique)}
    IF FOUND AND NOT tw__remove THEN
      RETURN {COLLIDES};
    ELSIF FOUND AND {_by_right(table)} THEN
      {log(table, "'unique'", "local", won=(held_stamp, held), lost=("tw__stamp", came), key="tw__in")}
      {_remove(table, "tw__in", "tw__ancestors")}
      RETURN {LOST};
    END IF;"""


def displace(table: Table, unique: Unique) -> str:
    """Removes the row that holds a value of the one that came in, and begins again.

    It need not be the one that was seen when it was looked whom to yield to: that look may have waited for a session
    that removed that one for another row, which only the next look finds. Then it is looked again.
    """
    held, came = (image(row, table.sent_columns) for row in ("tw__held", "tw__in"))
    lost = ("tw__held.twinstar_stamp", held)
    return f"""{_holder(table, unique)}
    IF FOUND THEN
      CONTINUE WHEN NOT tw__remove OR {_by_right(table)};
      tw__held.twinstar_stamp := coalesce(tw__held.twinstar_stamp, 0);
      {log(table, "'unique'", "incoming", won=("tw__stamp", came), lost=lost, key="tw__held")}
      {_remove(table, "tw__held", stamps(table, "tw__held"))}
      tw__answer := {CONFLICT};
      CONTINUE;
    END IF;"""


def _by_right(table: Table) -> str:
    """Whether the row that holds a value stays, and the one that came in goes."""
    text = 'pg_catalog.text COLLATE pg_catalog."C"'
    held, came = (f"ROW({', '.join(key_of(table, row))})::{text}" for row in ("tw__held", "tw__in"))
    return f"(coalesce(tw__held.twinstar_stamp, 0), {held}) > (tw__stamp, {came})"


def _remove(table: Table, row: str, ancestors: str) -> str:
    """Ends one version of a key, here and by a repair everywhere."""
    keys, removal = columns(table.key_columns, f"{row}."), f"{row}.twinstar_stamp | {REMOVAL}"
    repair = f"""INSERT INTO twinstar.repairs (slug, key, stamp)
          VALUES ({literal(table.slug)}, {image(row, table.key_columns)}, {removal});"""
    if not table.plain:
        held = f"{row}.twinstar_stamp, {function(table, 'image')}({row}), NULL"
        tombstone = f"ROW({keys}, {removal}, {held})::{companion(table)}"
        return f"""PERFORM {function(table, "entomb")}({tombstone}, {ancestors}, tw__peer);
        {repair}"""
    return f"""INSERT INTO {companion(table)} AS d ({columns(table.key_columns)}, twinstar_stamp, twinstar_was)
          VALUES ({keys}, {removal}, {row}.twinstar_stamp)
          ON CONFLICT ({columns(table.key_columns)}) DO UPDATE SET
            twinstar_stamp = EXCLUDED.twinstar_stamp, twinstar_was = EXCLUDED.twinstar_was
          WHERE EXCLUDED.twinstar_stamp > d.twinstar_stamp
          RETURNING d.* INTO tw__tombstone;
        PERFORM {function(table, "entomb")}(tw__tombstone, {ancestors}, tw__peer);
        {repair}"""


def _settle(table: Table) -> str:
    """Looks again at tombstones beside which an insertion was open; how many still have to wait."""
    here = image("tw__here", table.sent_columns)
    return f"""
DECLARE
  tw__peer CONSTANT pg_catalog.text := '';
  tw__left pg_catalog.int8 := 0;
  tw__here {relation(table)}%ROWTYPE;
  tw__d {companion(table)}%ROWTYPE;
BEGIN
  FOR tw__d IN SELECT d.* FROM {companion(table)} AS d WHERE d.twinstar_unsettled LOOP
    IF NOT pg_catalog.pg_try_advisory_xact_lock({table.lock_class}, {bucket(table, key_of(table, "tw__d"))}) THEN
      tw__left := tw__left + 1;
      CONTINUE;
    END IF;
    SELECT t.* INTO tw__here FROM ONLY {relation(table)} AS t WHERE {same_key(table, "t", "tw__d")} FOR UPDATE;
    IF FOUND AND coalesce(tw__here.twinstar_stamp, 0) <= tw__d.twinstar_stamp THEN
      DELETE FROM ONLY {relation(table)} AS t WHERE {same_key(table, "t", "tw__d")};
      {
        log(
            table,
            "'update/delete'",
            "incoming",
            won=("tw__d.twinstar_stamp", "NULL"),
            lost=("coalesce(tw__here.twinstar_stamp, 0)", here),
            key="tw__d",
        )
    }
    END IF;
    -- A greater one that came meanwhile may be unsettled, too.
    UPDATE {companion(table)} AS d SET twinstar_unsettled = NULL
      WHERE {same_key(table, "d", "tw__d")} AND d.{STAMP} = tw__d.{STAMP};
    IF NOT FOUND THEN
      tw__left := tw__left + 1;
    END IF;
  END LOOP;
  RETURN tw__left;
END
"""
