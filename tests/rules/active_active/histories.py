"""Histories of one key on three nodes, as Hypothesis invents them: each writes, and hears the others in order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from twinstar.rules.active_active.conflicts import Lost, Replaced, lost
from twinstar.rules.active_active.state import State, join, nothing
from twinstar.rules.active_active.writing import Writer, deletion, insertion, update

GROUPS = 2
NODES = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Write:
    """What a node sent: what is new, and over what it was written."""

    node: int
    delta: State
    over: tuple[int, ...]
    """Of each group the version that it wrote over; empty: insertion."""
    added: int
    born: int

    @property
    def replaced(self) -> Replaced:
        return Replaced(self.over, self.over)


@dataclass(slots=True)
class Node:
    number: int
    skew_us: int
    state: State = field(default_factory=lambda: nothing(GROUPS))
    sent: list[Write] = field(default_factory=list)
    heard: dict[int, int] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)

    def write(self, now_us: int, what: str, amount: int) -> None:
        """One write, when there is something to write to."""
        by, state = Writer(self.number, now_us + self.skew_us), self.state
        if what == "make" and not state.alive:
            delta = insertion(state, by, (f"{now_us}a", f"{now_us}b"), (amount,))
            over: tuple[int, ...] = ()
        elif not state.alive or what == "make":
            return
        elif what == "delete":
            delta, amount, over = deletion(state, by), 0, tuple(cell.stamp for cell in state.cells)
        else:
            changed = {"first": {0: now_us}, "second": {1: now_us}, "add": {}}[what]
            delta, over = update(state, by, changed, (amount,)), tuple(cell.stamp for cell in state.cells)
        born = delta.head.born if delta.head else 0
        self.state = join(state, delta)
        self.sent.append(Write(self.number, delta, over, amount, born))

    def hear(self, other: Node) -> bool:
        """The next write of another node; whether there was one."""
        at = self.heard.get(other.number, 0)
        if at >= len(other.sent):
            return False
        write = other.sent[at]
        self.heard[other.number] = at + 1
        self.lost += lost(self.state, write.delta, write.replaced)
        self.state = join(self.state, write.delta)
        return True


Step = tuple[int, str, int]
"""Which node, what it does, and with which amount or from which other."""

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(NODES),
            st.sampled_from(("make", "first", "second", "add", "delete")),
            st.integers(-3, 9),
        ),
        st.tuples(st.sampled_from(NODES), st.just("hear"), st.sampled_from(NODES)),
    ),
    max_size=40,
)
SKEWS = st.tuples(*(st.integers(0, 20) for _ in NODES))


def play(steps: list[Step], skews: tuple[int, ...]) -> list[Node]:
    """The nodes as they are when some of what was sent was heard."""
    nodes = [Node(number, skew) for number, skew in zip(NODES, skews, strict=True)]
    for now_us, (number, what, amount) in enumerate(steps, 1):
        node = nodes[number - 1]
        if what != "hear":
            node.write(now_us, what, amount)
        elif amount != number:
            node.hear(nodes[amount - 1])
    return nodes


def deliver(nodes: list[Node]) -> list[Node]:
    """Everything is heard by everyone."""
    for node in nodes:
        for other in nodes:
            while node is not other and node.hear(other):
                pass
    return nodes


def writes(nodes: list[Node]) -> list[Write]:
    return [write for node in nodes for write in node.sent]


def forgetful(state: State) -> State:
    """What a database keeps: of a table without groups nothing below the tombstone."""
    return state if state.alive else replace(state, head=None)
