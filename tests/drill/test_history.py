"""The history checks find what is wrong in hand-made histories, and nothing in good ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinstar.drill.history import (
    Attempt,
    acknowledged_per_bin,
    apart,
    audit,
    gaps,
    longest_gap,
    median_and_maximum,
)
from twinstar.histories.operation import Outcome


def attempt(number: int, outcome: Outcome, *, at: float = 0.0, client: int = 0, attempt: int = 0) -> Attempt:
    return Attempt(client, number, attempt, at - 1, at, outcome)


ACK, FAILED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.FAILED, Outcome.UNKNOWN


def test_a_good_history_is_sound() -> None:
    told = [attempt(1, ACK), attempt(2, FAILED), attempt(2, ACK, attempt=1), attempt(3, UNKNOWN)]
    found = audit(told, [(0, 1, 0), (0, 2, 1)])
    assert found.sound
    assert (found.acknowledged, found.failed, found.unknown, found.duplicates) == (2, 1, 1, 0)


def test_an_acknowledged_row_that_is_gone_is_lost() -> None:
    found = audit([attempt(1, ACK), attempt(2, ACK)], [(0, 2, 0)])
    assert found.lost == ((0, 1, 0),)
    assert not found.sound


def test_a_repetition_does_not_hide_a_loss() -> None:
    """The acknowledged attempt is gone; that a later attempt of the same number is there does not excuse it."""
    found = audit([attempt(1, ACK), attempt(1, ACK, attempt=1)], [(0, 1, 1)])
    assert found.lost == ((0, 1, 0),)


def test_the_same_number_of_another_client_does_not_hide_a_loss() -> None:
    assert audit([attempt(1, ACK, client=0)], [(1, 1, 0)]).lost == ((0, 1, 0),)


def test_unknown_rows_that_are_there_count_and_make_duplicates() -> None:
    told = [attempt(1, UNKNOWN), attempt(1, UNKNOWN, attempt=1), attempt(1, ACK, attempt=2)]
    found = audit(told, [(0, 1, 0), (0, 1, 1), (0, 1, 2)])
    assert (found.unknown_present, found.duplicates, found.lost) == (2, 2, ())
    assert found.sound


def test_a_refused_row_that_is_there_is_a_phantom() -> None:
    found = audit([attempt(1, FAILED)], [(0, 1, 0), (9, 9, 9)])
    assert found.phantoms == ((0, 1, 0), (9, 9, 9))
    assert not found.sound


def test_the_longest_gap_is_the_worst_clients_own() -> None:
    """Another client's acknowledgements do not shorten it."""
    told = [attempt(n, ACK, at=at, client=0) for n, at in enumerate((10, 500, 990))]
    told += [attempt(n, ACK, at=at, client=1) for n, at in enumerate(range(0, 1000, 50))]
    worst = longest_gap(told, 0, 1000)
    assert (worst.client, worst.length_ms, worst.open_end) == (0, 490, False)


def test_a_client_that_never_comes_back_is_without_service_until_the_end() -> None:
    worst = longest_gap([attempt(1, ACK, at=100), attempt(2, FAILED, at=900)], 0, 1000)
    assert (worst.from_ms, worst.length_ms, worst.open_end) == (100, 900, True)


def test_a_client_that_never_had_service_counts() -> None:
    told = [attempt(n, ACK, at=n, client=0) for n in range(0, 100, 5)] + [attempt(1, UNKNOWN, at=50, client=1)]
    assert longest_gap(told, 0, 100).client == 1
    assert longest_gap([], 0, 100).length_ms == 100


def test_acknowledgements_outside_the_window_do_not_count() -> None:
    worst = longest_gap([attempt(1, ACK, at=-5), attempt(2, ACK, at=30), attempt(3, ACK, at=200)], 0, 100)
    assert (worst.from_ms, worst.to_ms) == (30, 100)


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_the_gaps_of_a_client_fill_the_window(times: list[float]) -> None:
    told = [attempt(n, ACK, at=at) for n, at in enumerate(times)]
    if told:
        assert abs(sum(gap.length_ms for gap in gaps(told, 0, 1000)) - 1000) < 1e-6


def test_bins_hold_every_acknowledgement_of_the_window() -> None:
    told = [attempt(n, ACK, at=n * 7) for n in range(100)] + [attempt(5, UNKNOWN, at=10)]
    bins = acknowledged_per_bin(told, 0, 699, 20)
    assert sum(bins) == 100
    assert bins[0] == 3


def test_median_and_maximum() -> None:
    assert median_and_maximum([3, 1, 8]) == (3, 8)
    assert median_and_maximum([]) == (0.0, 0.0)


def on(node: str, client: int, number: int, at: float, outcome: Outcome = ACK) -> Attempt:
    return Attempt(client, number, 0, at - 1, at, outcome, node=node)


def test_clients_of_the_struck_node_are_told_apart_from_the_others() -> None:
    told = [on("n1", 0, number, 10.0 * number) for number in range(1, 6)]
    told += [on("n1", 0, 6, 52, UNKNOWN), on("n2", 0, 7, 90), on("n2", 0, 8, 100)]
    told += [on("n2", 1, number, 5.0 * number) for number in range(1, 21)]
    found = apart(told, "n1", fault_ms=50.5, from_ms=0, to_ms=100)
    assert (found.struck, found.struck_outage_ms) == (1, 40)
    assert (found.others, found.others_outage_ms, found.others_failed) == (1, 5, 0)


def test_a_failure_of_the_others_counts_from_the_fault_on() -> None:
    told = [on("n2", 1, 1, 10, FAILED), on("n2", 1, 1, 20), on("n2", 1, 2, 60, UNKNOWN), on("n1", 0, 1, 49)]
    assert apart(told, "n1", fault_ms=50, from_ms=0, to_ms=100).others_failed == 1


def test_who_had_moved_before_the_fault_is_none_of_the_struck_node() -> None:
    told = [on("n1", 0, 1, 10), on("n2", 0, 2, 20), on("n2", 0, 3, 80)]
    found = apart(told, "n1", fault_ms=50, from_ms=0, to_ms=100)
    assert (found.struck, found.struck_outage_ms, found.others) == (0, 0, 1)
