"""The report says what the runs say, and the page holds it without needing anything else."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.pages import check
from twinstar.drill.faults import Fault
from twinstar.drill.history import Apart, Attempt, acknowledged_since, audit, longest_gap
from twinstar.drill.page import page
from twinstar.drill.report import summary, to_json
from twinstar.drill.run import Drill, Options, Repetition, Run
from twinstar.histories.operation import Outcome


def run(outage_ms: float, *, faulty: bool, lost: bool = False, leader_after: str = "n2") -> Run:
    """One client that writes each 10 ms for 2 s, with a hole of `outage_ms` from 1 s on."""
    times = [float(at) for at in range(10, 2_000, 10) if not 1_000 < at < 1_000 + outage_ms]
    attempts = tuple(Attempt(0, n, 0, at - 1, at, Outcome.ACKNOWLEDGED) for n, at in enumerate(times))
    rows = [attempt.key for attempt in attempts][1 if lost else 0 :]
    return Run(
        from_ms=0,
        to_ms=2_000,
        fault_ms=1_000 if faulty else None,
        target="n1" if faulty else "",
        attempts=attempts,
        audit=audit(attempts, rows),
        longest=longest_gap(attempts, 0, 2_000),
        epoch_before=3,
        epoch_after=4 if faulty else 3,
        leader_before="n1",
        leader_after=leader_after if faulty else "n1",
    )


def test_what_a_node_that_was_cut_off_has_acknowledged_is_told_apart() -> None:
    """It is no part of outages; the rest of the report is as without it."""
    control = run(20, faulty=False)
    beside = tuple(replace(each, client=1, node="n1") for each in control.attempts)
    sides = Apart(1, 20.0, 1, 20.0, 0, acknowledged_since(beside, 1_000))
    faulty = replace(run(100, faulty=True), beside=beside, apart=sides)
    figures = to_json(Drill(Options(Fault.PARTITION), {}, (Repetition(control, faulty),)))
    assert figures["summary"]["cut_off_acknowledged"] == sum(each.started_ms >= 1_000 for each in beside) > 90
    assert figures["summary"]["median_outage_ms"] == 100
    assert {each["node"] for each in figures["repetitions"][0]["faulty"]["beside"]} == {"n1"}
    assert summary(drill(100)).cut_off_acknowledged is None


def drill(*outages_ms: float, lost: bool = False) -> Drill:
    repetitions = tuple(Repetition(run(20, faulty=False), run(ms, faulty=True, lost=lost)) for ms in outages_ms)
    return Drill(Options(Fault.KILL_NODE, repeat=len(outages_ms)), {"store": "embedded <x>"}, repetitions)


def test_the_summary_has_median_maximum_and_the_control_beside_them() -> None:
    figures = summary(drill(100, 300, 900))
    assert (figures.median_outage_ms, figures.maximum_outage_ms, figures.control_maximum_ms) == (300, 900, 20)
    assert (figures.changes_of_leader, figures.epochs, figures.lost) == (3, 3, 0)
    assert figures.survived


def test_a_lost_write_is_not_survived() -> None:
    figures = summary(drill(100, lost=True))
    assert figures.lost == 1
    assert not figures.survived


def test_a_fault_after_which_nobody_is_served_is_not_survived() -> None:
    hole = run(10_000, faulty=True)
    control = run(20, faulty=False)
    whole = Drill(Options(Fault.KILL_NODE), {}, (Repetition(control, hole),))
    hole_ms = summary(whole).maximum_outage_ms
    assert hole_ms == 1_000
    assert hole.longest.open_end
    assert "served_again" in json.dumps(to_json(whole))


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = page(to_json(drill(100, 700)))
    assert check(text).count("svg") == 4
    assert "embedded &lt;x&gt;" in text
    assert "700 ms without an acknowledgement" in text
    assert "no acknowledged write was lost" in text


def test_the_page_of_a_lossy_drill_says_so() -> None:
    assert "1 acknowledged writes lost" in page(to_json(drill(100, lost=True)))
