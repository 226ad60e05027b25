"""The guard's decisions on virtual time."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.guard.core import (
    Effect,
    Ended,
    Event,
    GuardCore,
    Knock,
    Knocked,
    Look,
    Received,
    Record,
    Remember,
    Seen,
    Send,
    Sweep,
    Swept,
    Tick,
    Watch,
)
from twinstar.guard.settings import GuardPeer, GuardSettings
from twinstar.model.address import Address
from twinstar.model.wire import EngineWord, Envelope, EpochNotice, Heartbeat, Message, Part, Told

SETTINGS = GuardSettings(
    cluster="c",
    member="a",
    secret_file="/secret",
    bind=Address("127.0.0.1", 1),
    agent=Address("127.0.0.1", 2),
    data_directory="/data",
    state_file="/state",
    peers=(GuardPeer("b", Address("127.0.0.1", 3), Address("127.0.0.1", 4)),),
)
RUN, NEXT_RUN = "77:1000", "88:2000"


class Guarded:
    """A guard's core, its clock, and everything it wanted so far as (at_ms, effect)."""

    def __init__(self, record: Record | None = None, **changes: Any) -> None:
        self.now_ms = 1_000_000.0
        self.core = GuardCore(replace(SETTINGS, **changes), self.now_ms, record)
        self.wanted: list[tuple[float, Effect]] = []
        self._counter = itertools.count(1)

    def feed(self, event: Event) -> list[Effect]:
        effects = self.core.step(event, self.now_ms)
        self.wanted += [(self.now_ms, each) for each in effects]
        return effects

    def receive(self, message: Message, member: str = "a", part: Part = Part.AGENT) -> list[Effect]:
        return self.feed(Received(Envelope(member, part, 1, next(self._counter), message)))

    def told(self, epoch: int = 3, leading: bool = True, run: str = RUN, stopping: bool = False, **more: Any) -> None:
        self.receive(Told(epoch, leading, run, stopping, **{"register_epoch": epoch, **more}))

    def pass_ms(self, duration_ms: float, told_every_ms: float = 0, **told: Any) -> None:
        """Lets time pass with the ticks that the core asks for, and the agent's word every so often."""
        end_ms = self.now_ms + duration_ms
        next_told_ms = self.now_ms + told_every_ms if told_every_ms else float("inf")
        while True:
            at_ms = min(end_ms, next_told_ms, max(self.now_ms, self.core.next_wake_ms()))
            self.now_ms = at_ms
            if at_ms >= next_told_ms:
                next_told_ms += told_every_ms
                self.told(**told)
            self.feed(Tick())
            if at_ms >= end_ms:
                return

    def all_gone(self) -> None:
        self.feed(Swept(0))
        self.feed(Swept(0))

    def every(self, kind: type[Effect]) -> list[tuple[float, Any]]:
        return [(at_ms, each) for at_ms, each in self.wanted if isinstance(each, kind)]

    def beats(self) -> list[tuple[float, Heartbeat]]:
        return [(at_ms, send.heartbeat) for at_ms, send in self.every(Send)]

    @property
    def word(self) -> EngineWord:
        return self.core.word

    def says(self, word: EngineWord) -> bool:
        return self.core.word is word


def leading(**changes: Any) -> Guarded:
    guard = Guarded(**changes)
    guard.told()
    guard.feed(Tick())
    return guard


# -- heartbeats --------------------------------------------------------------------------------------------------------


def test_heartbeats_are_regular_and_every_fifth_goes_to_the_guards_and_the_own_agent() -> None:
    guard = leading()
    guard.wanted.clear()
    guard.pass_ms(2_000, told_every_ms=100)
    times = [at_ms for at_ms, _ in guard.beats()]
    assert {round(later - earlier) for earlier, later in itertools.pairwise(times)} == {100}
    assert len(times) == 20
    assert sum(send.widely for _, send in guard.every(Send)) == 4


def test_a_heartbeat_says_what_the_agent_told() -> None:
    guard = leading()
    guard.pass_ms(250)
    assert guard.beats()[-1][1] == Heartbeat(3, True, 200.0, EngineWord.RUNNING, RUN)


def test_the_age_of_an_agent_that_never_spoke_is_large() -> None:
    guard = Guarded()
    guard.pass_ms(100)
    assert guard.beats()[-1][1].agent_age_ms >= 1e9


def test_a_change_of_word_is_said_at_once() -> None:
    guard = leading()
    guard.pass_ms(137)
    guard.feed(Ended(RUN))
    assert guard.beats()[-1] == (guard.now_ms, Heartbeat(3, True, 137.0, EngineWord.KILLING, RUN))


