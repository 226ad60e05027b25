"""Lists that only grow: what cannot be is refused with the operations that exclude each other, all else accepted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.histories.truth import atomic, growing_list, linearizable
from twinstar.histories.lists import Order, check_lists
from twinstar.histories.operation import Kind, Operation, Outcome
from twinstar.histories.verdict import Accepted, Fault, Refused

FAILED, UNKNOWN = Outcome.FAILED, Outcome.UNKNOWN


def append(client: int, value: int, start: float, end: float, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Operation:
    return Operation(client, Kind.APPEND, "x", start, end, outcome, value)


def read(client: int, start: float, end: float, *elements: int) -> Operation:
    return Operation(client, Kind.READ, "x", start, end, value=elements)


ONE, TWO = append(1, 1, 0, 1), append(2, 2, 2, 3)

GOOD = {
    "nothing read": [ONE, TWO],
    "all there": [ONE, TWO, read(3, 4, 5, 1, 2)],
    "a read beside an append": [ONE, append(2, 2, 2, 9), read(3, 3, 4, 1), read(4, 3, 5, 1, 2)],
    "an unknown append that never appears": [append(1, 1, 0, 1, UNKNOWN), read(3, 4, 5), read(3, 6, 7)],
    "an unknown append that appears later": [append(1, 1, 0, 1, UNKNOWN), read(3, 4, 5), read(3, 6, 7, 1)],
    "an unknown append that appears behind its client's next": [
        append(1, 1, 0, 1, UNKNOWN), append(1, 2, 2, 3), read(3, 4, 5, 2), read(3, 6, 7, 2, 1),
    ],
    "a refused append that nobody saw": [append(1, 1, 0, 1, FAILED), read(3, 4, 5)],
    "an acknowledged one that no later read could have seen": [ONE, read(3, 4, 5, 1), append(2, 2, 4, 9)],
}  # fmt: skip

BAD = {
    "a lost append": ([Fault.LOST], [ONE, TWO, read(3, 4, 5, 1)]),
    "a stale read": ([Fault.STALE], [ONE, TWO, read(3, 4, 5, 1), read(3, 6, 7, 1, 2)]),
    "seen, then gone": ([Fault.LOST, Fault.WENT_BACK], [
        ONE, append(2, 2, 2, 9), read(3, 4, 5, 1, 2), read(3, 10, 11, 1),
    ]),
    "an unknown append that appears and disappears": ([Fault.WENT_BACK], [
        append(1, 1, 0, 1, UNKNOWN), read(3, 4, 5, 1), read(3, 6, 7),
    ]),
    "two sides that both go on": ([Fault.CONTRADICTION, Fault.LOST], [
        append(1, 1, 0, 9), append(2, 2, 0, 9), read(3, 4, 5, 1), read(4, 10, 11, 2),
    ]),
    "a read of a refused append": ([Fault.ABORTED], [append(1, 1, 0, 1, FAILED), read(3, 4, 5, 1)]),
    "an element that nobody appended": ([Fault.UNWRITTEN], [ONE, read(3, 4, 5, 1, 7)]),
    "an append that took effect twice": ([Fault.TWICE], [ONE, read(3, 4, 5, 1, 1)]),
    "an element before its append": ([Fault.FUTURE], [read(3, 0, 1, 1), append(1, 1, 2, 3)]),
    "elements against the order of their appends": ([Fault.DISORDER], [ONE, TWO, read(3, 4, 5, 2, 1)]),
    "an append that came between and was overwritten": ([Fault.CONTRADICTION, Fault.LOST], [
        ONE, TWO, read(3, 4, 5, 1, 2), append(4, 3, 6, 7), read(3, 8, 9, 1, 3),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_accepted(name: str) -> None:
    assert check_lists(GOOD[name]) == Accepted(len(GOOD[name]))
    assert linearizable(GOOD[name], growing_list, ())


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_refused_and_named(name: str) -> None:
    faults, history = BAD[name]
    verdict = check_lists(history)
    assert isinstance(verdict, Refused)
    assert [anomaly.fault for anomaly in verdict.anomalies] == faults
    assert not linearizable(history, growing_list, ())


def test_the_sentence_names_who_excludes_whom() -> None:
    verdict = check_lists([ONE, TWO, read(3, 4, 5, 1)])
    assert str(verdict) == (
        "x: client 2's append of 2 to x (2–3 ms) was acknowledged, "
        "but client 3's read of [1] from x (4–5 ms), the last one, does not have it."
    )
    assert isinstance(verdict, Refused)
    assert verdict.anomalies[0].operations == (TWO, read(3, 4, 5, 1))


def test_a_client_that_goes_on_in_the_same_instant_goes_on() -> None:
    assert isinstance(check_lists([read(1, 1, 2), ONE]), Refused)
    assert isinstance(check_lists([read(2, 1, 2), ONE]), Accepted)


def test_every_lost_append_is_named() -> None:
    verdict = check_lists([ONE, TWO, append(1, 3, 4, 5), read(3, 6, 7, 1)])
    assert isinstance(verdict, Refused)
    assert [anomaly.operations[0].value for anomaly in verdict.anomalies] == [2, 3]


def test_a_session_may_lag_behind_others_but_not_behind_itself() -> None:
    lagging = [ONE, TWO, read(3, 4, 5, 1), read(4, 6, 7, 1, 2), read(3, 8, 9, 1)]
    assert isinstance(check_lists(lagging, Order.SESSION), Accepted)
    assert isinstance(check_lists(lagging), Refused)
    for own in (read(2, 4, 5, 1), read(4, 8, 9, 1)):
        verdict = check_lists([*lagging, own], Order.SESSION)
        assert isinstance(verdict, Refused)
        assert verdict.anomalies[0].operations[0] == own
    contradicting = [*lagging, append(5, 3, 6, 7), read(3, 10, 11, 1, 3)]
    assert isinstance(check_lists(contradicting, Order.SESSION), Refused)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="values that differ"):
        check_lists([ONE, append(2, 1, 2, 3)])
    with pytest.raises(ValueError, match="check_registers"):
        check_lists([replace(ONE, kind=Kind.WRITE)])
    with pytest.raises(ValueError, match="tuple"):
        check_lists([replace(ONE, kind=Kind.READ)])


@st.composite
def few_operations(draw: st.DrawFn) -> list[Operation]:
    """Some appends, and reads of anything at all, so that right, wrong and touching are all frequent."""
    history: list[Operation] = []
    values, free = draw(st.integers(1, 3)), [-1, -1, -1, -1]
    for number in range(values + draw(st.integers(1, 3))):
        client = draw(st.integers(0, 3))
        start = free[client] + draw(st.integers(1, 4))
        free[client] = start + draw(st.integers(0, 6))
        if number < values:
            outcome = draw(st.sampled_from((Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED, UNKNOWN, FAILED)))
            history.append(append(client, number, start, free[client], outcome))
        else:
            elements = draw(st.permutations(range(values)))[: draw(st.integers(0, values))]
            history.append(read(client, start, free[client], *elements))
    return history


@given(few_operations())
def test_the_verdict_is_that_of_trying_every_order(history: list[Operation]) -> None:
    assert isinstance(check_lists(history), Accepted) == linearizable(history, growing_list, ())


@given(st.randoms(use_true_random=False), st.integers(3, 80))
def test_what_an_atomic_list_answers_is_accepted(chance: random.Random, count: int) -> None:
    history = atomic(chance, growing_list, (), count, (Kind.READ, Kind.APPEND))
    assert isinstance(check_lists(history), Accepted)
    assert isinstance(check_lists(history, Order.SESSION), Accepted)


@given(st.randoms(use_true_random=False), st.integers(10, 60))
def test_a_read_without_what_was_acknowledged_before_is_refused(chance: random.Random, count: int) -> None:
    history = atomic(chance, growing_list, (), count, (Kind.READ, Kind.APPEND))
    told = [o for o in history if o.outcome is Outcome.ACKNOWLEDGED]
    certain = [
        (one, reader)
        for one in told
        for reader in told
        if one.kind is Kind.APPEND and reader.kind is Kind.READ and one.end_ms < reader.invoke_ms
    ]
    assume(certain)
    missing, reader = chance.choice(certain)
    assert isinstance(reader.value, tuple)
    shorter = tuple(element for element in reader.value if element != missing.value)
    changed = [replace(o, value=shorter) if o is reader else o for o in history]
    assert isinstance(check_lists(changed), Refused)
