"""Datagrams: authentic, of this cluster and version, once, in order where order matters; and nothing makes it raise."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.wire import (
    SCHEMA,
    Alive,
    Answer,
    Ask,
    EngineWord,
    Envelope,
    EpochNotice,
    Gossip,
    Heartbeat,
    Hello,
    Inbox,
    LaterStart,
    Message,
    Part,
    PeerStatement,
    Probe,
    Sender,
    Serving,
    Told,
)

SECRET = b"the cluster's own"
HEARTBEAT = Heartbeat(epoch=3, leading=True, agent_age_ms=12.5, engine=EngineWord.RUNNING, run="77:1234")
MESSAGES: tuple[Message, ...] = (
    HEARTBEAT,
    Probe(token=9),
    Alive(token=9, epoch=3, hears=("a", "b")),
    Ask(about="a", epoch=3),
    Answer(about="a", epoch=3, suspects=True, can_seal=False),
    Gossip("standby", "streaming", 3, "3:0/10", "3:0/8", 1, 2, 3, note="n", extra={"k": [1, {"x": None}]}),
    EpochNotice(epoch=4, leader="b"),
    Hello(epoch=2),
    Serving(epoch=4, leader="b", open=True, readers=("c",), draining=True),
    Told(epoch=4, leading=True, run="5:6", stopping=False, lease_until_ms=99.5, register_epoch=4),
    LaterStart(member="b", part=Part.AGENT, boot=1_700_000_000_000),
    PeerStatement(3, 7, False, "its clock is off", 12.5, "127.0.0.1:5432", 1_700_000_000_000_000, answers=5),
)


def sender(boot: int = 1000, cluster: str = "c", secret: bytes = SECRET, part: Part = Part.GUARD) -> Sender:
    return Sender(cluster, secret, "a", part, boot)


def signed(body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return data + hmac.new(SECRET, data, hashlib.sha256).digest()[:16]


def body_of(**changes: Any) -> dict[str, Any]:
    body = {"v": SCHEMA, "c": "c", "m": "a", "p": "guard", "b": 1000, "n": 1, "t": "Probe", "d": {"token": 9}}
    return {**body, **changes}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    envelope = Inbox("c", SECRET).open(sender().pack(message))
    assert isinstance(envelope, Envelope)
    assert envelope.message == message
    assert (envelope.member, envelope.part, envelope.boot, envelope.counter) == ("a", Part.GUARD, 1000, 1)


def test_the_list_of_messages_above_is_complete() -> None:
    assert {type(each) for each in MESSAGES} == set(Message.__args__)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_single_changed_byte_is_refused(place: int, change: int) -> None:
    data = bytearray(sender().pack(HEARTBEAT))
    data[place % len(data)] ^= change
    inbox = Inbox("c", SECRET)
    assert inbox.open(bytes(data)) is None
    assert inbox.refused == 1


def test_another_secret_is_refused() -> None:
    assert Inbox("c", SECRET).open(sender(secret=b"another").pack(HEARTBEAT)) is None


def test_another_cluster_with_the_same_secret_is_refused() -> None:
    assert Inbox("c", SECRET).open(sender(cluster="d").pack(HEARTBEAT)) is None


@pytest.mark.parametrize("version", [SCHEMA + 1, 0, None, "1"])
def test_another_schema_is_refused_and_counted(version: object) -> None:
    inbox = Inbox("c", SECRET)
    assert inbox.open(signed(body_of(v=version))) is None
    assert (inbox.refused, inbox.foreign_schema) == (1, 1)


def test_a_replay_is_refused() -> None:
    inbox, data = Inbox("c", SECRET), sender().pack(Probe(1))
    assert inbox.open(data) is not None
    assert inbox.open(data) is None


def test_a_replay_of_an_earlier_boot_is_refused() -> None:
    inbox, old = Inbox("c", SECRET), sender(boot=1000)
    early, late = old.pack(Probe(1)), old.pack(Probe(2))
    assert inbox.open(early) is not None
    assert inbox.open(sender(boot=2000).pack(Probe(3))) is not None
    assert inbox.open(late) is None


def test_a_number_that_is_lower_and_was_never_heard_is_to_be_told_the_later_one() -> None:
    inbox = Inbox("c", SECRET)
    assert inbox.open(sender(boot=2000).pack(Probe(1))) is not None
    assert inbox.open(sender(boot=1000).pack(Probe(1))) == LaterStart("a", Part.GUARD, 2000)
    assert inbox.refused == 1


def test_what_is_said_of_numbers_is_heard_from_who_is_behind_as_well() -> None:
    inbox, said = Inbox("c", SECRET), LaterStart("b", Part.AGENT, 5000)
    assert inbox.open(sender(boot=2000).pack(Probe(1))) is not None
    envelope = inbox.open(sender(boot=1000).pack(said))
    assert isinstance(envelope, Envelope)
    assert envelope.message == said


def test_parts_of_one_member_are_counted_apart() -> None:
    inbox = Inbox("c", SECRET)
    assert inbox.open(sender(boot=2000, part=Part.GUARD).pack(HEARTBEAT)) is not None
    assert inbox.open(sender(boot=1000, part=Part.AGENT).pack(HEARTBEAT)) is not None


def test_an_overtaken_answer_is_taken_once() -> None:
    inbox, source = Inbox("c", SECRET), sender()
    first, second = source.pack(Probe(1)), source.pack(Probe(2))
    assert inbox.open(second) is not None
    assert inbox.open(first) is not None
    assert inbox.open(first) is None


def test_an_overtaken_state_is_not_taken() -> None:
    """`running` that arrives after `dead` would take the death back."""
    inbox, source = Inbox("c", SECRET), sender()
    running = source.pack(HEARTBEAT)
    dead = source.pack(Heartbeat(3, True, 1.0, EngineWord.DEAD, "77:1234"))
    assert inbox.open(dead) is not None
    assert inbox.open(running) is None


def test_an_answer_overtaken_by_a_state_is_taken() -> None:
    inbox, source = Inbox("c", SECRET), sender()
    answer, state = source.pack(Alive(1, 2, ())), source.pack(HEARTBEAT)
    assert inbox.open(state) is not None
    assert inbox.open(answer) is not None


@given(st.permutations(range(100)))
def test_in_any_order_each_datagram_is_taken_at_most_once_and_never_far_behind(order: list[int]) -> None:
    source, inbox = sender(), Inbox("c", SECRET)
    data = [source.pack(Probe(token)) for token in range(100)]
    newest = -1
    for each in order:
        taken = inbox.open(data[each]) is not None
        assert taken == (each > newest - 64)
        newest = max(newest, each)
        assert inbox.open(data[each]) is None


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(signed)))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert Inbox("c", SECRET).open(data) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(json_values)
def test_no_signed_document_makes_it_raise(document: object) -> None:
    assert Inbox("c", SECRET).open(signed(document)) is None


@given(st.sampled_from(["v", "c", "m", "p", "b", "n", "t", "d"]), json_values)
def test_no_signed_value_makes_it_raise(key: str, value: object) -> None:
    envelope = Inbox("c", SECRET).open(signed(body_of(**{key: value})))
    assert envelope is None or (isinstance(envelope, Envelope) and isinstance(envelope.message, Probe))


@given(st.sampled_from(MESSAGES), st.data())
def test_a_field_of_the_wrong_type_is_refused_or_read_rightly(message: Message, data: st.DataObject) -> None:
    kind = type(message)
    name = data.draw(st.sampled_from([each.name for each in fields(kind)]))
    content = {each.name: getattr(message, each.name) for each in fields(kind)}
    content[name] = data.draw(json_values)
    envelope = Inbox("c", SECRET).open(signed(body_of(t=kind.__name__, d=content)))
    if isinstance(envelope, Envelope):
        sample, read = getattr(message, name), getattr(envelope.message, name)
        assert type(read) is type(sample)


@pytest.mark.parametrize("content", [{}, {"token": 9, "more": 1}, [], None, {"token": True}, {"token": 1 << 70}])
def test_missing_strange_and_oversized_fields_are_refused(content: object) -> None:
    assert Inbox("c", SECRET).open(signed(body_of(d=content))) is None


def test_deep_nesting_does_not_raise() -> None:
    assert Inbox("c", SECRET).open(signed(b"[" * 30_000)) is None
