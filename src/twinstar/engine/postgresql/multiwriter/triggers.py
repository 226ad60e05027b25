"""What a user's write does beside writing: it stamps the row, buries what it deletes, and refuses TRUNCATE.

The triggers are silent in the applier's sessions (`session_replication_role = replica`). Their names begin with ``~``,
so that they see the row as all other triggers have left it. They run as the owner of the schema `twinstar`, so that a
user needs no right on tombstones, and must not be given any.

*An insertion and a tombstone.* Only when the row is in its place is it known which tombstone it must be above: the
insertion may have waited in the key's index for a transaction that deleted. So an ``AFTER`` trigger takes the key's
advisory lock shared, then reads the tombstone, and in the rare case stamps the row once more. Whoever applies a
tombstone to a key without a row either has the lock exclusively until the tombstone is committed, or marks it as
unsettled and looks again later (`resolving`). So no row stays that is older than its tombstone.

Tombstones that were collected left a *floor* (a sequence, so that everyone sees its last value), above which every
insertion is stamped: others may still have them.

Under REPEATABLE READ and above a transaction may not see a tombstone that is committed already. There an insertion
of a placeholder fails on one that it does not see (40001), as any other write of a row that was changed meanwhile does.
"""

from __future__ import annotations

from twinstar.engine.postgresql.multiwriter.fragments import (
    body,
    bucket,
    columns,
    companion,
    function,
    ident,
    key_of,
    next_stamp,
    relation,
    same_key,
)
from twinstar.engine.postgresql.multiwriter.table import STAMP, Table

STAMP_TRIGGER = "~twinstar_stamp"
PLACE_TRIGGER = "~twinstar_place"
MOVE_TRIGGER = "~twinstar_move"
BURY_TRIGGER = "~twinstar_bury"
TRUNCATE_TRIGGER = "~twinstar_truncate"
TRIGGERS = (STAMP_TRIGGER, PLACE_TRIGGER, MOVE_TRIGGER, BURY_TRIGGER, TRUNCATE_TRIGGER)
SNAPSHOT = "pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable')"
PLACEHOLDER = -1
"""The stamp of a tombstone that is none."""
DEFINER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''"


def trigger_functions(table: Table) -> list[str]:
    """The statements that make, or make anew, the functions behind the triggers of a plain table."""
    bodies = {"stamp": _stamp(table), "place": _place(table), "bury": _bury(table)}
    return [
        f"CREATE OR REPLACE FUNCTION {function(table, name)}() RETURNS trigger {DEFINER} AS {body(code)}"
        for name, code in bodies.items()
    ]


def triggers(table: Table) -> list[str]:
    """The statements that put the triggers on the table, whether or not they are there."""
    on = relation(table)
    moved = f"WHEN (NOT ({same_key(table, 'OLD', 'NEW')})) "
    when = {
        STAMP_TRIGGER: ("BEFORE INSERT OR UPDATE", "", "stamp"),
        PLACE_TRIGGER: ("AFTER INSERT", "", "place"),
        MOVE_TRIGGER: ("AFTER UPDATE", moved, "place"),
        BURY_TRIGGER: ("BEFORE DELETE", "", "bury"),
    }
    return [
        *(
            f"CREATE OR REPLACE TRIGGER {ident(trigger)} {event} ON {on} "
            f"FOR EACH ROW {condition}EXECUTE FUNCTION {function(table, name)}()"
            for trigger, (event, condition, name) in when.items()
        ),
        f"CREATE OR REPLACE TRIGGER {ident(TRUNCATE_TRIGGER)} BEFORE TRUNCATE ON {on} "
        "FOR EACH STATEMENT EXECUTE FUNCTION twinstar.refuse_truncate()",
    ]


def _stamp(table: Table) -> str:
    return f"""
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF {same_key(table, "OLD", "NEW")} THEN
      -- NEW's is greater when it is stamped once more.
      NEW.{STAMP} := {next_stamp(f"greatest(OLD.{STAMP}, NEW.{STAMP})")};
      RETURN NEW;
    END IF;
    -- Another key is another row: the old one is deleted, a new one inserted.
    {_tombstone(table)}
  END IF;
  NEW.{STAMP} := {next_stamp("NULL")};
  RETURN NEW;
END
"""


def _place(table: Table) -> str:
    return f"""
DECLARE
  tw__below pg_catalog.int8;
BEGIN
  {lock_key(table)}
  SELECT greatest(f.last_value,
      (SELECT d.{STAMP} FROM {companion(table)} AS d WHERE {same_key(table, "d", "NEW")}))
    INTO tw__below FROM twinstar.floor AS f;
  IF tw__below >= NEW.{STAMP} THEN
    UPDATE ONLY {relation(table)} AS t SET {STAMP} = tw__below WHERE {same_key(table, "t", "NEW")};
  END IF;
  RETURN NULL;
END
"""


def lock_key(table: Table) -> str:
    """From here on no tombstone of the key appears unseen; one that an old snapshot does not show is an error."""
    deleted, keys = companion(table), columns(table.key_columns)
    hashed = bucket(table, key_of(table, "NEW"))
    return f"""PERFORM pg_catalog.pg_advisory_xact_lock_shared({table.lock_class}, {hashed});
  IF {SNAPSHOT} THEN
    INSERT INTO {deleted} ({keys}, {STAMP}, twinstar_was)
      VALUES ({columns(table.key_columns, "NEW.")}, {PLACEHOLDER}, 0) ON CONFLICT DO NOTHING;
    DELETE FROM {deleted} AS d WHERE {same_key(table, "d", "NEW")} AND d.{STAMP} = {PLACEHOLDER};
  END IF;"""


def _bury(table: Table) -> str:
    return f"""
BEGIN
  {_tombstone(table)}
  RETURN OLD;
END
"""


def _tombstone(table: Table) -> str:
    """Buries OLD. Where the tombstone that is there is newer than the row, it is unsettled and stays."""
    return f"""INSERT INTO {companion(table)} AS d ({columns(table.key_columns)}, twinstar_stamp, twinstar_was)
    VALUES ({columns(table.key_columns, "OLD.")}, {next_stamp("OLD.twinstar_stamp")}, coalesce(OLD.twinstar_stamp, 0))
    ON CONFLICT ({columns(table.key_columns)}) DO UPDATE SET
      twinstar_stamp = EXCLUDED.twinstar_stamp, twinstar_was = EXCLUDED.twinstar_was
    WHERE EXCLUDED.twinstar_stamp > d.twinstar_stamp;"""
