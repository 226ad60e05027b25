"""Who must confirm: every way between two settings is legal at every step, and ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.rules import durability
from twinstar.rules.durability import (
    Quorum,
    Step,
    Where,
    compatible,
    desired,
    may_enforce,
    may_register,
    next_step,
)

NOBODY = Quorum(frozenset(), 0)


def of(required: int, voters: str) -> Quorum:
    return Quorum(frozenset(voters), required)


def quorums(voters: str) -> Iterator[Quorum]:
    for size in range(len(voters) + 1):
        for some in combinations(voters, size):
            for required in range(min(1, size), size + 1):
                yield Quorum(frozenset(some), required)


def way(engine: Quorum, register: Quorum, goal: Quorum, flushed: str) -> list[Step]:
    """Every step until there is none; each is checked to be legal when it is taken."""
    steps: list[Step] = []
    while (step := next_step(engine, register, goal, frozenset(flushed))) is not None:
        if step.where is Where.ENGINE:
            assert may_enforce(step.to, register)
            engine = step.to
        else:
            assert may_register(engine, step.to, frozenset(flushed))
            register = step.to
        assert compatible(engine, register), "an acknowledged write is within reach of an election at every instant"
        steps.append(step)
        assert len(steps) < 10, "it goes round in circles"
    return steps


def engine(required: int, voters: str) -> Step:
    return Step(Where.ENGINE, of(required, voters))


def register(required: int, voters: str) -> Step:
    return Step(Where.REGISTER, of(required, voters))


@pytest.mark.parametrize(
    ("start", "goal", "confirming", "steps"),
    [
        (of(1, "bc"), of(1, "b"), "b", [engine(1, "b"), register(1, "b")]),
        (of(1, "b"), of(1, "bc"), "b", [register(1, "bc"), engine(1, "bc")]),
        (of(1, "b"), NOBODY, "", [register(0, ""), engine(0, "")]),
        (NOBODY, of(1, "b"), "b", [engine(1, "b"), register(1, "b")]),
        (of(1, "bc"), of(2, "bc"), "bc", [engine(2, "bc"), register(2, "bc")]),
        (of(2, "bc"), of(1, "bc"), "b", [register(1, "bc"), engine(1, "bc")]),
        (of(2, "bcde"), of(1, "bc"), "bc", [engine(2, "bc"), register(1, "bc"), engine(1, "bc")]),
        (of(1, "bc"), of(2, "bcde"), "bcde", [engine(2, "bc"), register(2, "bcde"), engine(2, "bcde")]),
        (of(1, "bc"), of(1, "bd"), "bd", [engine(1, "b"), register(1, "bd"), engine(1, "bd")]),
    ],
    ids=[
        "c is gone for good",
        "c comes back",
        "the last standby is gone: degrade",
        "b is back after degrading",
        "required 1 to 2",
        "required 2 to 1",
        "five members, d and e gone",
        "three members become five",
        "c is replaced by d",
    ],
)
def test_the_table_of_the_protocol(start: Quorum, goal: Quorum, confirming: str, steps: list[Step]) -> None:
    assert way(start, start, goal, confirming) == steps


@pytest.mark.parametrize("voters", ["b", "bc", "bcd"])
def test_every_state_has_a_way_to_what_fits_the_living(voters: str) -> None:
    """Also from the middle of another change, as after a change of leader or of mind."""
    pairs = [(e, r) for e in quorums(voters) for r in quorums(voters) if compatible(e, r)]
    for living in (frozenset(some) for size in range(len(voters) + 1) for some in combinations(voters, size)):
        goal = Quorum(living, min(1, len(living)))
        for start in pairs:
            steps = way(*start, goal, "".join(living))
            reached = {s.where: s.to for s in steps}
            assert reached.get(Where.ENGINE, start[0]) == goal, (start, goal)
            assert reached.get(Where.REGISTER, start[1]) == goal, (start, goal)


def shortest(engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str]) -> int | None:
    """The length of the shortest legal way on which somebody besides the leader could lead, through any settings."""
    every = list(quorums("bcd"))
    reached, at, steps = {(engine, register)}, {(engine, register)}, 0
    while at:
        if (goal, goal) in at:
            return steps
        at = {(to, r) for _, r in at for to in every if may_enforce(to, r)} | {
            (e, to) for e, _ in at for to in every if to.required and may_register(e, to, flushed)
        }
        at -= reached
        reached |= at
        steps += 1
    return None


@given(st.data())
def test_no_way_is_longer_than_it_must_be(data: st.DataObject) -> None:
    """Though voters that are alike stay together. And there is one whenever there can be one."""
    every = [q for q in quorums("bcd") if q.required]
    enforced, goal = (data.draw(st.sampled_from(every)) for _ in range(2))
    known = data.draw(st.sampled_from([each for each in every if compatible(enforced, each)]))
    flushed = data.draw(st.frozensets(st.sampled_from("bcd")))
    least = shortest(enforced, known, goal, flushed)
    steps = way(enforced, known, goal, "".join(flushed))
    to = {step.where: step.to for step in steps}
    arrives = to.get(Where.ENGINE, enforced) == to.get(Where.REGISTER, known) == goal
    assert arrives == (least is not None)
    assert least is None or len(steps) == least


def test_seven_members_are_searched_in_a_moment() -> None:
    """It is decided in the loop that must not stand still."""
    six, four = of(3, "bcdefg"), of(3, "defg")
    assert len(list(durability._candidates(six, six, four, four.voters))) < 20
    assert next_step(six, six, four, four.voters) == Step(Where.ENGINE, four)


@given(st.data())
def test_who_confirms_under_the_engine_is_known_to_the_register(data: st.DataObject) -> None:
    """The meaning of `compatible`, by counting."""
    every = list(quorums("bcd"))
    enforced, known = data.draw(st.sampled_from(every)), data.draw(st.sampled_from(every))
    sets = [frozenset(s) for s in combinations(sorted(enforced.voters), enforced.required)]
    reached = all(len(s & known.voters) >= known.required for s in sets)
    assert compatible(enforced, known) == reached


def test_nothing_is_required_of_those_who_have_not_flushed() -> None:
    assert next_step(of(1, "b"), NOBODY, of(1, "b"), frozenset()) is None
    assert next_step(of(2, "bc"), of(1, "bc"), of(2, "bc"), frozenset("b")) is None


def test_a_quorum_that_can_never_confirm_is_refused() -> None:
    with pytest.raises(ValueError, match="can never confirm"):
        Quorum(frozenset("b"), 2)


@pytest.mark.parametrize(
    ("required", "gone", "arrived", "configured", "degrade", "goal"),
    [
        (1, "", "bc", 1, False, of(1, "bc")),
        (1, "c", "b", 1, False, of(1, "b")),
        (1, "bc", "", 1, False, of(1, "bc")),
        (1, "bc", "", 1, True, NOBODY),
        (1, "bc", "d", 1, False, of(1, "d")),
        (2, "c", "b", 2, False, of(2, "bc")),
        (2, "c", "b", 2, True, of(1, "b")),
        (1, "", "bcd", 2, False, of(2, "bcd")),
        (1, "bc", "", 2, False, of(2, "bc")),
    ],
    ids=[
        "at rest",
        "one of two is gone",
        "block: both are gone",
        "degrade: both are gone",
        "both are gone, another is there",
        "block: below what is required",
        "degrade: below what is required",
        "enough for more",
        "block: what is configured comes as soon as they are back",
    ],
)
def test_where_to_go(required: int, gone: str, arrived: str, configured: int, degrade: bool, goal: Quorum) -> None:
    assert desired(frozenset("bc"), required, frozenset(gone), frozenset(arrived), configured, degrade) == goal
