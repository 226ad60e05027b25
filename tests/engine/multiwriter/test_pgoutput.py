"""What a real server sends is read as the server itself shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from tests.engine.postgresql.lab import Server
from twinstar.engine.postgresql.multiwriter.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Relation,
    Truncate,
    Type,
    Update,
    decode,
)
from twinstar.model.errors import PeerError

SLOT = "reading"

TYPES = {
    "smallint": "-32768",
    "integer": "2147483647",
    "bigint": "-9223372036854775808",
    "numeric": "12345678901234567890.123456789000",
    "numeric(6, 2)": "1234.50",
    "real": "3.4028235e+38",
    "double precision": "0.1",
    "money": "$1,234.56",
    "boolean": "t",
    "text": "snow ☃, a 'quote', a \\ and\na line",
    "varchar(20)": "",
    "char(5)": "ab   ",
    "name": "a name",
    '"char"': "x",
    "bytea": "\\x00ff0a",
    "date": "0044-03-15 BC",
    "time": "23:59:59.999999",
    "timetz": "12:00:00+05:30",
    "timestamp": "294276-12-31 23:59:59.999999",
    "timestamptz": "infinity",
    "interval": "1 year 2 mons -3 days +04:05:06.789",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "json": '{"b" : 1,  "a": [null, "ü"]}',
    "jsonb": '{"a": [null, "ü"], "b": 1}',
    "inet": "192.168.0.1/24",
    "cidr": "2001:db8::/32",
    "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05",
    "bit(4)": "1010",
    "bit varying": "",
    "point": "(1.5,-2)",
    "line": "{1,-1,0}",
    "lseg": "[(0,0),(1,1)]",
    "box": "(1,1),(0,0)",
    "path": "((0,0),(1,1))",
    "polygon": "((0,0),(1,1),(1,0))",
    "circle": "<(0,0),1>",
    "tsvector": "'a':1A 'cat':5",
    "tsquery": "'fat' & !'rat'",
    "pg_lsn": "16/B374D848",
    "int4range": "[1,10)",
    "int4multirange": "{[1,3),[5,7)}",
    "tstzrange": '["2026-01-01 00:00:00+00",)',
    "numrange": "empty",
    "integer[]": "[0:1]={1,NULL}",
    "text[]": '{{a,"b c"},{"NULL","\\""}}',
    "mood": "not sad",
    "mood[]": '{"not sad",sad}',
    "pair": '(1,"a, b")',
    "positive": "7",
    "oid": "4294967295",
    "regclass": "public.everything",
}


@pytest.fixture
def peer(running: list[Server], database: str) -> Iterator[Peer]:
    with closing(running[0].connect(dbname=database)) as connection:
        yield Peer(connection)


class Peer:
    """A database with a publication of all tables and a slot that is looked at through SQL."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        for statement in (
            "CREATE TYPE mood AS ENUM ('sad', 'not sad')",
            "CREATE TYPE pair AS (a int, b text)",
            "CREATE DOMAIN positive AS int CHECK (value > 0)",
            "CREATE PUBLICATION everything FOR ALL TABLES",
            "SET search_path = ''; SET datestyle = 'ISO'; SET timezone = 'UTC'; SET lc_monetary = 'C'",
        ):
            self.do(statement)
        # A slot's plugin lives in the session that looks at it, so that its settings are the session's.
        self.do(f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")

    def do(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode()).fetchall()

    def bytes(self) -> list[bytes]:
        query = f"""
            SELECT data FROM pg_logical_slot_get_binary_changes('{SLOT}', NULL, NULL, 'proto_version', '4',
                'publication_names', 'everything', 'messages', 'true', 'origin', 'none')"""
        return [bytes(row[0]) for row in self.rows(query)]

    def sent(self) -> list[Message]:
        return [decode(message) for message in self.bytes()]

    def rows_sent(self) -> list[Insert | Update | Delete]:
        return [message for message in self.sent() if isinstance(message, Insert | Update | Delete)]


def test_every_common_type_is_read_as_the_server_shows_it(peer: Peer) -> None:
    columns = ", ".join(
        f"c{number} {kind if kind not in ('mood', 'mood[]', 'pair', 'positive') else 'public.' + kind}"
        for number, kind in enumerate(TYPES)
    )
    peer.do(f"CREATE TABLE public.everything (id int PRIMARY KEY, {columns})")
    places = ", ".join("%s" for _ in TYPES)
    peer.connection.execute(f"INSERT INTO public.everything VALUES (1, {places})".encode(), list(TYPES.values()))
    peer.do("INSERT INTO public.everything (id) VALUES (2)")
    first, second = peer.rows_sent()
    shown = ", ".join(f"format('%s', c{number})" for number in range(len(TYPES)))
    (as_shown,) = peer.rows(f"SELECT {shown} FROM public.everything WHERE id = 1")
    sent = dict(zip(TYPES, first.new[1:], strict=True)) if isinstance(first, Insert) else {}
    # format() leaves out the blanks that char(n) is filled up with.
    assert sent.pop("char(5)") == "ab   "
    assert sent == {kind: text for kind, text in zip(TYPES, as_shown, strict=True) if kind != "char(5)"}
    assert isinstance(second, Insert)
    assert second.new == ("2", *(None for _ in TYPES))


def test_a_transaction_is_framed_by_its_positions_and_time(peer: Peer) -> None:
    peer.do("CREATE TABLE public.t (id int PRIMARY KEY, v text)")
    peer.do("INSERT INTO public.t VALUES (1, 'a'), (2, 'b')")
    begin, relation, first, second, commit = (message for message in peer.sent() if not isinstance(message, Type))
    assert isinstance(begin, Begin)
    assert isinstance(relation, Relation)
    assert isinstance(commit, Commit)
    assert (relation.schema, relation.name, relation.identity) == ("public", "t", "d")
    assert [(column.name, column.key) for column in relation.columns] == [("id", True), ("v", False)]
    assert first == Insert(relation.id, ("1", "a"))
    assert second == Insert(relation.id, ("2", "b"))
    assert begin.commit_lsn == commit.commit_lsn < commit.end_lsn
    assert begin.time_us == commit.time_us
    (now_us,) = peer.rows("SELECT extract(epoch FROM clock_timestamp()) * 1000000")[0]
    assert 0 <= now_us - commit.time_us < 60_000_000


def test_an_unchanged_value_out_of_line_is_taken_from_the_full_old_image(peer: Peer) -> None:
    peer.do("CREATE TABLE public.t (id int PRIMARY KEY, big text, n int)")
    peer.do("ALTER TABLE public.t ALTER big SET STORAGE EXTERNAL")
    peer.do("ALTER TABLE public.t REPLICA IDENTITY FULL")
    big = "x" * 10_000
    peer.do(f"INSERT INTO public.t VALUES (1, '{big}', 0), (2, NULL, 0)")
    peer.rows_sent()
    peer.do("UPDATE public.t SET n = 1")
    relation, *_ = (message for message in peer.sent() if isinstance(message, Relation))
    peer.do("UPDATE public.t SET n = 2")
    assert peer.rows_sent() == [
        Update(relation.id, ("1", big, "1"), ("1", big, "2")),
        Update(relation.id, ("2", None, "1"), ("2", None, "2")),
    ]
    assert relation.identity == "f"


def test_without_a_full_old_image_what_is_unchanged_is_not_there(peer: Peer) -> None:
    peer.do("CREATE TABLE public.t (id int PRIMARY KEY, big text, n int)")
    peer.do("ALTER TABLE public.t ALTER big SET STORAGE EXTERNAL")
    peer.do(f"INSERT INTO public.t VALUES (1, '{'x' * 10_000}', 0)")
    peer.do("UPDATE public.t SET n = 1")
    peer.do("UPDATE public.t SET id = 2")
    peer.do("DELETE FROM public.t")
    _, plain, moved, deleted = peer.rows_sent()
    assert isinstance(plain, Update)
    assert isinstance(moved, Update)
    assert isinstance(deleted, Delete)
    assert plain.old is None
    assert plain.new[1] is UNCHANGED
    assert moved.old == ("1", None, None)
    assert moved.new[1] is UNCHANGED
    assert deleted.old == ("2", None, None)


def test_what_is_generated_stays_at_home_and_an_identity_travels(peer: Peer) -> None:
    peer.do(
        "CREATE TABLE public.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, "
        "twice int GENERATED ALWAYS AS (n * 2) STORED)"
    )
    peer.do("INSERT INTO public.t (n) VALUES (4)")
    messages = peer.sent()
    (relation,) = (message for message in messages if isinstance(message, Relation))
    assert [column.name for column in relation.columns] == ["id", "n"]
    assert Insert(relation.id, ("1", "4")) in messages


def test_truncation_messages_and_what_came_from_elsewhere(peer: Peer) -> None:
    peer.do("CREATE TABLE public.t (id int PRIMARY KEY); CREATE TABLE public.u (id int REFERENCES public.t)")
    peer.do("TRUNCATE public.t, public.u RESTART IDENTITY")
    peer.do("TRUNCATE public.t CASCADE")
    sent = peer.sent()
    relations = {message.name: message.id for message in sent if isinstance(message, Relation)}
    truncations = [message for message in sent if isinstance(message, Truncate)]
    assert [(set(each.relations), each.cascade, each.restart_identity) for each in truncations] == [
        ({relations["t"], relations["u"]}, False, True),
        ({relations["t"], relations["u"]}, True, False),
    ]
    peer.do(
        "SELECT pg_logical_emit_message(true, 'twinstar', 'in'), pg_logical_emit_message(false, 'x', '\\x00'::bytea)"
    )
    messages = [message for message in peer.sent() if isinstance(message, LogicalMessage)]
    assert sorted((each.transactional, each.prefix, each.content) for each in messages) == [
        (False, "x", b"\0"),
        (True, "twinstar", b"in"),
    ]
    peer.do("SELECT pg_replication_origin_create('elsewhere')")
    peer.do("SELECT pg_replication_origin_session_setup('elsewhere')")
    try:
        peer.do("INSERT INTO public.t VALUES (1)")
    finally:
        peer.do("SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('elsewhere')")
    assert peer.sent() == []


@pytest.mark.parametrize(
    "cut", [b"", b"Z", b"B\0\0", b"I\0\0\0\1N\0\1t\0\0\0\5abc", b"I\0\0\0\1N\0\1x", b"R\0\0\0\1pub"]
)
def test_what_is_no_message_is_refused(cut: bytes) -> None:
    with pytest.raises(PeerError):
        decode(cut)
