"""Stamps grow, whatever the clocks do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.rules.active_active.stamps import (
    FOUND,
    LAST_US,
    NODES,
    NONE,
    REMOVAL,
    clock_us,
    following,
    node_of,
    pack,
    removal,
)

CLOCK = st.integers(0, LAST_US - 10)
NODE = st.sampled_from(NODES)
STAMP = st.one_of(
    st.just(NONE), st.just(FOUND), st.builds(pack, CLOCK, NODE), st.builds(removal, st.builds(pack, CLOCK, NODE))
)


@given(CLOCK, NODE)
def test_a_stamp_says_when_and_who(clock: int, node: int) -> None:
    stamp = pack(clock, node)
    assert (clock_us(stamp), node_of(stamp)) == (clock, node)
    assert 0 < stamp < 1 << 63


@given(STAMP, CLOCK, NODE)
def test_what_follows_is_greater_and_its_writers(known: int, now_us: int, node: int) -> None:
    stamp = following(known, now_us, node)
    assert stamp > known
    assert node_of(stamp) == node
    assert clock_us(stamp) >= now_us


@given(STAMP, CLOCK, NODE, NODE)
def test_two_nodes_never_write_the_same_stamp(known: int, now_us: int, one: int, other: int) -> None:
    assert (following(known, now_us, one) == following(known, now_us, other)) == (one == other)


@given(STAMP.filter(lambda stamp: stamp >= FOUND), CLOCK, NODE)
def test_a_removal_is_between_a_version_and_whatever_follows(version: int, now_us: int, node: int) -> None:
    gone = removal(version)
    assert version <= gone < following(version, now_us, node)
    assert (gone == version) == (node_of(version) == REMOVAL)
    assert removal(gone) == gone


@pytest.mark.parametrize(("clock", "node"), [(-1, 1), (LAST_US + 1, 1), (0, 0), (0, REMOVAL), (0, 5000)])
def test_what_does_not_fit_is_refused(clock: int, node: int) -> None:
    with pytest.raises(ValueError, match=r"a stamp's clock|a node's number"):
        pack(clock, node)
