"""Unique keys, collection of tombstones, members that die, and clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinstar.rules.active_active.collecting import Report, collectable, effective
from twinstar.rules.active_active.membership import Missing, end_of, kept_from, missing, next_number
from twinstar.rules.active_active.skew import Offset, fenced, measured, suspect
from twinstar.rules.active_active.stamps import NODES, NONE
from twinstar.rules.active_active.uniques import Claim, losers

SECOND_US = 1_000_000
CLAIMS = st.lists(st.builds(Claim, st.integers(0, 5), st.integers(0, 3)), unique=True, max_size=5)


@given(CLAIMS.filter(bool))
def test_of_all_who_collide_one_stays_or_the_others_do(claims: list[Claim]) -> None:
    arriving, *holders = claims
    gone = losers(arriving, holders)
    assert gone in ({arriving}, set(holders))
    assert all(any(each.loses_to(other) for other in {arriving, *holders} - gone) for each in gone)


def test_a_row_that_loses_removes_none() -> None:
    assert losers(Claim("k3", 20), [Claim("k1", 10), Claim("k2", 30)]) == {Claim("k3", 20)}
    assert losers(Claim("k3", 20), [Claim("k1", 20)]) == {Claim("k1", 20)}, "equal stamps of two keys"


def test_a_tombstone_is_forgotten_when_nothing_can_be_late() -> None:
    cut = {1: 100, 2: 50, 3: 70}
    here, others = 1, (2, 3)
    reports = {2: Report({1: 100, 3: 70}, 900), 3: Report({1: 120, 2: 50}, 800)}
    assert collectable(cut, reports, others, 1000) == 800
    assert collectable(cut, reports, others, 700) == 700, f"the floor of {here} itself"
    assert collectable(cut, {2: reports[2]}, others, 1000) == NONE, "a member that is away"
    behind = reports | {3: Report({1: 120, 2: 49}, 800)}
    assert collectable(cut, behind, others, 1000) == NONE
    assert collectable(cut, reports | {3: Report({1: 120}, 800)}, others, 1000) == NONE, "a stream it never read"


def test_what_waits_holds_the_position_back() -> None:
    assert effective(100, []) == 100
    assert effective(100, [70, 90]) == 69


def test_the_end_of_a_dead_members_log() -> None:
    received = {1: 300, 2: 500, 4: 500}
    assert end_of(received, (1, 2, 4)) == 500
    assert missing(300, received, ()) is None
    assert missing(1, received, (1, 2, 4)) == Missing(2, 300, 500)
    assert missing(4, received, (1, 2, 4)) is None
    assert end_of(received, (1, 2, 3, 4)) is None, "one has not stopped receiving"
    assert missing(1, received, (1, 2, 3, 4)) is None
    assert kept_from(received, (1, 2, 4)) == 300
    assert kept_from(received, (1, 2, 3, 4)) == 0


def test_numbers_are_spent() -> None:
    assert next_number([]) == 1
    assert next_number([1, 2, 7, 3]) == 8
    assert next_number(NODES) is None


def test_of_three_the_wrong_clock_is_fenced() -> None:
    right, fast, slow = (
        Offset(-200, 300),
        Offset(12 * SECOND_US, 12 * SECOND_US + 500),
        Offset(-13 * SECOND_US, -12 * SECOND_US),
    )
    bound = 10 * SECOND_US
    assert fenced([slow, slow], 3, bound), "it is the fast one itself"
    assert fenced([fast, fast], 3, bound)
    assert not fenced([right, fast], 3, bound)
    assert suspect([right, fast], bound)
    assert not fenced([fast], 2, bound), "of two nobody can say which"
    assert not fenced([fast], 3, bound), "one peer alone answers"
    assert not fenced([right, right], 3, bound)


def test_a_slow_answer_accuses_nobody() -> None:
    offset = measured(0, 14 * SECOND_US, 5 * SECOND_US)
    assert offset == Offset(9 * SECOND_US, 14 * SECOND_US)
    assert not offset.surely_beyond(10 * SECOND_US)
    assert measured(0, 14 * SECOND_US, 1000).surely_beyond(10 * SECOND_US)
