"""Histories made by hand, good and bad."""

from __future__ import annotations

from twinstar.router.base import Role
from twinstar.simulation.operations import Operation, Told, lost_or_invented, taken_back, went_back


def append(number: int, at: tuple[float, float], told: Told = Told.OK) -> Operation:
    return Operation("w", Role.WRITE, 0, number, None, *at, told)


def read(numbers: tuple[int, ...], at: tuple[float, float], endpoint: Role = Role.WRITE) -> Operation:
    return Operation("r", endpoint, 0, None, numbers, *at, Told.OK)


def test_what_was_confirmed_must_be_there_and_what_was_refused_must_not() -> None:
    history = [
        append(1, (0, 1)),
        append(2, (1, 2), Told.FAILED),
        append(3, (2, 3), Told.UNKNOWN),
        append(4, (3, 4), Told.UNKNOWN),
    ]
    assert lost_or_invented(history, {1, 3}) == []
    (lost,) = lost_or_invented(history, {3})
    (invented,) = lost_or_invented(history, {1, 2})
    assert "1 stands, and it is gone" in lost
    assert "2 failed, and it is there" in invented


def test_a_read_shows_what_was_confirmed_before_it_began() -> None:
    assert went_back([append(1, (0, 2)), read((), (1, 3))]) == []
    assert went_back([append(1, (0, 2)), read((1,), (3, 4))]) == []
    assert len(went_back([append(1, (0, 2)), read((), (3, 4))])) == 1


def test_a_read_shows_what_another_showed_before_it_began() -> None:
    seen = read((1, 2), (0, 2))
    assert went_back([seen, read((1,), (1, 3))]) == []
    assert went_back([seen, read((1, 2, 3), (3, 4))]) == []
    assert len(went_back([seen, read((1,), (3, 4))])) == 1
    assert len(went_back([seen, read((2, 1), (3, 4))])) == 1


def test_a_read_that_saw_less_does_not_excuse_the_next() -> None:
    assert len(went_back([read((1, 2), (0, 1)), read((1,), (0, 2)), read((1,), (3, 4))])) == 1


def test_standbys_may_be_behind_and_take_nothing_back() -> None:
    history = [append(1, (0, 1)), read((), (2, 3), Role.READ), read((1, 2), (4, 5), Role.READ)]
    assert went_back(history) == []
    assert taken_back(history, {1, 2}, {Role.READ}) == []
    assert taken_back(history, {1}, {Role.WRITE}) == []
    assert len(taken_back(history, {1}, {Role.READ})) == 1
