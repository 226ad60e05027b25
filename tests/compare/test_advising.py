"""Advice: every combination of wishes gets one that its own configuration loader takes, and the ones that people ask
about most get what the documentation says."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compare.invented import invented
from twinstar.compare.advising import Choice, choose
from twinstar.compare.experience import Experience
from twinstar.compare.hurting import contradictions, hurts
from twinstar.compare.needs import Conflicts, Loss, Needs, milliseconds
from twinstar.compare.starting_file import starting_file
from twinstar.config import derive
from twinstar.config.load import parse
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability
from twinstar.model.timing import Timings
from twinstar.router.choosing import SILENCE_MS

FILE = Path("/etc/twinstar/twinstar.yaml")
NOTHING = Experience()
MEASURED = Experience(
    take_over_ms=90,
    outage_ms={"active-passive-quorum": 490, "active-active-async": 330, "active-active-quorum": 340},
    lost={"active-passive-async": 2, "active-active-async": 7},
    stale_ms={"active-passive-async": 8, "active-active-async": 40},
)
"""Invented, for the rules alone."""

LOSSES = (Loss(), Loss(seconds=0.001), Loss(seconds=5), Loss(writes=3), Loss(writes=1000))
TWO_KINDS = st.sampled_from([NOTHING, MEASURED])


def needs(
    loss: str = "none",
    outage_ms: float = 2_000,
    regions: int = 1,
    rtt_ms: float = 0,
    conflicts: Conflicts = Conflicts.RARE,
    *,
    isolated: bool = False,
    writes_when_cut: bool = False,
) -> Needs:
    return Needs(Loss.parse(loss), outage_ms, regions, rtt_ms, conflicts, isolated, writes_when_cut)


def same(config_text: str, choice: Choice) -> None:
    """The file says what was chosen."""
    config = parse(config_text, FILE)
    assert (config.strategy, config.durability, config.preset) == (choice.strategy, choice.durability, choice.preset)
    assert len(config.nodes) == sum(choice.nodes) >= 3
    assert derive.required(config) == (choice.required or 0)
    assert config.store.etcd is not None
    assert len(config.store.etcd.endpoints) == sum(choice.stores) + choice.elsewhere
    assert len(config.store.etcd.endpoints) % 2 == 1
    if choice.lease_ms is not None:
        assert config.lease_ms == choice.lease_ms
    if choice.removal_ms is not None:
        assert config.removal_ms == choice.removal_ms


def test_every_combination_of_wishes_gets_a_configuration_that_loads() -> None:
    places = [(1, 0.0), (2, 2.0), (2, 80.0), (3, 40.0), (5, 150.0), (16, 700.0)]
    combinations = product(
        LOSSES, (0.0, 400.0, 3_000.0), places, Conflicts, (False, True), (False, True), (NOTHING, MEASURED)
    )
    files: dict[Choice, str] = {}
    for loss, outage_ms, (regions, rtt_ms), conflicts, isolated, cut, seen in combinations:
        wish = Needs(loss, outage_ms, regions, rtt_ms, conflicts, isolated, cut)
        choice = choose(wish, seen)
        if choice not in files:
            files[choice] = starting_file(choice, FILE)
            same(files[choice], choice)
        keeps_what_cannot_be_repaired(wish, choice, seen)
        assert hurts(wish, choice, seen)
    assert {choice.contestant for choice in files} == {
        f"{strategy}-{durability}" for strategy in ("active-passive", "active-active") for durability in Durability
    }
    assert {choice.preset for choice in files} == {"fast", "balanced", "patient"}


@given(
    st.builds(Loss, seconds=st.floats(0, 3600), writes=st.integers(0, 10_000)),
    st.floats(0, 60_000),
    st.integers(2, 16),
    st.floats(0.01, 2_000),
    st.sampled_from(Conflicts),
    st.booleans(),
    st.booleans(),
    TWO_KINDS,
)
def test_whatever_is_wished_for(
    loss: Loss,
    outage_ms: float,
    regions: int,
    rtt_ms: float,
    conflicts: Conflicts,
    isolated: bool,
    cut: bool,
    seen: Experience,
) -> None:
    wish = Needs(loss, outage_ms, regions, rtt_ms, conflicts, isolated, cut)
    choice = choose(wish, seen)
    same(starting_file(choice, FILE), choice)
    keeps_what_cannot_be_repaired(wish, choice, seen)


def keeps_what_cannot_be_repaired(wish: Needs, choice: Choice, seen: Experience) -> None:
    """Isolation and no loss always; whatever else is not kept is said."""
    said = " ".join(contradictions(wish, choice, seen))
    if wish.isolated:
        assert choice.strategy == "active-passive"
    if wish.loss.none:
        assert choice.durability is Durability.QUORUM
        assert choice.strategy == "active-passive" or not wish.conflicts.gives_way
    if wish.writes_when_cut and (choice.strategy == "active-passive" or wish.loss.none):
        assert "both sides of a cut" in said
    assert ("An outage of at most" in said) == (choice.outage_ms > wish.outage_ms)


def test_one_place_and_one_truth_is_active_passive_with_quorum() -> None:
    choice = choose(needs(isolated=True), NOTHING)
    assert (choice.contestant, choice.nodes, choice.required, choice.policy) == (
        "active-passive-quorum",
        (3,),
        1,
        "block",
    )
    assert choice.preset == "balanced"
    assert not contradictions(needs(isolated=True), choice, NOTHING)


def test_a_shorter_outage_takes_the_faster_preset_and_what_was_measured_counts() -> None:
    assert choose(needs(outage_ms=450), NOTHING).preset == "fast"
    assert choose(needs(outage_ms=450), NOTHING).strategy == "active-passive"
    wish = needs("5s", outage_ms=450)
    assert choose(wish, MEASURED).strategy == "active-active", "400 ms of silence and 90 ms of take-over are too long"


def test_no_loss_with_conflicts_and_no_pause_is_said_to_be_impossible() -> None:
    wish = needs(outage_ms=50)
    choice = choose(wish, MEASURED)
    assert choice.contestant == "active-passive-quorum"
    (sentence,) = contradictions(wish, choice, NOTHING)
    assert "50 ms and no loss where writes conflict exclude each other" in sentence
    assert "490 ms" in sentence


def test_clients_of_a_dead_machine_wait_wherever_they_are() -> None:
    wish = needs(outage_ms=50, conflicts=Conflicts.NONE)
    choice = choose(wish, NOTHING)
    assert (choice.strategy, choice.outage_ms) == ("active-active", SILENCE_MS)
    (sentence,) = contradictions(wish, choice, NOTHING)
    assert "Those of other nodes are not touched." in sentence


def test_isolation_and_writes_on_both_sides_of_a_cut() -> None:
    wish = needs(regions=3, rtt_ms=40, isolated=True, writes_when_cut=True, outage_ms=60_000)
    choice = choose(wish, NOTHING)
    assert choice.strategy == "active-passive"
    (sentence,) = contradictions(wish, choice, NOTHING)
    assert "Isolated transactions and writes on both sides of a cut exclude each other" in sentence


def test_no_loss_and_writes_on_both_sides_of_a_cut() -> None:
    wish = needs(regions=3, rtt_ms=40, conflicts=Conflicts.COUNTERS, writes_when_cut=True)
    choice = choose(wish, NOTHING)
    assert (choice.contestant, choice.nodes, choice.required) == ("active-active-quorum", (2, 2, 2), 1)
    assert choice.removal_ms is not None and choice.removal_ms > 600_000
    assert "a region that is lost during a cut" in contradictions(wish, choice, NOTHING)[0]
    less = needs("5s", regions=3, rtt_ms=40, conflicts=Conflicts.COUNTERS, writes_when_cut=True)
    assert not contradictions(less, choose(less, NOTHING), NOTHING)


def test_regions_whose_writes_do_not_conflict_write_at_home() -> None:
    wish = needs("5s", regions=3, rtt_ms=80, conflicts=Conflicts.NONE)
    choice = choose(wish, NOTHING)
    assert (choice.contestant, choice.nodes, choice.required) == ("active-active-async", (1, 1, 1), None)
    assert choose(needs("5s", regions=3, rtt_ms=80, outage_ms=5_000), NOTHING).strategy == "active-passive"


def test_a_lease_is_as_long_as_the_outage_allows() -> None:
    wish = needs("5s", regions=3, rtt_ms=40, outage_ms=6_000)
    choice = choose(wish, NOTHING)
    assert choice.contestant == "active-passive-async"
    assert choice.lease_ms is not None and choice.outage_ms <= 6_000
    assert choose(needs("5s", regions=3, rtt_ms=40, outage_ms=60_000), NOTHING).lease_ms == 10_000
    short = choose(needs("5s", regions=3, rtt_ms=40, outage_ms=1_000), NOTHING)
    assert short.durability is Durability.QUORUM


def test_a_bound_in_writes_needs_figures() -> None:
    wish = needs("5", regions=3, rtt_ms=80, conflicts=Conflicts.NONE)
    assert choose(wish, NOTHING).durability is Durability.QUORUM
    assert choose(wish, MEASURED).durability is Durability.QUORUM, "7 were lost"
    assert choose(needs("7", regions=3, rtt_ms=80, conflicts=Conflicts.NONE), MEASURED).durability is Durability.ASYNC


def test_no_loss_stays_no_loss_where_a_region_is_far() -> None:
    choice = choose(needs(regions=3, rtt_ms=80, outage_ms=60_000), NOTHING)
    assert (choice.contestant, choice.preset, choice.required) == ("active-passive-quorum", "patient", 1)
    said = " ".join(hurts(needs(regions=3, rtt_ms=80), choice, NOTHING))
    assert "Every commit waits for another region: 80 ms" in said


def test_a_far_network_is_not_given_a_probe_that_it_cannot_answer() -> None:
    assert choose(needs(regions=3, rtt_ms=60, outage_ms=0), NOTHING).preset == "balanced"
    assert choose(needs(regions=3, rtt_ms=30, outage_ms=0), NOTHING).preset == "fast"


@pytest.mark.parametrize(("text", "ms"), [("40ms", 40), ("0.5s", 500), ("2min", 120_000), ("1h", 3_600_000), ("0", 0)])
def test_durations(text: str, ms: float) -> None:
    assert milliseconds(text) == ms


@pytest.mark.parametrize("text", ["40", "ms", "-1ms", "1 day", ""])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="unit"):
        milliseconds(text)


def test_losses() -> None:
    assert Loss.parse("none").none and Loss.parse("0s").none
    assert (Loss.parse("5s").seconds, Loss.parse("100").writes) == (5, 100)
    with pytest.raises(UsageError, match="none, a time such as 5s, or a number of writes"):
        Loss.parse("little")


def test_regions_and_round_trips_go_together() -> None:
    with pytest.raises(UsageError, match="--rtt 40ms"):
        needs(regions=2)
    with pytest.raises(UsageError, match="One region"):
        needs(rtt_ms=40)


def test_what_was_measured_is_in_the_sentences() -> None:
    seen = Experience(
        others_ms={"active-active-async": 31},
        stale_ms={"active-active-async": 40, "active-passive-quorum": 6},
        commit_ms={"active-passive-async": 0.9, "active-passive-quorum": 2.4},
        writes_per_s={"active-active-async": 1500, "active-passive-async": 3600},
        overwritten={"active-active-async": 0.42},
    )
    wish = needs("5s", conflicts=Conflicts.NONE, outage_ms=50)
    choice = choose(wish, seen)
    said = " ".join((*hurts(wish, choice, seen), *contradictions(wish, choice, seen)))
    for figure in ("waited 31 ms at most", "40 ms or less", "1,500/s, and 3,600/s with one leader", "42% of them"):
        assert figure in said
    wish = needs()
    said = " ".join(hurts(wish, choose(wish, seen), seen))
    assert "2.4 ms instead of 0.9" in said and "6 ms or less" in said


def test_experience_is_the_worst_that_was_seen() -> None:
    made = invented()
    seen = Experience.of(made)
    passive = made.contestants["active-passive-quorum"].availability
    silent = [run.outage_ms for fault in ("kill-node", "hang-node", "partition") for run in passive[fault]]
    assert seen.outage_ms["active-passive-quorum"] == max(silent)
    assert seen.take_over_ms == max(0, max(silent) - Timings.preset("fast").suspicion_ms)
    assert set(seen.others_ms) == {"active-active-async", "active-active-quorum"}
    assert seen.lost == {name: 2 if name.endswith("async") else 0 for name in made.contestants}
    stale = made.contestants["active-active-async"].staleness
    assert stale is not None and seen.stale_ms["active-active-async"] == stale.p99_ms
    assert seen.commit_ms["active-passive-quorum"] == 1.5
    assert (
        seen.writes_per_s["active-active-async"]
        == made.contestants["active-active-async"].speed["write-many-spread"].per_s
    )
    assert seen.overwritten["active-passive-async"] == 0 < seen.overwritten["active-active-async"] < 1
    assert Experience.of(replace(made, contestants={})) == NOTHING
