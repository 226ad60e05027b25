"""The state of a key is a join semilattice, and says of a row what its users were told."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.active_active.histories import GROUPS, SKEWS, STEPS, Step, deliver, forgetful, play, writes
from twinstar.rules.active_active.stamps import NONE, removal
from twinstar.rules.active_active.state import State, join, nothing
from twinstar.rules.active_active.writing import Writer, burial, deletion, found, insertion, update

A, B, C = 1, 2, 3


def states(nodes: Any) -> list[State]:
    return [nothing(GROUPS), *(node.state for node in nodes), *(write.delta for write in writes(nodes))]


@given(STEPS, SKEWS, st.data())
def test_join_is_associative_commutative_and_idempotent(steps: list[Step], skews: tuple[int, ...], data: Any) -> None:
    some = st.sampled_from(states(play(steps, skews)))
    one, two, three = data.draw(some), data.draw(some), data.draw(some)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, two) == join(two, one)
    assert join(one, one) == one
    assert join(nothing(GROUPS), one) == one


@given(STEPS, SKEWS, st.randoms(use_true_random=False))
def test_who_has_received_the_same_writes_is_in_the_same_state(
    steps: list[Step], skews: tuple[int, ...], chance: Any
) -> None:
    nodes = deliver(play(steps, skews))
    expected = nodes[0].state
    assert all(node.state == expected for node in nodes)
    everything = [write.delta for write in writes(nodes)]
    again = everything + chance.choices(everything, k=len(everything)) if everything else []
    chance.shuffle(again)
    assert reduce(join, again, nothing(GROUPS)) == expected


@given(STEPS, SKEWS)
def test_what_a_database_forgets_of_a_dead_row_changes_nothing(steps: list[Step], skews: tuple[int, ...]) -> None:
    nodes = play(steps, skews)
    for node in nodes:
        kept = forgetful(node.state)
        for write in writes(nodes):
            full, less = join(node.state, write.delta), join(kept, write.delta)
            assert (full.alive, full.values, full.sums) == (less.alive, less.values, less.sums)


@given(STEPS, SKEWS)
def test_a_write_is_what_its_writer_sees_at_once(steps: list[Step], skews: tuple[int, ...]) -> None:
    nodes = play(steps, skews)
    node, by = nodes[0], Writer(1, 1)
    if node.state.alive:
        changed = join(node.state, update(node.state, by, {1: "new"}, (5,)))
        assert changed.values is not None and changed.values[1] == "new"
        assert (changed.sums, node.state.sums) != (None, None)
        assert changed.sums is not None and node.state.sums is not None
        assert changed.sums[0] == node.state.sums[0] + 5
        assert not join(node.state, deletion(node.state, by)).alive
    else:
        made = join(node.state, insertion(node.state, by, ("x", "y"), (5,)))
        assert (made.values, made.sums) == (("x", "y"), (5,))


@given(STEPS, SKEWS)
def test_no_increment_is_lost(steps: list[Step], skews: tuple[int, ...]) -> None:
    """Everything that was added counts, to the row as it was first made or made anew by the winner or since, unless its
    row was made before a deletion on which the winner was made.
    """
    nodes = deliver(play(steps, skews))
    state, all_writes = nodes[0].state, writes(nodes)
    if not state.alive:
        return
    assert state.head is not None and state.sums is not None
    base = state.head.base
    assert state.sums[0] == sum(write.added for write in all_writes if write.born > base)
    deletions = {write.delta.tombstone for write in all_writes if write.delta.buried}
    assert base == NONE or any(base >= each for each in deletions)
    if not deletions:
        assert state.sums[0] == sum(write.added for write in all_writes)


@given(STEPS, SKEWS)
def test_a_group_has_the_newest_that_was_written_to_it(steps: list[Step], skews: tuple[int, ...]) -> None:
    nodes = deliver(play(steps, skews))
    for group, cell in enumerate(nodes[0].state.cells):
        written = [write.delta.cells[group] for write in writes(nodes) if write.delta.head]
        assert cell.stamp == max((each.stamp for each in written), default=NONE)


def made(node: int, now_us: int, state: State | None = None, amount: int = 0) -> State:
    state = state or nothing(GROUPS)
    return join(state, insertion(state, Writer(node, now_us), ("one", "two"), (amount,)))


def test_a_row_that_comes_back_has_the_same_groups_everywhere() -> None:
    row = made(A, 5)
    grave = deletion(row, Writer(A, 100))
    second = update(row, Writer(B, 90), {1: "at 90"})
    first = update(row, Writer(C, 110), {0: "at 110"})
    for order in ((grave, second, first), (second, first, grave), (first, grave, second)):
        assert reduce(join, order, row).values == ("at 110", "at 90")


def test_two_that_delete_and_make_anew_both_count() -> None:
    row = made(A, 5, amount=1000)
    at_a = join(row, deletion(row, Writer(A, 100)))
    at_b = join(row, deletion(row, Writer(B, 105)))
    for a_us, b_us in ((110, 112), (115, 112)):
        both = join(made(A, a_us, at_a, 5), made(B, b_us, at_b, 7))
        assert both.sums == (12,)


def test_counters_outlive_a_deletion_that_their_row_outlives() -> None:
    row = made(A, 5, amount=10)
    later = update(row, Writer(B, 120), {0: "later"}, (1,))
    assert join(join(row, deletion(row, Writer(A, 100))), later).sums == (11,)


def test_who_has_forgotten_a_tombstone_makes_rows_above_it() -> None:
    old = made(A, 5, amount=10)
    grave = join(old, deletion(old, Writer(A, 100)))
    forgotten = nothing(GROUPS)
    slow = Writer(B, 50, floor=grave.tombstone, collected=grave.tombstone)
    delta = insertion(forgotten, slow, ("x", "y"), (3,))
    assert join(grave, delta).sums == join(forgotten, delta).sums == (3,)
    assert not join(grave, insertion(forgotten, Writer(B, 50), ("x", "y"), (3,))).alive


def test_a_found_row_is_the_same_everywhere() -> None:
    row = found(("x", "y"), (7,))
    assert row.alive
    one, two = (update(row, Writer(node, 5), {}, (node,)) for node in (A, B))
    assert join(join(row, one), two).sums == (10,)
    assert not join(row, deletion(row, Writer(A, 5))).alive


def test_an_increment_takes_nothing_else_away() -> None:
    row = made(A, 5)
    wrote, added = update(row, Writer(B, 10), {0: "B's"}), update(row, Writer(A, 11), {}, (1,))
    both = join(join(row, wrote), added)
    assert both.values == ("B's", "two")
    assert both.sums == (1,)


@given(STEPS, SKEWS)
def test_a_removal_takes_the_version_and_no_later_one(steps: list[Step], skews: tuple[int, ...]) -> None:
    for node in play(steps, skews):
        if node.state.alive:
            grave = burial(node.state, removal(node.state.stamp))
            assert not join(node.state, grave).alive
            later = update(node.state, Writer(2, 0), {0: "later"})
            assert join(join(node.state, later), grave).alive
            assert join(grave, grave) == grave


def test_what_cannot_be_written_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        deletion(nothing(GROUPS), Writer(A, 1))
    with pytest.raises(AssertionError):
        update(nothing(GROUPS), Writer(A, 1), {})
    with pytest.raises(AssertionError):
        made(A, 6, made(A, 5))
