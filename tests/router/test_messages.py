"""Reading headers: in whatever pieces bytes come, the same is read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.router.messages import (
    Cancel,
    Conversation,
    DirectTls,
    EncryptionRequest,
    Headers,
    Malformed,
    Startup,
    error_response,
    parse_first,
    sqlstate_of,
)

LONG_KEY = b"\0\0\x12\x34" + bytes(range(256))


def message(kind: str, body: bytes = b"") -> bytes:
    return struct.pack(">cI", kind.encode(), 4 + len(body)) + body


def first(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">II", 8 + len(body), code) + body


def is_busy(session: Conversation) -> bool:
    return not session.quiet


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


kinds = st.sampled_from("DZKTCdN")
bodies = st.binary(max_size=40)
sizes = st.lists(st.integers(0, 30), max_size=40)


@given(st.lists(st.tuples(kinds, bodies), max_size=20), sizes)
def test_wanted_messages_are_found_whole_in_any_pieces(sent: list[tuple[str, bytes]], sizes: list[int]) -> None:
    headers = Headers(b"ZK", bodies=True)
    found = []
    for piece in cut(b"".join(message(*each) for each in sent), sizes):
        found += headers.feed(piece)
    assert found == [(ord(kind), body) for kind, body in sent if kind in "ZK"]
    assert headers.at_boundary
    assert not headers.lost


@given(st.lists(st.tuples(kinds, bodies), min_size=1, max_size=5), st.integers(1, 10))
def test_a_message_that_is_not_all_there_is_no_boundary(sent: list[tuple[str, bytes]], missing: int) -> None:
    data = b"".join(message(*each) for each in sent)
    last = len(message(*sent[-1]))
    headers = Headers(b"ZK", bodies=True)
    headers.feed(data[: -min(missing, last - 1)])
    assert not headers.at_boundary


@given(st.binary(max_size=200), sizes)
def test_noise_is_never_an_error(noise: bytes, sizes: list[int]) -> None:
    conversation = Conversation(lambda _: None, lambda: None)
    for piece in cut(noise, sizes):
        conversation.from_client(piece)
        conversation.from_server(piece)
        parse_first(piece)
        sqlstate_of(piece)


def test_a_standby_says_so_before_its_first_answer() -> None:
    said: list[str] = []
    session = Conversation(lambda _: None, lambda: said.append("standby"))
    session.from_server(message("R", bytes(4)) + message("S", b"in_hot_standby\0off\0") + message("S", b"a\0on\0"))
    assert not said
    session.from_server(message("S", b"in_hot_standby\0on\0"))
    assert said == ["standby"]


@pytest.mark.parametrize("length", [0, 3, 5_000])
def test_what_cannot_be_the_protocol_is_given_up(length: int) -> None:
    headers = Headers(b"ZK", bodies=True)
    assert headers.feed(struct.pack(">cI", b"K", length)) == []
    assert headers.lost
    assert headers.feed(message("Z", b"I")) == []


def test_first_messages() -> None:
    startup = first(3 << 16, b"user\0me\0\0")
    assert parse_first(startup + b"more") == Startup(startup)
    assert parse_first(first((3 << 16) + 2)) == Startup(first((3 << 16) + 2))
    assert parse_first(first(80877103)) == EncryptionRequest(first(80877103))
    assert parse_first(first(80877104)) == EncryptionRequest(first(80877104))
    assert parse_first(first(80877102, LONG_KEY)) == Cancel(first(80877102, LONG_KEY), LONG_KEY)
    assert parse_first(b"\x16\x03\x01") == DirectTls()
    assert parse_first(startup[:-1]) is None
    assert parse_first(b"") is None
    assert parse_first(first(2 << 16)) == Malformed()
    assert parse_first(struct.pack(">II", 10_001, 3 << 16)) == Malformed()
    assert parse_first(b"GET / HTTP/1.1") == Malformed()


def test_an_error_reads_as_postgresql_writes_it() -> None:
    error = error_response("57P03", "no", "Try again.")
    assert error == message("E", b"SFATAL\0VFATAL\0C57P03\0Mno\0HTry again.\0\0")
    assert sqlstate_of(error) == "57P03"
    assert sqlstate_of(message("R", b"\0\0\0\x0a")) is None
    assert sqlstate_of(b"E") is None


def test_a_session_from_start_to_end() -> None:
    keys: list[bytes] = []
    session = Conversation(keys.append, lambda: None)
    assert is_busy(session)
    session.from_server(message("R", bytes(4)) + message("K", LONG_KEY) + message("Z", b"I"))
    assert keys == [LONG_KEY]
    assert session.between_transactions

    session.from_client(message("Q", b"begin\0"))
    assert is_busy(session)
    session.from_server(message("C", b"BEGIN\0") + message("Z", b"T"))
    assert session.quiet
    assert session.status == "T"

    session.from_client(message("P") + message("B") + message("E"))
    assert is_busy(session)  # the server may be at work though no answer is promised yet
    session.from_client(message("S") + message("Q", b"x\0"))
    session.from_server(message("Z", b"E"))
    assert is_busy(session)
    session.from_server(message("Z", b"I")[:-1])
    assert is_busy(session)
    session.from_server(b"I")
    assert session.between_transactions
    assert session.ready == 4

    session.from_client(message("Q", b"half a statement")[:7])
    assert is_busy(session)