def test_dead_is_repeated_ten_milliseconds_apart_and_then_goes_on_for_ever() -> None:
    guard = leading()
    guard.feed(Ended(RUN))
    guard.wanted.clear()
    guard.all_gone()
    guard.pass_ms(1_000)
    beats = guard.beats()
    assert {beat.engine for _, beat in beats} == {EngineWord.DEAD}
    gaps = [round(later - earlier) for (earlier, _), (later, _) in itertools.pairwise(beats)]
    assert gaps[:5] == [10, 10, 10, 10, 10]
    assert set(gaps[5:]) == {100}
    assert all(send.widely for _, send in guard.every(Send)[:5])


# -- the database's end ------------------------------------------------------------------------------------------------


def test_it_watches_the_run_that_it_is_told() -> None:
    guard = Guarded()
    guard.told()
    assert guard.every(Watch) == [(guard.now_ms, Watch(RUN))]
    assert guard.says(EngineWord.RUNNING)


def test_an_unannounced_end_is_dead_only_after_two_looks_found_nobody() -> None:
    guard = leading()
    effects = guard.feed(Ended(RUN))
    assert Sweep(RUN, kill=True) in effects
    words = []
    for found in (3, 1, 0, 2, 0, 0):
        guard.pass_ms(60)
        guard.feed(Swept(found))
        words.append(guard.word)
    assert words == [EngineWord.KILLING] * 5 + [EngineWord.DEAD]


def test_processes_that_do_not_end_are_swept_again_and_again() -> None:
    guard = leading()
    guard.feed(Ended(RUN))
    sweeps = len(guard.every(Sweep))
    for _ in range(100):
        guard.feed(Swept(1))
        guard.pass_ms(60)
    assert guard.says(EngineWord.KILLING)
    assert len(guard.every(Sweep)) >= sweeps + 100


def test_a_process_that_may_not_be_ended_is_named_once() -> None:
    guard = leading()
    guard.feed(Ended(RUN))
    for _ in range(5):
        guard.feed(Swept(1, refused_pid=99))
        guard.pass_ms(60)
    notes = [each.sentence for _, each in guard.wanted if hasattr(each, "sentence") and "99" in each.sentence]
    assert len(notes) == 1


def test_an_announced_end_is_stopped() -> None:
    guard = leading()
    guard.told(stopping=True)
    guard.feed(Ended(RUN))
    assert guard.says(EngineWord.STOPPED)
    assert not guard.every(Sweep)
    guard.pass_ms(10_000, told_every_ms=100, run="", stopping=True, leading=False)
    assert guard.says(EngineWord.STOPPED)


def test_an_agent_that_falls_silent_after_it_stopped_the_database_leaves_a_dead_one() -> None:
    """Otherwise the others would wait for ever for a member that is neither silent nor dead."""
    guard = leading()
    guard.told(stopping=True)
    guard.feed(Ended(RUN))
    guard.pass_ms(2_100)
    guard.all_gone()
    assert guard.says(EngineWord.DEAD)


def test_an_end_announced_by_an_agent_that_is_long_gone_is_a_death() -> None:
    guard = leading()
    guard.told(stopping=True)
    guard.pass_ms(5_000)
    guard.feed(Ended(RUN))
    assert guard.says(EngineWord.KILLING)


def test_death_keeps_what_the_run_died_as() -> None:
    guard = leading()
    guard.feed(Ended(RUN))
    guard.all_gone()
    guard.told(epoch=4, leading=False, run="", stopping=True)
    guard.told(epoch=4, leading=False, run=RUN, stopping=True)
    guard.pass_ms(100)
    assert guard.beats()[-1][1] == Heartbeat(3, True, 50.0, EngineWord.DEAD, RUN)


@pytest.mark.parametrize("how", ["told", "seen"])
def test_a_new_run_ends_the_word_dead(how: str) -> None:
    guard = leading()
    guard.feed(Ended(RUN))
    guard.all_gone()
    if how == "told":
        guard.told(epoch=4, leading=False, run=NEXT_RUN)
    else:
        guard.feed(Seen(NEXT_RUN))
    assert guard.says(EngineWord.RUNNING)
    assert guard.every(Watch)[-1][1] == Watch(NEXT_RUN)
    guard.pass_ms(100)
    assert guard.beats()[-1][1].leading is False


