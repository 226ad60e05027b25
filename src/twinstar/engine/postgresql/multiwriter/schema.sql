-- What every node has in its schema `twinstar`, beside the objects of each table. Can be run again at any time.

CREATE SCHEMA IF NOT EXISTS twinstar;
DO $$
BEGIN
  IF to_regrole('twinstar_owner') IS NULL THEN
    CREATE ROLE twinstar_owner NOLOGIN;
  END IF;
  IF to_regrole('twinstar_applier') IS NULL THEN
    CREATE ROLE twinstar_applier LOGIN REPLICATION;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'twinstar') THEN
    -- Deletions travel as tombstones; TRUNCATE is refused.
    CREATE PUBLICATION twinstar WITH (publish = 'insert, update');
  END IF;
  IF current_setting('server_version_num')::int >= 180000 THEN
    -- From there on an update is refused when the old image, which is the whole row, has a column that is not sent.
    ALTER PUBLICATION twinstar SET (publish_generated_columns = stored);
  END IF;
END $$;
ALTER SCHEMA twinstar OWNER TO twinstar_owner;
-- Triggers of users' tables call what is in here.
GRANT USAGE ON SCHEMA twinstar TO PUBLIC;

-- Insertions are stamped above it: tombstones up to it may have been collected here and be there elsewhere.
CREATE SEQUENCE IF NOT EXISTS twinstar.floor AS bigint MINVALUE 0 START 0;

CREATE TABLE IF NOT EXISTS twinstar.tables (
  schema text NOT NULL,
  name text NOT NULL,
  slug text NOT NULL UNIQUE,
  counters text[] NOT NULL,
  groups jsonb NOT NULL,
  merge text,
  shape text, -- of the table for which functions were made
  looked text, -- how its columns and indexes were in the catalog then
  collected bigint NOT NULL DEFAULT -1, -- the greatest tombstone that was forgotten here
  PRIMARY KEY (schema, name)
);

-- Images are objects of column names and values as text, so that nothing about a value is lost.
CREATE TABLE IF NOT EXISTS twinstar.conflicts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  schema text NOT NULL,
  name text NOT NULL,
  kind text NOT NULL,
  peer text NOT NULL,
  key jsonb NOT NULL,
  winner text NOT NULL CHECK (winner IN ('local', 'incoming')),
  winner_stamp bigint NOT NULL,
  winner_image jsonb,
  loser_stamp bigint NOT NULL,
  loser_image jsonb,
  columns text[], -- of a table with groups: those that lost; null: all
  merged_at timestamptz, -- when the user's function was called for it
  merge_error text,
  restored_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS conflicts_once ON twinstar.conflicts (schema, name, key, loser_stamp);

-- What each member says of itself, in its own stream (`collecting`).
CREATE TABLE IF NOT EXISTS twinstar.reports (
  member integer PRIMARY KEY,
  applied jsonb NOT NULL, -- stream -> up to where it was applied
  floor bigint NOT NULL
);

-- One row: how far this node is with its floor.
CREATE TABLE IF NOT EXISTS twinstar.floors (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  raised bigint NOT NULL,
  open xid8 NOT NULL, -- transactions below it may have begun under the floor before
  firm bigint NOT NULL
);

-- One row: up to where this node had applied each stream, and which tombstones it had then.
CREATE TABLE IF NOT EXISTS twinstar.cut (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  streams jsonb NOT NULL,
  before xid8 NOT NULL
);

-- Tombstones that the applier wrote and the peers must hear of: an ordinary session sends them.
CREATE TABLE IF NOT EXISTS twinstar.repairs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slug text NOT NULL,
  key jsonb NOT NULL,
  stamp bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS twinstar.dead_letters (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  schema text NOT NULL,
  name text NOT NULL,
  peer text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('image', 'burial', 'contribution', 'stray')),
  stamp bigint NOT NULL,
  change jsonb NOT NULL,
  error text NOT NULL
);

-- Microseconds since 1970.
CREATE OR REPLACE FUNCTION twinstar.now_us() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (date_part('epoch', clock_timestamp()) * 1000000)::bigint;

-- Whether a group of columns had this version in what a writer knew: lists of the versions of all groups, one after the
-- other.
CREATE OR REPLACE FUNCTION twinstar.named(known bigint[], groups integer, at integer, stamp bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM generate_series($3, cardinality($1), $2) AS place WHERE $1[place] = $4);

CREATE OR REPLACE FUNCTION twinstar.refuse_truncate() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  RAISE EXCEPTION 'TRUNCATE of %.% is refused: other nodes write to it too, and its place among their writes would be '
    'unknown. Use DELETE.', quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
    USING ERRCODE = 'feature_not_supported';
END $$;

CREATE OR REPLACE FUNCTION twinstar.log_conflict(
  schema text, name text, kind text, peer text, key jsonb, winner text,
  winner_stamp bigint, winner_image jsonb, loser_stamp bigint, loser_image jsonb, columns text[] DEFAULT NULL
) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
  INSERT INTO twinstar.conflicts AS c
    (schema, name, kind, peer, key, winner, winner_stamp, winner_image, loser_stamp, loser_image, columns)
  SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
  -- Who wrote the same has lost nothing.
  WHERE $8 - ARRAY['twinstar_stamp', 'twinstar_groups', 'twinstar_born', 'twinstar_base']
    IS DISTINCT FROM $10 - ARRAY['twinstar_stamp', 'twinstar_groups', 'twinstar_born', 'twinstar_base']
  -- Another group of the same version.
  ON CONFLICT (schema, name, key, loser_stamp) DO UPDATE SET columns = c.columns || EXCLUDED.columns
  WHERE NOT c.columns @> EXCLUDED.columns;
END;

DO $$
DECLARE
  object regclass;
  function regprocedure;
BEGIN
  FOR object IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'twinstar'::regnamespace AND c.relkind = 'r' LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO twinstar_owner', object);
    EXECUTE format('GRANT SELECT ON %s TO twinstar_applier', object);
  END LOOP;
  ALTER SEQUENCE twinstar.floor OWNER TO twinstar_owner;
  GRANT SELECT, UPDATE ON SEQUENCE twinstar.floor TO twinstar_applier;
  FOR function IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'twinstar'::regnamespace LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO twinstar_owner', function);
  END LOOP;
  FOR function IN
    SELECT p.oid FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
      AND (p.proname LIKE 'pg\_replication\_origin\_%' OR p.proname = 'pg_show_replication_origin_status')
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO twinstar_applier', function);
  END LOOP;
END $$;
GRANT INSERT, UPDATE, DELETE ON twinstar.conflicts, twinstar.dead_letters, twinstar.repairs TO twinstar_applier;
GRANT INSERT, UPDATE ON twinstar.floors, twinstar.cut TO twinstar_applier;
GRANT UPDATE (collected) ON twinstar.tables TO twinstar_applier;
GRANT SET ON PARAMETER session_replication_role, deadlock_timeout TO twinstar_applier;
