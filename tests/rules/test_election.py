"""Who may lead: the intersection argument, on clusters and logs that Hypothesis invents."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.views import electing
from twinstar.model.position import Position
from twinstar.model.register import Register, Seal
from twinstar.rules.election import admissible, choose, majority

Writes = list[frozenset[str]]


@st.composite
def elections(draw: st.DrawFn) -> tuple[Register, Writes, frozenset[str]]:
    """A register under election, the acknowledged writes as the copies that hold each, and the copies that sealed.

    Logs are prefixes of one another: who holds a write holds those before it as well.
    """
    size = draw(st.integers(2, 5))
    copies = [f"n{i}" for i in range(1, size + 1)]
    required = draw(st.integers(0, size - 1))
    register = electing(copies=frozenset(copies), required=required, leader="n1")
    lengths = {m: draw(st.integers(0, 6)) for m in copies[1:]} | {"n1": 6}
    written = [frozenset(m for m in copies if lengths[m] > at) for at in range(6)]
    acknowledged = [holders for holders in written if len(holders - {"n1"}) >= required]
    return register, acknowledged, frozenset(draw(st.sets(st.sampled_from(copies))))


def published(register: Register, writes: Mapping[str, int]) -> dict[str, Seal]:
    return {m: Seal(m, register.epoch, Position(1, lsn)) for m, lsn in writes.items()}


@given(elections())
def test_the_winner_holds_every_acknowledged_write(election: tuple[Register, Writes, frozenset[str]]) -> None:
    register, acknowledged, sealed = election
    lengths = {m: sum(m in holders for holders in acknowledged) for m in sealed}
    winner = choose(register, published(register, lengths), alive=sealed, priorities={"n3": 9, "n4": 5})
    if winner is not None:
        assert all(winner.member in holders for holders in acknowledged)


@given(elections())
def test_nothing_can_be_acknowledged_once_an_admissible_set_has_sealed(
    election: tuple[Register, Writes, frozenset[str]],
) -> None:
    register, _, sealed = election
    free = register.copies - sealed
    if admissible(register, sealed) and register.leader not in sealed:
        assert len(free - {register.leader}) < max(1, register.required)


@pytest.mark.parametrize("size", range(1, 6))
def test_a_set_is_admissible_exactly_when_it_meets_every_set_that_could_confirm(size: int) -> None:
    copies = [f"n{i}" for i in range(1, size + 1)]
    for required in range(size):
        register = electing(copies=frozenset(copies), required=required, leader="n1")
        confirming = [{"n1", *voters} for voters in combinations(copies[1:], required)]
        for count in range(size + 1):
            for sealed in combinations(copies, count):
                meets = all(set(sealed) & each for each in confirming)
                if admissible(register, sealed):
                    assert meets
                if meets and "n1" not in sealed and required:
                    assert admissible(register, sealed)


def test_one_that_is_no_copy_does_not_count() -> None:
    register = electing(copies=frozenset({"n1", "n2", "n3"}))
    outsider = Seal("n9", register.epoch, Position(9, 9_999))
    assert not admissible(register, {"n2", "n9"})
    assert choose(register, {"n9": outsider, **published(register, {"n2": 5})}, {"n2", "n9"}, {}) is None


@pytest.mark.parametrize(
    ("positions", "priorities", "winner"),
    [
        ({"n2": (5, 100), "n3": (5, 100)}, {}, "n3"),
        ({"n2": (5, 100), "n3": (5, 100)}, {"n2": 1}, "n2"),
        ({"n2": (5, 100), "n3": (5, 101)}, {"n2": 1}, "n3"),
        ({"n2": (4, 900), "n3": (5, 100)}, {"n2": 9}, "n3"),
        ({"n1": (5, 100), "n2": (5, 100)}, {"n2": 1}, "n2"),
    ],
    ids=["the last name", "priority among equals", "the log before priority", "the timeline first", "the old leader"],
)
def test_who_wins(positions: dict[str, tuple[int, int]], priorities: dict[str, int], winner: str) -> None:
    register = electing()
    found = {m: Seal(m, register.epoch, Position(*p)) for m, p in positions.items()}
    chosen = choose(register, found, alive=positions.keys(), priorities=priorities)
    assert chosen is not None
    assert chosen.member == winner


def test_a_dead_winner_is_passed_over_only_when_another_set_is_admissible() -> None:
    register = electing()
    three = published(register, {"n1": 90, "n2": 100, "n3": 80})
    chosen = choose(register, three, alive={"n1", "n3"}, priorities={})
    assert chosen is not None
    assert chosen.member == "n1", "{n1, n3} is admissible without n2"
    two = published(register, {"n2": 100, "n3": 80})
    assert choose(register, two, alive={"n3"}, priorities={}) is None, "{n3} alone may lack what n2 holds"


def test_the_stopped_leader_is_enough_by_itself() -> None:
    register = electing(required=2, copies=frozenset({"n1", "n2", "n3", "n4", "n5"}))
    chosen = choose(register, published(register, {"n1": 90}), alive={"n1"}, priorities={})
    assert chosen is not None
    assert chosen.member == "n1"


def test_seals_of_another_epoch_do_not_count() -> None:
    register = electing()
    stale = {m: Seal(m, register.epoch - 1, Position(5, 100)) for m in ("n2", "n3")}
    assert choose(register, stale, alive={"n2", "n3"}, priorities={}) is None


@pytest.mark.parametrize(("members", "enough"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_majority(members: int, enough: int) -> None:
    assert majority(members) == enough