def test_a_new_run_ends_the_killing_of_the_old_one() -> None:
    """The agent was quicker: what is there now is not what was condemned."""
    guard = leading()
    guard.feed(Ended(RUN))
    guard.feed(Seen(NEXT_RUN))
    guard.wanted.clear()
    guard.feed(Swept(0))
    guard.feed(Swept(0))
    guard.pass_ms(500, told_every_ms=100, run=NEXT_RUN, leading=False)
    assert guard.says(EngineWord.RUNNING)
    assert not guard.every(Sweep)


def test_the_end_of_an_old_run_means_nothing() -> None:
    guard = leading()
    guard.told(run=NEXT_RUN)
    guard.feed(Ended(RUN))
    assert guard.says(EngineWord.RUNNING)


def test_it_looks_for_a_database_only_while_it_knows_of_none() -> None:
    guard = Guarded()
    guard.pass_ms(300)
    assert len(guard.every(Look)) >= 3
    guard.feed(Seen(RUN))
    guard.wanted.clear()
    guard.pass_ms(300)
    assert not guard.every(Look)


# -- whom it believes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("member", "part"), [("b", Part.AGENT), ("a", Part.GUARD), ("a", Part.ROUTER)])
def test_only_its_own_agent_tells_it_what_runs(member: str, part: Part) -> None:
    guard = Guarded()
    guard.receive(Told(3, True, RUN, False), member, part)
    assert guard.says(EngineWord.UNKNOWN)


@pytest.mark.parametrize(("member", "part"), [("a", Part.AGENT), ("r", Part.ROUTER)])
def test_epochs_are_learned_from_other_members_alone(member: str, part: Part) -> None:
    guard = leading()
    guard.receive(EpochNotice(9, "b"), member, part)
    guard.pass_ms(10_000)
    assert guard.says(EngineWord.RUNNING)


# -- the fence of epochs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "part"),
    [(EpochNotice(4, "b"), Part.AGENT), (Heartbeat(4, False, 1.0, EngineWord.RUNNING, "5:5"), Part.GUARD)],
)
def test_a_higher_epoch_ends_the_database_when_the_agent_does_not_act(message: Message, part: Part) -> None:
    guard = leading()
    guard.pass_ms(1_000, told_every_ms=100)
    learned_ms = guard.now_ms
    guard.receive(message, "b", part)
    guard.pass_ms(1_900, told_every_ms=100)
    assert guard.says(EngineWord.RUNNING)
    guard.pass_ms(200, told_every_ms=100)
    assert guard.every(Sweep)[0] == (learned_ms + 2_000, Sweep(RUN, kill=True))
    guard.all_gone()
    assert guard.says(EngineWord.DEAD)


def test_a_missing_agent_alone_never_ends_the_database() -> None:
    guard = leading()
    guard.receive(EpochNotice(3, "a"), "b")
    guard.pass_ms(3_600_000 / 10)
    assert not guard.every(Sweep)


@pytest.mark.parametrize("acts", [{"register_epoch": 4}, {"stopping": True}])
def test_an_agent_that_acts_is_left_to_it(acts: dict[str, Any]) -> None:
    guard = leading()
    guard.receive(EpochNotice(4, "b"), "b")
    guard.pass_ms(20_000, told_every_ms=100, **acts)
    assert not guard.every(Sweep)
    guard.pass_ms(2_100)
    assert guard.every(Sweep)


def test_an_incumbent_that_took_the_next_epoch_is_not_fenced() -> None:
    guard = leading()
    guard.receive(EpochNotice(4, "a"), "b")
    guard.told(epoch=5)
    guard.pass_ms(20_000, told_every_ms=100, epoch=5)
    assert not guard.every(Sweep)


def test_a_standby_is_not_fenced() -> None:
    guard = Guarded()
    guard.told(leading=False)
    guard.receive(EpochNotice(9, "b"), "b")
    guard.pass_ms(60_000)
    assert not guard.every(Sweep)


def test_a_guard_that_overslept_gives_the_agent_its_time_again() -> None:
    guard = leading()
    guard.receive(EpochNotice(4, "b"), "b")
    guard.now_ms += 30_000  # stopped and continued; the agent was stopped as well
    guard.feed(Tick())
    assert guard.says(EngineWord.RUNNING)
    guard.pass_ms(1_900)
    assert guard.says(EngineWord.RUNNING)
    guard.pass_ms(200)
    assert guard.says(EngineWord.KILLING)


def test_a_guard_that_may_not_kill_observes() -> None:
    guard = leading(engine_kill_allowed=False)
    guard.receive(EpochNotice(4, "b"), "b")
    guard.pass_ms(10_000)
    assert not guard.every(Sweep)
    guard.feed(Ended(RUN))
    assert guard.every(Sweep)[-1][1] == Sweep(RUN, kill=False)


