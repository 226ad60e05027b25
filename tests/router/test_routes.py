"""The rules of routing: whatever a router is told, in whatever order, it forwards only to what is newest and open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.register import Durability, Phase, Register
from twinstar.model.wire import EpochNotice, Serving
from twinstar.router.routes import LEFT_OUT_MS, SILENCE_MS, Knowledge, Route, Why

MEMBERS = frozenset({"a", "b", "c"})


def register(epoch: int, leader: str, phase: Phase = Phase.LEADING) -> Register:
    return Register(epoch, phase, leader, MEMBERS, 1, Durability.QUORUM, "nonce")


@dataclass
class Told:
    """A router's knowledge together with all it was told."""

    known: Knowledge = field(default_factory=lambda: Knowledge(looked=True))
    now_ms: float = 0.0
    newest: int = 0
    opened: set[tuple[int, str]] = field(default_factory=set)

    @property
    def route(self) -> Route:
        return self.known.route(self.now_ms, MEMBERS)

    def register(self, epoch: int, leader: str, phase: Phase = Phase.LEADING) -> Told:
        self.known = self.known.saw_register(register(epoch, leader, phase))
        return self._heard(epoch)

    def notice(self, epoch: int, leader: str) -> Told:
        self.known = self.known.saw_notice(EpochNotice(epoch, leader))
        return self._heard(epoch)

    def serving(
        self, epoch: int, leader: str, *, is_open: bool = True, readers: str = "", draining: bool = False, by: str = ""
    ) -> Told:
        message = Serving(epoch, leader, is_open, tuple(readers), draining)
        self.known = self.known.saw_serving(by or leader, message, self.now_ms)
        if is_open and by in ("", leader):
            self.opened.add((epoch, leader))
        return self._heard(epoch)

    def later(self, duration_ms: float) -> Told:
        self.now_ms += duration_ms
        return self

    def _heard(self, epoch: int) -> Told:
        self.newest = max(self.newest, epoch)
        return self


names = st.sampled_from(["a", "b", "c", "stranger"])
epochs = st.integers(0, 5)
steps: st.SearchStrategy[Callable[[Told], Told]] = st.one_of(
    st.builds(lambda e, m, p: lambda told: told.register(e, m, p), epochs, names, st.sampled_from(Phase)),
    st.builds(lambda e, m: lambda told: told.notice(e, m), epochs, names),
    st.builds(
        lambda e, m, o, r, d, by: lambda told: told.serving(e, m, is_open=o, readers=r, draining=d, by=by),
        *(epochs, names, st.booleans(), st.text("abc", max_size=3), st.booleans(), st.sampled_from(["", "a", "b"])),
    ),
    st.builds(lambda ms: lambda told: told.later(ms), st.floats(0, 2 * SILENCE_MS)),
)


@given(st.lists(steps, max_size=30))
def test_only_the_newest_epoch_and_only_when_its_leader_says_that_it_is_open(
    told_in_order: list[Callable[[Told], Told]],
) -> None:
    told = Told()
    epoch = 0
    for step in told_in_order:
        route = step(told).route
        assert route.epoch == told.newest >= epoch
        epoch = route.epoch
        assert (route.why is None) == (route.write is not None) == bool(route.read)
        if route.write is not None:
            assert (epoch, route.write) in told.opened
            assert route.write in MEMBERS
            assert set(route.read) <= MEMBERS
            assert route.read == (route.write,) or route.write not in route.read


@given(st.lists(steps, max_size=20), st.lists(steps, max_size=20))
def test_one_leader_per_epoch(before: list[Callable[[Told], Told]], after: list[Callable[[Told], Told]]) -> None:
    told = Told()
    leaders: dict[int, set[str]] = {}
    for step in [*before, *after]:
        route = step(told).route
        if route.write is not None:
            leaders.setdefault(route.epoch, set()).add(route.write)
    assert all(len(found) == 1 for found in leaders.values())


def test_what_holds_new_sessions() -> None:
    assert Knowledge().route(0.0, MEMBERS).why is Why.STARTING
    told = Told()
    assert told.route.why is Why.NOBODY_LEADS
    assert told.register(3, "a", Phase.ELECTING).route.why is Why.NOBODY_LEADS
    assert told.register(3, "b").route.why is Why.NOT_OPEN
    assert told.serving(3, "b", is_open=False).route.why is Why.NOT_OPEN
    assert told.serving(3, "b").route == Route(3, "b", ("b",), frozenset(), None)
    assert told.serving(3, "b", draining=True).route.why is Why.DRAINING
    assert told.notice(4, "b").route.why is Why.NOBODY_LEADS


def test_what_is_open_stays_open() -> None:
    told = Told().serving(3, "a", readers="b").serving(3, "a", is_open=False)
    assert told.route.write == "a"
    assert told.later(100 * SILENCE_MS).route.write == "a"


def test_the_register_contradicts_an_agent() -> None:
    assert Told().register(3, "b").serving(3, "a").route.why is Why.NOT_OPEN


def test_draining_is_forgotten_when_it_is_not_repeated() -> None:
    told = Told().serving(3, "a", draining=True)
    assert told.later(SILENCE_MS + 1).route.write == "a"


def test_standbys_count_while_the_leaders_agent_speaks() -> None:
    told = Told().serving(3, "a", readers="bc")
    assert told.route.read == ("b", "c")
    assert told.later(SILENCE_MS + 1).route.read == ("a",)
    assert told.route.left_out == frozenset()


@pytest.mark.parametrize(("silent_ms", "left_out"), [(LEFT_OUT_MS - 1, set()), (LEFT_OUT_MS + 1, {"c"})])
def test_a_standby_left_out_for_long_loses_its_sessions(silent_ms: float, left_out: set[str]) -> None:
    told = Told().serving(3, "a", readers="bc").serving(3, "a", readers="b")
    assert told.later(silent_ms).route.left_out == frozenset()  # nobody has said so again
    assert told.serving(3, "a", readers="b").route.left_out == left_out
    assert told.serving(3, "a", readers="bc").route.left_out == frozenset()
    assert told.notice(4, "a").route.left_out == frozenset()
