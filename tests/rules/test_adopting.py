"""What a cluster goes on with when its store has gone back: above every promise, with the data that hold everything."""

from __future__ import annotations

import pytest

from tests.rules.views import REGISTER
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase
from twinstar.rules.active_passive.adopting import Holding, adoption
from twinstar.rules.active_passive.operator import Refused


def holding(member: str, timeline: int, lsn: int, promise: int = 0, *, leads: bool = False) -> Holding:
    return Holding(member, True, promise or timeline, Position(timeline, lsn), leads, "77")


LATER = [holding("n1", 7, 100, 9), holding("n2", 8, 50), holding("n3", 8, 60)]


def test_the_most_advanced_counts_above_every_promise() -> None:
    plan = adoption(REGISTER, LATER, Durability.QUORUM)
    assert (plan.chosen, plan.doubts) == ("n3", ())
    assert (plan.register.epoch, plan.register.phase) == (10, Phase.ELECTING)
    assert (plan.register.copies, plan.register.required) == (frozenset({"n3"}), 0)
    assert plan.register.system_identifier == "77"


def test_a_leader_that_runs_is_chosen_though_another_log_is_as_long() -> None:
    leading = [holding("n1", 8, 60, leads=True), *LATER[1:]]
    assert adoption(REGISTER, leading, Durability.QUORUM).chosen == "n1"
    other = adoption(REGISTER, leading, Durability.QUORUM, "n3")
    assert other.doubts == ("n1 leads (8:0/3C)",)


def test_an_earlier_leader_that_still_runs_has_nothing_that_counts() -> None:
    unaware = [holding("n1", 7, 900, leads=True), *LATER[1:]]
    assert adoption(REGISTER, unaware, Durability.QUORUM).chosen == "n3"
    assert adoption(REGISTER, unaware, Durability.QUORUM, "n1").doubts == ("n3 has more (8:0/3C)",)


def test_who_does_not_answer_may_hold_more() -> None:
    plan = adoption(REGISTER, [*LATER[:2], Holding("n3", answers=False)], Durability.QUORUM)
    assert (plan.chosen, plan.doubts) == ("n2", ("n3 does not answer",))
    silent = adoption(REGISTER, [*LATER[:2], Holding("n3", True, 8)], Durability.QUORUM)
    assert silent.doubts == ("n3 does not say how far its log reaches",)


def test_a_lost_entry_is_made_anew() -> None:
    made = adoption(None, LATER, Durability.QUORUM).register
    assert (made.epoch, made.leader, made.durability, made.system_identifier) == (10, "n3", Durability.QUORUM, "77")


def test_a_store_that_is_right_is_left_alone_unless_it_was_restored() -> None:
    level = [holding("n1", 5, 100), holding("n2", 5, 100)]
    with pytest.raises(Refused, match="nothing to adopt"):
        adoption(REGISTER, level, Durability.QUORUM)
    assert adoption(REGISTER, level, Durability.QUORUM, restored=True).register.epoch == REGISTER.epoch + 1


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(Refused, match="not of one cluster"):
        adoption(REGISTER, [*LATER[:2], Holding("n3", True, 8, Position(8, 60), False, "78")], Durability.QUORUM)
    with pytest.raises(Refused, match="n9 does not say"):
        adoption(REGISTER, LATER, Durability.QUORUM, "n9")
    with pytest.raises(Refused, match="No member says"):
        adoption(None, [Holding("n1", answers=False)], Durability.QUORUM)
