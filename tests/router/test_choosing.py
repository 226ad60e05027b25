"""Where clients go when every node takes writes: to nodes that are open and heard, and never without need elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.wire import PeerStatement
from twinstar.router.choosing import BEHIND_MS, SILENCE_MS, Nodes
from twinstar.router.routes import LEFT_OUT_MS, Route, Why

MEMBERS = frozenset({"a", "b", "c"})
MAX_LAG_MS = 100.0
OPEN = PeerStatement(number=1, epoch=1, open=True, reason="", lag_ms=0.0, database="", wall_us=0)
CLOSED = replace(OPEN, open=False, reason="its clock is off")


def lagging(lag_ms: float) -> PeerStatement:
    return replace(OPEN, lag_ms=lag_ms)


@dataclass
class Told:
    """What a router was told, one thing after another."""

    nodes: Nodes
    now_ms: float = 1_000.0

    def say(self, **statements: PeerStatement) -> Told:
        for member, statement in statements.items():
            self.nodes = self.nodes.saw(member, statement, self.now_ms)
        return self

    def later(self, duration_ms: float) -> Told:
        self.now_ms += duration_ms
        return self

    def do(self, step: Step) -> None:
        self.later(step.later_ms)
        if step.slept:
            self.nodes = self.nodes.slept(step.later_ms, self.now_ms)
        if step.member:
            self.say(**{step.member: step.statement})

    @property
    def route(self) -> Route:
        return self.nodes.route(self.now_ms, MEMBERS)


@pytest.fixture
def told() -> Told:
    return Told(Nodes(MAX_LAG_MS))


def test_before_anybody_is_heard_everybody_waits(told: Told) -> None:
    assert told.route == Route(why=Why.NOBODY_OPEN)


def test_all_that_are_open_serve(told: Told) -> None:
    route = told.say(a=OPEN, b=OPEN, c=CLOSED).route
    assert (route.any, route.read, route.why) == (("a", "b"), ("a", "b"), None)
    assert route.ended == {"c": "its clock is off"}


def test_who_falls_silent_loses_its_clients_to_the_others(told: Told) -> None:
    told.say(a=OPEN, b=OPEN).later(SILENCE_MS).say(b=OPEN)
    assert set(told.route.any) == {"a", "b"}
    later = told.later(1).route
    assert later.any == ("b",)
    assert later.ended == {"a": "it is silent"}
    assert told.say(a=OPEN).route.ended == {}


def test_who_was_silent_while_nobody_was_heard_keeps_its_clients(told: Told) -> None:
    """Nodes speak one after another: when the router hears nobody, one of them is always the first to be silent."""
    told.say(a=OPEN).later(SILENCE_MS / 3).say(b=OPEN).later(SILENCE_MS * 3 / 4)
    assert (told.route.any, told.route.ended) == (("b",), {})
    told.later(SILENCE_MS)
    assert (told.route.any, told.route.ended) == ((), {})
    told.say(b=OPEN)
    assert (told.route.any, told.route.ended) == (("b",), {}), "a may speak next"
    told.later(SILENCE_MS - 1).say(b=OPEN)
    assert told.route.ended == {}
    told.later(1).say(b=OPEN)
    assert told.route.ended == {"a": "it is silent"}


def test_while_nobody_is_heard_sessions_stay_and_new_ones_wait(told: Told) -> None:
    route = told.say(a=OPEN, b=CLOSED).later(SILENCE_MS + 1).route
    assert (route.any, route.ended, route.why) == ((), {"b": "its clock is off"}, Why.NOBODY_OPEN)


def test_who_lags_serves_no_reads_and_loses_those_that_it_has_after_a_while(told: Told) -> None:
    for _ in range(int(LEFT_OUT_MS // 100)):
        told.say(a=OPEN, b=lagging(MAX_LAG_MS + 1), c=lagging(MAX_LAG_MS))
        assert (told.route.any, told.route.read, told.route.left_out) == (("a", "b", "c"), ("a", "c"), frozenset())
        told.later(100)
    told.say(a=OPEN, b=lagging(MAX_LAG_MS + 1)).later(1)
    assert told.route.left_out == {"b"}
    told.say(b=lagging(MAX_LAG_MS)).later(1)
    assert (told.route.read, told.route.left_out) == (("a", "b", "c"), frozenset())


def test_who_does_not_learn_of_a_change_of_the_membership_is_left_out(told: Told) -> None:
    newer = replace(OPEN, epoch=2)
    for _ in range(int(BEHIND_MS // 100)):
        assert set(told.say(a=newer, b=OPEN).route.any) == {"a", "b"}, "it has some time"
        told.later(100)
    told.say(a=newer, b=OPEN).later(1)
    assert told.route.any == ("a",)
    assert told.route.ended == {"b": "it knows the membership's epoch 1 alone"}
    alone = told.later(SILENCE_MS + 1).say(b=OPEN).route
    assert (alone.any, alone.ended) == ((), {}), "it is left out, but keeps what it has: nobody else is heard"
    assert told.say(b=newer).route.any == ("b",)


def test_a_lag_that_all_have_keeps_nobody_out(told: Told) -> None:
    assert told.say(a=lagging(60_000), b=lagging(60_050)).route.read == ("a", "b")
    assert told.say(a=lagging(60_000), b=lagging(61_000)).route.read == ("a",)


def test_what_was_not_heard_while_this_process_stood_still_is_nobodys_silence(told: Told) -> None:
    told.say(a=OPEN).later(100).say(b=OPEN).later(2_000)
    told.nodes = told.nodes.slept(1_900, told.now_ms)
    assert set(told.route.any) == {"a", "b"}
    told.later(60)
    assert told.route.any == ("b",), "a had been silent for 200 ms before"


@dataclass(frozen=True)
class Step:
    """A statement, or time that passes, or passes without this process."""

    member: str = ""
    statement: PeerStatement = OPEN
    later_ms: float = 0.0
    slept: bool = False


STATEMENTS = st.one_of(st.just(OPEN), st.just(CLOSED), st.floats(0, 1_000).map(lagging))
OF_EPOCHS = st.builds(replace, STATEMENTS, epoch=st.integers(1, 3))
STEPS = st.lists(
    st.one_of(
        st.builds(Step, member=st.sampled_from("abcd"), statement=STATEMENTS),
        st.builds(Step, later_ms=st.floats(0, 500), slept=st.booleans()),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_is_heard_in_whatever_order(steps: list[Step]) -> None:
    told = Told(Nodes(MAX_LAG_MS))
    last: dict[str, tuple[PeerStatement, float]] = {}
    slept_ms = 0.0
    for step in steps:
        told.do(step)
        slept_ms += step.later_ms if step.slept else 0.0
        if step.member:
            last[step.member] = (step.statement, told.now_ms - slept_ms)
        now_ms, route = told.now_ms - slept_ms, told.route
        said = {member: word for member, word in last.items() if member in MEMBERS}
        # Rounding: sums in another order.
        heard = {m for m, (statement, at) in said.items() if statement.open and now_ms - at < SILENCE_MS - 1e-6}
        perhaps = {m for m, (statement, at) in said.items() if statement.open and now_ms - at < SILENCE_MS + 1e-6}
        assert heard <= set(route.any) <= perhaps
        assert set(route.read) <= set(route.any)
        assert bool(route.read) == bool(route.any) == (route.why is None)
        assert not set(route.ended) & set(route.any)
        assert {m for m, (statement, _) in said.items() if not statement.open} <= set(route.ended)
        assert route.any or all(not said[m][0].open for m in route.ended), (
            "silence alone ends sessions only with an end"
        )
        assert route.left_out <= set(route.any) - set(route.read)


LONG_STEPS = st.lists(
    st.one_of(
        st.builds(Step, member=st.sampled_from("abcd"), statement=OF_EPOCHS),
        st.builds(Step, later_ms=st.floats(0, 4_000), slept=st.booleans()),
    ),
    max_size=30,
)


@given(LONG_STEPS, st.floats(0, 10_000))
def test_between_two_statements_nothing_changes_before_it_is_said_to(steps: list[Step], wait_ms: float) -> None:
    told = Told(Nodes(MAX_LAG_MS))
    for step in steps:
        told.do(step)
    before, change_ms = told.route, told.nodes.next_change_ms(told.now_ms)
    told.now_ms = min(told.now_ms + wait_ms, change_ms)
    assert told.route == before