# -- the lease ---------------------------------------------------------------------------------------------------------


def test_a_lease_that_is_over_ends_a_leader_at_that_moment() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    until_ms = guard.now_ms + 777
    guard.told(lease_until_ms=until_ms)
    guard.pass_ms(5_000)
    assert guard.every(Sweep)[0][0] == until_ms


def test_a_renewed_lease_ends_nobody() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    for _ in range(50):
        guard.told(lease_until_ms=guard.now_ms + 2_000)
        guard.pass_ms(400)
    assert not guard.every(Sweep)


def test_a_renewal_that_waited_while_the_guard_overslept_counts() -> None:
    """Whoever drives the core delivers datagrams before it lets time pass."""
    guard = Guarded(durability="async", lease_ms=2_000.0)
    guard.told(lease_until_ms=guard.now_ms + 2_000)
    guard.now_ms += 3_000
    guard.told(lease_until_ms=guard.now_ms + 1_500)
    guard.feed(Tick())
    assert not guard.every(Sweep)


def test_oversleeping_does_not_lengthen_a_lease() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    guard.told(lease_until_ms=guard.now_ms + 2_000)
    guard.now_ms += 3_000
    guard.feed(Tick())
    assert guard.says(EngineWord.KILLING)


def test_an_agent_that_has_not_seen_the_register_frees_nobody_from_a_lease() -> None:
    """It was started anew where the store cannot be reached."""
    guard = Guarded(durability="async", lease_ms=2_000.0)
    until_ms = guard.now_ms + 777
    guard.told(lease_until_ms=until_ms)
    guard.pass_ms(5_000, told_every_ms=100, register_epoch=0, knows_lease=False)
    assert guard.every(Sweep)[0][0] == until_ms


def test_an_agent_that_does_not_know_what_became_of_a_change_frees_nobody_from_a_lease() -> None:
    """Its predecessor had asked for the first lease of a cluster that was `quorum`, and was killed."""
    guard = Guarded(durability="quorum")
    until_ms = guard.now_ms + 777
    guard.told(lease_until_ms=until_ms)
    guard.pass_ms(5_000, told_every_ms=100, knows_lease=False)
    assert guard.every(Sweep)[0][0] == until_ms
    free = Guarded(durability="quorum")
    free.told(lease_until_ms=free.now_ms + 777)
    free.pass_ms(5_000, told_every_ms=100)
    assert not free.every(Sweep), "the change is known not to have been made"


def test_a_guard_that_knows_of_no_lease_gives_such_an_agent_one() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    began_ms = guard.now_ms
    guard.pass_ms(5_000, told_every_ms=100, register_epoch=0, knows_lease=False)
    assert began_ms + 2_000 <= guard.every(Sweep)[0][0] <= began_ms + 2_200
    free = Guarded(durability="quorum")
    free.pass_ms(5_000, told_every_ms=100, register_epoch=0, knows_lease=False)
    assert not free.every(Sweep)


def test_a_lease_binds_leaders_alone() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    guard.told(leading=False, lease_until_ms=guard.now_ms + 500)
    guard.pass_ms(5_000)
    assert not guard.every(Sweep)


# -- a silent agent's database -----------------------------------------------------------------------------------------


def test_a_silent_agents_database_that_does_not_answer_is_ended_after_three_tests() -> None:
    guard = leading()
    guard.pass_ms(3_100)
    assert not guard.every(Knock)
    for strike in range(3):
        assert guard.says(EngineWord.RUNNING), strike
        guard.pass_ms(2_000)
        assert len(guard.every(Knock)) == strike + 1
        guard.feed(Knocked(answered=False))
    assert guard.says(EngineWord.KILLING)


def test_a_silent_agents_database_that_answers_goes_on() -> None:
    guard = leading()
    for _ in range(20):
        guard.pass_ms(2_100)
        guard.feed(Knocked(answered=False))
        guard.pass_ms(2_100)
        guard.feed(Knocked(answered=True))
    assert guard.says(EngineWord.RUNNING)


def test_a_database_with_a_living_agent_is_not_tested() -> None:
    guard = leading()
    guard.pass_ms(60_000, told_every_ms=100)
    assert not guard.every(Knock)


# -- a guard's own restart ---------------------------------------------------------------------------------------------


