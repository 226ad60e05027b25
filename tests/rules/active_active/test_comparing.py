"""Comparing nodes: what differs is found, what is on its way is not counted, and it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.comparing import Key, Known, Range, Sum, Version
from twinstar.rules.active_active.comparing import (
    CHUNK_ROWS,
    LISTED_ROWS,
    Chunk,
    Comparison,
    Cut,
    How,
    Listing,
    Question,
    Repair,
    Summarise,
    begin,
    repair,
)

Rows = dict[Key, Version]


def key(number: int) -> Key:
    return (f"{number:09}",)


def rows(*numbers: int, stamp: int = 1) -> Rows:
    return {key(number): Version(stamp, hash((number, stamp))) for number in numbers}


@dataclass
class World:
    """Nodes that answer, and what happens before each answer."""

    nodes: dict[str, Rows]
    meanwhile: Callable[[World], None] = lambda _: None
    asked: list[Question] = field(default_factory=list)

    def run(self, state: Comparison) -> Comparison:
        while state.todo:
            self.meanwhile(self)
            question = state.todo[0]
            self.asked.append(question)
            state = self._answer(state, question)
        return state

    def compare(self, looks: int = 1) -> Comparison:
        state = self.run(begin(min(self.nodes)))
        for _ in range(looks):
            state = self.run(state.look_again())
        return state

    def _answer(self, state: Comparison, question: Question) -> Comparison:
        match question:
            case Chunk(node, after):
                return state.chunk_ended(question, self._at(node, Range(after), CHUNK_ROWS))
            case Cut(node, within, place):
                return state.was_cut(question, self._at(node, within, place))
            case Summarise(within):
                sums = {}
                for node in self.nodes:
                    there = self._in(node, within)
                    sums[node] = Sum(len(there), hash(frozenset(there.items())))
                return state.summarised(question, sums)
            case Listing(within):
                return state.listed(question, {node: self._in(node, within) for node in self.nodes})

    def _in(self, node: str, within: Range) -> Rows:
        return {
            key: version
            for key, version in self.nodes[node].items()
            if (within.after is None or key > within.after) and (within.upto is None or key <= within.upto)
        }

    def _at(self, node: str, within: Range, place: int) -> Key | None:
        keys = sorted(self._in(node, within))
        return keys[place - 1] if len(keys) >= place else None


TABLES = st.dictionaries(st.integers(0, 2_000).map(key), st.builds(Version, st.integers(0, 3), st.integers(0, 3)))


@given(st.lists(TABLES, min_size=2, max_size=3))
def test_exactly_what_differs_is_found(tables: list[Rows]) -> None:
    world = World({f"n{number}": table for number, table in enumerate(tables, 1)})
    state = world.compare()
    everywhere = {each for table in tables for each in table}
    expected = {each for each in everywhere if len({table.get(each) for table in tables}) > 1}
    assert set(state.differing) == expected
    assert not state.suspects


def test_a_large_table_with_one_difference_costs_few_questions() -> None:
    whole = rows(*range(CHUNK_ROWS * 3 + 17))
    other = dict(whole)
    del other[key(CHUNK_ROWS + 5)]
    world = World({"n1": other, "n2": whole, "n3": whole})
    state = world.compare()
    assert set(state.differing) == {key(CHUNK_ROWS + 5)}
    assert state.compared == len(whole)
    chunks, halvings = 4, (CHUNK_ROWS // LISTED_ROWS).bit_length()
    assert len(world.asked) <= 2 * chunks + 3 * halvings + 2
    listed = [len(world._in("n2", question.range)) for question in world.asked if isinstance(question, Listing)]
    assert max(listed) <= LISTED_ROWS


def test_a_node_that_lacks_everything_is_no_endless_work() -> None:
    world = World({"n1": {}, "n2": rows(*range(3_000))})
    state = world.compare()
    assert len(state.differing) == 3_000
    assert len(world.asked) < 100


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2"]), st.integers(0, 900), st.integers(1, 9)), max_size=200))
def test_it_ends_while_everything_changes(changes: list[tuple[str, int, int]]) -> None:
    left = list(changes)

    def meanwhile(world: World) -> None:
        for _ in range(3):
            if left:
                node, number, stamp = left.pop()
                if stamp == 9:
                    world.nodes[node].pop(key(number), None)
                else:
                    world.nodes[node][key(number)] = Version(stamp, stamp)

    world = World({"n1": rows(*range(800)), "n2": rows(*range(800))}, meanwhile)
    state = world.compare(looks=100)
    assert len(world.asked) < 1_000
    assert not state.todo


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_what_arrives_before_the_second_look_or_goes_on_changing_is_not_counted(
    late: set[int], lost: set[int], busy: set[int]
) -> None:
    late, busy = late - lost, busy - lost - late
    world = World({"n1": rows(*range(51)), "n2": rows(*set(range(51)) - late - lost - busy)})
    state = world.run(begin("n1"))
    world.nodes["n2"].update(rows(*late))
    for number in busy:
        world.nodes["n1"][key(number)] = Version(2, 2)
    state = world.run(state.look_again())
    assert set(state.differing) == set(map(key, lost))
    assert set(state.suspects) == set(map(key, busy))
    world.nodes["n2"].update({key(number): Version(2, 2) for number in busy})
    state = world.run(state.look_again())
    assert (set(state.differing), dict(state.suspects)) == (set(map(key, lost)), {})


KNOWN = st.builds(
    Known,
    st.one_of(st.none(), st.builds(Version, st.integers(0, 5), st.integers(0, 1))),
    st.one_of(st.none(), st.integers(0, 5)),
).filter(lambda each: each.row is None or each.tombstone is None or each.row.stamp > each.tombstone)


@given(st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), KNOWN, min_size=2))
def test_a_repair_makes_all_equal(known: dict[str, Known]) -> None:
    wanted = repair(known)
    if wanted is None:
        assert len({each.row for each in known.values()}) == 1
        return
    sent = known[wanted.node]
    if wanted.how is How.ANEW:
        assert sent.row is not None
        sent = Known(Version(sent.newest + 1, sent.row.digest))
    after = {node: received(each, sent) for node, each in known.items() if node != wanted.node}
    after[wanted.node] = sent
    assert len({each.row for each in after.values()}) == 1
    assert all(each.newest >= known[node].newest for node, each in after.items()), "nothing newer was taken away"


def received(here: Known, sent: Known) -> Known:
    """What a node knows when it has received all of another's: the greater wins, and of equals what is here."""
    return sent if sent.newest > here.newest else here


def test_of_two_contents_of_one_version_the_one_that_most_have_stays() -> None:
    wrong, right = Known(Version(7, 1)), Known(Version(7, 2))
    assert repair({"n1": wrong, "n2": right, "n3": right}) == Repair("n2", How.ANEW)
    assert repair({"n1": wrong, "n2": right}) == Repair("n1", How.ANEW)


def test_the_newest_is_sent_again_be_it_a_row_or_a_tombstone() -> None:
    row, deleted = Known(Version(7, 1)), Known(None, 9)
    assert repair({"n1": row, "n2": Known(None)}) == Repair("n1", How.AGAIN)
    assert repair({"n1": row, "n2": deleted}) == Repair("n2", How.AGAIN)
    assert repair({"n1": deleted, "n2": Known(None)}) is None
    assert repair({"n1": Known(Version(0, 1)), "n2": Known(Version(0, 2))}) == Repair("n1", How.ANEW)
