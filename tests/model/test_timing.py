"""Durations: the presets' figures, and that whatever is overridden the order between them holds."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinstar.model import timing
from twinstar.model.errors import UsageError
from twinstar.model.timing import LeaseTimes, Timings

PRESETS = ("fast", "balanced", "patient")


def test_the_table_at_the_head_of_the_module_is_true() -> None:
    rows = {
        "heartbeat": "heartbeat_ms",
        "probe after": "probe_after_ms",
        "suspicion floor": "suspicion_floor_ms",
        "suspicion": "suspicion_ms",
        "own stall": "stall_ms",
        "election timeout": "election_timeout_ms",
        "hung query": "hung_query_ms",
        "agent silent": "agent_silent_ms",
        "voter removal": "voter_removal_ms",
    }
    lines = {line[:22].strip(): line for line in (timing.__doc__ or "").splitlines() if line.strip()}
    for row, field in rows.items():
        written = [int(figure.replace(",", "")) for figure in lines[row].split()[-3:]]
        assert written == [int(getattr(Timings.preset(name), field)) for name in PRESETS], row


def test_fast_completes_suspicion_within_350_to_400_ms_with_the_probe_inside() -> None:
    fast = Timings.preset("fast")
    assert (fast.heartbeat_ms, fast.election_timeout_ms) == (100, 1_000)
    assert 350 <= fast.suspicion_floor_ms <= fast.suspicion_ms <= 400
    assert 2 * fast.heartbeat_ms < fast.probe_after_ms < 3 * fast.heartbeat_ms
    assert fast.probe_deadline_ms >= fast.heartbeat_ms


@given(st.sampled_from(PRESETS), st.floats(10, 5_000), st.none() | st.floats(10, 60_000))
def test_the_order_of_the_durations_holds_whatever_is_overridden(
    name: str, heartbeat_ms: float, suspicion_ms: float | None
) -> None:
    assume(suspicion_ms is None or suspicion_ms >= 2.5 * heartbeat_ms)
    timings = Timings.preset(name, {"heartbeat_ms": heartbeat_ms, "suspicion_ms": suspicion_ms})
    assert timings.heartbeat_ms < timings.probe_after_ms < timings.suspicion_floor_ms < timings.suspicion_ms
    assert timings.heartbeat_ms < timings.stall_ms < timings.suspicion_ms
    assert timings.probe_deadline_ms > 0


def test_a_given_duration_is_taken_as_it_is() -> None:
    assert Timings.preset("fast", {"election_timeout_ms": 1_234, "guard_grace_ms": None}).election_timeout_ms == 1_234


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("quick", {}, "There is no preset 'quick': choose one of fast, balanced, patient"),
        ("fast", {"heartbeat": 1.0}, "There is no duration 'heartbeat'"),
        ("fast", {"suspicion_ms": 200.0}, r"suspicion_ms \(200\) must be at least 2.5 times heartbeat_ms \(100\)"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, overrides: dict[str, float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Timings.preset(name, overrides)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_grows_is_spread_and_is_bounded(attempt: int, share: float) -> None:
    fast = Timings.preset("fast")
    pause_ms = fast.retry_ms(attempt, share)
    assert fast.retry_first_ms / 2 <= pause_ms <= fast.retry_most_ms
    assert fast.retry_ms(attempt + 1, share) >= pause_ms
    assert 0 <= fast.election_pause_ms(share) <= fast.election_timeout_ms / 2


@given(st.floats(500, 600_000))
def test_nobody_takes_over_before_a_slow_clock_has_ended_the_lease(lease_ms: float) -> None:
    """A leader whose clock runs half a percent slow, beside an observer whose clock runs half a percent fast."""
    times = LeaseTimes.of(lease_ms)
    assert times.renewal_ms * 4 < times.lease_ms
    assert times.take_over_ms * 0.995 > times.lease_ms * 1.005 + 100 - lease_ms * 0.0002