def test_it_remembers_what_matters_and_only_when_it_changes() -> None:
    guard = leading()
    guard.pass_ms(5_000, told_every_ms=100)
    assert [each.record for _, each in guard.every(Remember)] == [Record(RUN, 3, True)]
    guard.told(stopping=True)
    guard.feed(Ended(RUN))
    assert guard.every(Remember)[-1][1].record == Record("", 3, False)


def test_a_restarted_guard_knows_the_running_leader_while_the_agent_is_gone() -> None:
    guard = Guarded(Record(RUN, 3, True))
    guard.feed(Tick())
    guard.feed(Seen(RUN))
    guard.pass_ms(500)
    assert guard.says(EngineWord.RUNNING)
    guard.feed(Ended(RUN))
    guard.all_gone()
    beat = guard.beats()[-1][1]
    assert (beat.engine, beat.epoch, beat.leading, beat.run) == (EngineWord.DEAD, 3, True, RUN)


def test_a_leader_that_died_while_neither_guard_nor_agent_was_there_is_told_of() -> None:
    guard = Guarded(Record(RUN, 3, True))
    guard.pass_ms(1_900)
    assert guard.says(EngineWord.UNKNOWN)
    guard.pass_ms(200)
    guard.all_gone()
    beat = guard.beats()[-1][1]
    assert (beat.engine, beat.epoch, beat.leading, beat.run) == (EngineWord.DEAD, 3, True, RUN)


def test_an_agent_that_is_there_explains_the_missing_database_itself() -> None:
    guard = Guarded(Record(RUN, 3, True))
    guard.pass_ms(10_000, told_every_ms=100, run="", leading=False, stopping=True)
    assert guard.says(EngineWord.UNKNOWN)


def test_a_restarted_guard_enforces_the_lease_it_knew() -> None:
    record = Record(RUN, 3, True, lease_until_ms=1_000_500.0)
    guard = Guarded(record, durability="async", lease_ms=2_000.0)
    guard.feed(Seen(RUN))
    guard.pass_ms(2_000)
    assert guard.every(Sweep)[0][0] == 1_000_500.0


def test_in_async_a_running_database_that_nobody_explains_is_ended() -> None:
    guard = Guarded(durability="async", lease_ms=2_000.0)
    guard.feed(Seen(RUN))
    guard.pass_ms(2_100)
    assert guard.says(EngineWord.KILLING)


def test_in_quorum_a_running_database_that_nobody_explains_goes_on() -> None:
    guard = Guarded()
    guard.feed(Seen(RUN))
    guard.receive(EpochNotice(9, "b"), "b")
    guard.pass_ms(60_000)
    assert guard.says(EngineWord.RUNNING)


# -- whatever happens --------------------------------------------------------------------------------------------------

runs = st.sampled_from([RUN, NEXT_RUN, "99:3000"])
tolds = st.builds(
    Told,
    epoch=st.integers(0, 5),
    leading=st.booleans(),
    run=st.one_of(runs, st.just("")),
    stopping=st.booleans(),
    lease_until_ms=st.sampled_from([0.0, 1_000_200.0, 1_003_000.0]),
    register_epoch=st.integers(0, 5),
)
happenings = st.one_of(
    st.builds(Seen, runs),
    st.builds(Ended, runs),
    st.builds(Swept, st.integers(0, 2)),
    st.builds(Knocked, st.booleans()),
    tolds,
    st.builds(EpochNotice, st.integers(0, 5), st.just("b")),
    st.sampled_from([1.0, 50.0, 400.0, 5_000.0]),
)


@given(st.lists(happenings, max_size=40), st.sampled_from(["quorum", "async"]))
def test_whatever_happens_dead_follows_two_empty_looks_and_the_loop_never_spins(story: list[Any], mode: str) -> None:
    guard = Guarded(durability=mode, lease_ms=2_000.0)
    empty = 0
    for each in story:
        before = guard.word
        if isinstance(each, float):
            guard.pass_ms(each)
        elif isinstance(each, Told):
            guard.receive(each)
        elif isinstance(each, EpochNotice):
            guard.receive(each, "b")
        else:
            guard.feed(each)
        if isinstance(each, Swept) and before is EngineWord.KILLING:
            empty = 0 if each.found else empty + 1
        elif before is not EngineWord.KILLING or guard.word is not EngineWord.KILLING:
            empty = 0
        if guard.says(EngineWord.DEAD) and before is not EngineWord.DEAD:
            assert empty >= 2
        assert not (before is EngineWord.DEAD and guard.word in (EngineWord.KILLING, EngineWord.STOPPED))
        guard.feed(Tick())
        assert guard.core.next_wake_ms() > guard.now_ms
