"""Whatever is lost is found to be lost, on the node that wrote it and on every other one."""

from __future__ import annotations

from hypothesis import given

from tests.rules.active_active.histories import SKEWS, STEPS, Step, Write, deliver, play, writes
from twinstar.rules.active_active.conflicts import Replaced, lost
from twinstar.rules.active_active.state import State, join, nothing
from twinstar.rules.active_active.writing import Writer, deletion, insertion, update


@given(STEPS, SKEWS)
def test_every_lost_version_is_found_on_every_node(steps: list[Step], skews: tuple[int, ...]) -> None:
    """Lost: it is not there at the end, and no write was made over it."""
    nodes = deliver(play(steps, skews))
    state, everything = nodes[0].state, writes(nodes)
    for group in range(len(state.cells)):
        written = {write.delta.cells[group].stamp for write in everything if write.delta.head}
        over = {write.over[group] for write in everything if write.over and _wrote(write.delta, write.over, group)}
        there = {state.cells[group].stamp} if state.alive else set()
        for node in nodes:
            assert written - over - there <= {each.stamp for each in node.lost if each.group == group}


def _wrote(delta: State, over: tuple[int, ...], group: int) -> bool:
    return delta.head is None or delta.cells[group].stamp != over[group]


@given(STEPS)
def test_two_nodes_never_take_a_successor_for_a_conflict(steps: list[Step]) -> None:
    """With two nodes nothing comes round a corner: what won was written without knowing what is logged."""
    two = [step for step in steps if 3 not in (step[0], step[2] if step[1] == "hear" else 0)]
    nodes = deliver(play(two, (0, 7, 0))[:2])
    for each in (each for node in nodes for each in node.lost):
        assert each.stamp not in _ancestors(each.winner, each.group, writes(nodes))


def _ancestors(stamp: int, group: int, everything: list[Write]) -> set[int]:
    """What a version or a tombstone was written over, and what that was written over."""
    before: dict[int, int] = {}
    for write in everything:
        if write.over and _wrote(write.delta, write.over, group):
            written = write.delta.cells[group].stamp if write.delta.head else write.delta.tombstone
            before[written] = write.over[group]
    found: set[int] = set()
    while stamp in before:
        stamp = before[stamp]
        found.add(stamp)
    return found


def test_examples() -> None:
    row = join(nothing(1), insertion(nothing(1), Writer(1, 5), ("made",)))
    over = (row.cells[0].stamp,)
    known = Replaced(over, over)
    one, two = update(row, Writer(1, 10), {0: "one"}), update(row, Writer(2, 11), {0: "two"})
    assert not lost(row, one, known), "a successor"
    (gone,) = lost(one, two, known)
    assert (gone.values, gone.winner) == ("one", two.stamp)
    (gone,) = lost(two, one, known)
    assert gone.values == "one"
    grave = deletion(row, Writer(1, 12))
    assert not lost(row, grave, known)
    assert [each.values for each in lost(two, grave, known)] == ["two"]
    dead = join(row, grave)
    assert not lost(dead, row, Replaced()), "the tombstone names it"
    assert [each.values for each in lost(dead, two, known)] == ["two"]
    batch = Replaced(over, (one.stamp,))
    assert not lost(one, update(one, Writer(1, 20), {0: "last"}), batch), "what the last of a batch replaced"
