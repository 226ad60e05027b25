"""For how many others a commit waits, as they come and go."""

from __future__ import annotations

from twinstar.agent.active_active.confirming import Confirming

BOTH, ONE, NOBODY = frozenset({2, 3}), frozenset({2}), frozenset[int]()
PATIENCE_MS = 1_000.0


def test_block_waits_for_those_who_are_in_whether_or_not_they_read() -> None:
    confirming = Confirming(2, None)
    assert [confirming.required(BOTH, attached, 0) for attached in (BOTH, ONE, NOBODY)] == [2, 2, 2]
    assert confirming.required(ONE, NOBODY, 1e9) == 1
    assert confirming.required(NOBODY, NOBODY, 1e9) == 0


def test_degrade_waits_for_a_while_for_who_is_away_and_again_once_it_is_back() -> None:
    confirming = Confirming(2, PATIENCE_MS)
    assert confirming.required(BOTH, NOBODY, 0) == 2, "who has not come yet may be about to"
    assert confirming.required(BOTH, BOTH, 900) == 2
    assert confirming.required(BOTH, ONE, 1_900) == 2
    assert confirming.required(BOTH, ONE, 1_901) == 1
    assert confirming.required(BOTH, NOBODY, 2_901) == 1
    assert confirming.required(BOTH, NOBODY, 2_902) == 0
    assert confirming.required(BOTH, ONE, 9_000) == 1
    assert confirming.required(BOTH, BOTH, 9_000) == 2


def test_degrade_does_not_remember_who_was_taken_out() -> None:
    confirming = Confirming(1, PATIENCE_MS)
    confirming.required(BOTH, BOTH, 0)
    confirming.required(frozenset({3}), NOBODY, 5_000)
    assert confirming.required(frozenset({3, 4}), NOBODY, 5_000) == 1, "the new one is given time"
