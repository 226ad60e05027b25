"""Registers: what cannot be is refused with the operations that exclude each other, all else is accepted."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.histories.truth import atomic, linearizable, register
from twinstar.histories.operation import Kind, Operation, Outcome
from twinstar.histories.registers import check_registers
from twinstar.histories.verdict import Accepted, Fault, Refused, Undecided

READ, WRITE, SET, UNEQUAL = Kind.READ, Kind.WRITE, Kind.COMPARE_AND_SET, Kind.UNEQUAL
FAILED, UNKNOWN = Outcome.FAILED, Outcome.UNKNOWN


def op(client: int, kind: Kind, value: object, start: float, end: float, outcome: Outcome = Outcome.ACKNOWLEDGED,
       expected: object = None) -> Operation:  # fmt: skip
    return Operation(client, kind, "x", start, end, outcome, value, expected)


WRITTEN = op(1, WRITE, 1, 0, 10)

GOOD: dict[str, list[Operation]] = {
    "nothing at all": [],
    "a read of what every key held": [op(2, READ, 0, 0, 1)],
    "a read beside a write sees the old value": [WRITTEN, op(2, READ, 0, 3, 4)],
    "a read beside a write sees the new value": [WRITTEN, op(2, READ, 1, 3, 4)],
    "two writes at once in either order": [WRITTEN, op(2, WRITE, 2, 0, 10), op(3, READ, 1, 11, 12)],
    "a write seen, then one that was called earlier": [
        op(1, WRITE, 1, 0, 10), op(2, WRITE, 2, 1, 9), op(3, READ, 2, 2, 3), op(3, READ, 1, 4, 5),
    ],
    "a write that nobody can have seen": [WRITTEN, op(2, WRITE, 2, 3, 4), op(3, READ, 2, 5, 6), op(3, READ, 2, 12, 13)],
    "an unknown write that never appears": [op(1, WRITE, 1, 0, 10, UNKNOWN), op(2, READ, 0, 20, 21)],
    "an unknown write that appears later": [
        op(1, WRITE, 1, 0, 10, UNKNOWN), op(2, READ, 0, 20, 21), op(2, READ, 1, 30, 31), op(1, READ, 1, 40, 41),
    ],
    "an unknown write that appears after its client went on": [
        op(1, WRITE, 1, 0, 10, UNKNOWN), op(1, WRITE, 2, 11, 12), op(2, READ, 2, 13, 14), op(2, READ, 1, 15, 16),
    ],
    "a refused write that nobody saw": [op(1, WRITE, 1, 0, 10, FAILED), op(2, READ, 0, 11, 12)],
    "a chain of changes": [op(1, SET, 1, 0, 1, expected=0), op(2, SET, 2, 2, 3, expected=1), op(1, READ, 2, 4, 5)],
    "a change that waited for another": [op(1, SET, 2, 0, 9, expected=1), op(2, SET, 1, 0, 9, expected=0)],
    "an unknown change that another one shows": [
        op(1, SET, 1, 0, 5, UNKNOWN, expected=0), op(2, SET, 2, 6, 7, expected=1),
    ],
    "a change refused beside the one that came first": [
        op(1, SET, 1, 0, 9, expected=0), op(2, UNEQUAL, None, 0, 9, expected=0),
    ],
    "a change refused because of a write without an answer": [
        op(1, WRITE, 1, 0, 9, UNKNOWN), op(2, UNEQUAL, None, 20, 21, expected=0),
    ],
    "equal times of two clients tell nothing": [op(1, WRITE, 1, 0, 5), op(2, READ, 0, 5, 6)],
    "an answer without a value tells nothing": [WRITTEN, op(2, READ, None, 11, 12, UNKNOWN)],
}  # fmt: skip

BAD: dict[str, tuple[Fault, list[Operation]]] = {
    "a stale read": (Fault.STALE, [WRITTEN, op(2, WRITE, 2, 11, 12), op(3, READ, 1, 13, 14)]),
    "a lost write": (Fault.STALE, [WRITTEN, op(2, READ, 0, 11, 12)]),
    "a new value, then the old one": (
        Fault.STALE, [WRITTEN, op(2, READ, 1, 1, 2), op(3, READ, 0, 3, 4)],
    ),
    "an unknown write that appears and disappears": (
        Fault.STALE, [op(1, WRITE, 1, 0, 10, UNKNOWN), op(2, READ, 1, 20, 21), op(2, READ, 0, 30, 31)],
    ),
    "an unknown write that appears twice": (
        Fault.STALE,
        [op(1, WRITE, 1, 0, 5, UNKNOWN), op(2, READ, 1, 6, 7), op(2, WRITE, 2, 8, 9), op(3, READ, 1, 10, 11)],
    ),
    "a value that nobody wrote": (Fault.UNWRITTEN, [WRITTEN, op(2, READ, 7, 11, 12)]),
    "a read of a refused write": (Fault.ABORTED, [op(1, WRITE, 1, 0, 10, FAILED), op(2, READ, 1, 11, 12)]),
    "a read of what comes later": (Fault.FUTURE, [op(2, READ, 1, 0, 1), op(1, WRITE, 1, 2, 3)]),
    "a lost update": (Fault.RIVALS, [op(1, SET, 1, 0, 9, expected=0), op(2, SET, 2, 0, 9, expected=0)]),
    "two sides that both go on": (
        Fault.STALE,
        [op(1, WRITE, 1, 0, 1), op(2, WRITE, 2, 2, 3), op(1, READ, 1, 4, 5), op(2, READ, 2, 6, 7)],
    ),
    "a change refused for no reason": (Fault.REFUSED, [WRITTEN, op(2, UNEQUAL, None, 11, 12, expected=1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_accepted(name: str) -> None:
    assert check_registers(GOOD[name], initial=0) == Accepted(len(GOOD[name]))
    assert linearizable(GOOD[name], register, 0)


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_refused_and_named(name: str) -> None:
    fault, history = BAD[name]
    verdict = check_registers(history, initial=0)
    assert isinstance(verdict, Refused)
    assert [anomaly.fault for anomaly in verdict.anomalies] == [fault]
    assert not linearizable(history, register, 0)


def test_the_sentence_names_who_excludes_whom() -> None:
    verdict = check_registers([WRITTEN, op(2, WRITE, 2, 11, 12), op(3, READ, 1, 13, 14)])
    assert isinstance(verdict, Refused)
    assert str(verdict) == (
        "x: client 3's read of 1 from x (13–14 ms), yet it can have held nothing but 2 by then:\n"
        "  client 1's write of 1 to x (0–10 ms)\n"
        "  client 2's write of 2 to x (11–12 ms)"
    )


def test_a_client_that_goes_on_in_the_same_instant_goes_on() -> None:
    """Virtual clients do. What two clients do in one instant is in no order."""
    assert isinstance(check_registers([op(1, READ, 0, 10, 12), WRITTEN], initial=0), Refused)
    assert isinstance(check_registers([op(2, READ, 0, 10, 12), WRITTEN], initial=0), Accepted)


def test_every_key_is_judged_by_itself() -> None:
    elsewhere = [replace(operation, key="y") for operation in BAD["a stale read"][1]]
    verdict = check_registers([*GOOD["a chain of changes"], *elsewhere], initial=0)
    assert isinstance(verdict, Refused)
    assert [anomaly.key for anomaly in verdict.anomalies] == ["y"]


def test_what_is_given_up_is_said() -> None:
    """Many equal writes, each perhaps the one that was read: here the search grows."""
    history = [op(n, WRITE, n % 2, 0, 100) for n in range(10)] + [
        op(99, READ, n % 2, 2 * n, 2 * n + 1) for n in range(9)
    ]
    assert check_registers(history, worlds=50) == Undecided(("x",), 50)
    assert isinstance(check_registers(history), Accepted)


def test_an_untruth_elsewhere_counts_for_more_than_a_doubt() -> None:
    doubtful = [op(n, WRITE, n % 2, 0, 100) for n in range(10)]
    lie = replace(op(1, READ, 7, 0, 1), key="y")
    assert isinstance(check_registers([*doubtful, lie], worlds=1), Refused)


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="one clock"):
        op(1, READ, 0, 2, 1)
    with pytest.raises(ValueError, match="say when"):
        Operation(1, WRITE, "x", 0)
    with pytest.raises(ValueError, match="check_lists"):
        check_registers([op(1, Kind.APPEND, 0, 0, 1)])


@st.composite
def few_operations(draw: st.DrawFn) -> list[Operation]:
    """Anything at all with few values and times, so that right, wrong and touching are all frequent."""
    history, free = [], [-1, -1, -1, -1]
    for _ in range(draw(st.integers(1, 6))):
        client = draw(st.integers(0, 3))
        start = free[client] + draw(st.integers(1, 4))
        free[client] = start + draw(st.integers(0, 6))
        kind = draw(st.sampled_from((READ, READ, WRITE, WRITE, SET, UNEQUAL)))
        outcome = draw(st.sampled_from((Outcome.ACKNOWLEDGED, Outcome.ACKNOWLEDGED, UNKNOWN, FAILED)))
        value, expected = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        history.append(op(client, kind, value, start, free[client], outcome, expected))
    return history


@given(few_operations())
def test_the_verdict_is_that_of_trying_every_order(history: list[Operation]) -> None:
    assert isinstance(check_registers(history, initial=0), Accepted) == linearizable(history, register, 0)


@given(st.randoms(use_true_random=False), st.integers(1, 120))
def test_what_an_atomic_register_answers_is_accepted(chance: random.Random, count: int) -> None:
    history = atomic(chance, register, "nothing", count, (READ, READ, WRITE, SET))
    assert isinstance(check_registers(history, initial="nothing"), Accepted)


@given(st.randoms(use_true_random=False), st.integers(10, 60))
def test_a_read_of_what_is_certainly_overwritten_is_refused(chance: random.Random, count: int) -> None:
    history = atomic(chance, register, "nothing", count, (READ, WRITE))
    told = [o for o in history if o.outcome is Outcome.ACKNOWLEDGED]
    writes = [o for o in told if o.kind is WRITE]
    certain = [
        (one, read)
        for one, other in pairwise(writes)
        for read in told
        if read.kind is READ and one.end_ms < other.invoke_ms and other.end_ms < read.invoke_ms
    ]
    assume(certain)
    old, read = chance.choice(certain)
    changed = [replace(o, value=old.value) if o is read else o for o in history]
    assert isinstance(check_registers(changed, initial="nothing"), Refused)
