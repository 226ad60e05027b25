"""The table and its reasons, from made-up contestants with figures that a reader can check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compare.test_comparison import CONTESTANT, RUN
from twinstar.compare.comparison import (
    CONTROL,
    TOPICS,
    ClientSeries,
    Comparison,
    Complexity,
    Conflicts,
    Contestant,
    GivenUp,
    Line,
    Machine,
    NodeUse,
    Options,
    Refusal,
    Resources,
    Staleness,
    to_json,
)
from twinstar.compare.figures import tally, throughput
from twinstar.compare.lines import lines
from twinstar.compare.table import table

CALM = (ClientSeries(0, "n1", tuple(range(0, 1000, 20)), ()), ClientSeries(1, "n2", tuple(range(0, 1000, 20)), ()))
REFUSED = Refusal(510.0, "unknown", "the connection was lost")
STRUCK = (
    ClientSeries(0, "n1", (*range(0, 500, 20), *range(930, 1000, 20)), (REFUSED,)),
    ClientSeries(1, "n2", tuple(range(0, 1000, 20)), ()),
)
STEPS = {"sealed": 380.0, "named": 400.0, "promoted": 420.0, "opened": 440.0}
FOLLOWED = replace(RUN, clients=STRUCK, others_outage_ms=None, steps_ms=STEPS, reason="suspected", acknowledged=80)
APART = replace(RUN, clients=STRUCK, others_outage_ms=20.0, others_failed=0, acknowledged=80)
PEACE = replace(RUN, clients=CALM, others_outage_ms=None, fault_at_ms=None, struck="", acknowledged=100)


def use(node: str, role: str, writes: int) -> NodeUse:
    return NodeUse(node, role, 0.1, {"database": 0.08, "agent": 0.02}, writes, 3000, 4000, 80.0)


def contestant(strategy: str, writes: tuple[int, int]) -> Contestant:
    many = strategy == "active-active"
    fast = throughput([("n1", 50.0, 1.0), ("n2", 60.0, 3.0)], 0.0, 100.0, 6, 0)
    hit = tally([6, 4], [5, 1 if many else 5], 0)
    whole = tally([6, 4], [5, 5], 0)
    return Contestant(
        strategy=strategy,
        durability="quorum",
        cluster={},
        availability={CONTROL: (PEACE,), "kill-node": (APART if many else FOLLOWED,)},
        skipped={"partition": "etcd is not installed"},
        conflicts=Conflicts(
            hit, whole, hit, hit, 4 if many else 0, {"update/update": 4} if many else {}, 0, 30.0, 6, 10, 1.0
        ),
        resources=Resources(
            (use("n1", "leader", writes[0]), use("n2", "standby", writes[1])), 0.5, {"cpu_ms": 4.0}, 1.0, "ss"
        ),
        speed={"write-many-spread": fast},
        staleness=Staleness(2.0, 9.0, (0.0, 2.0, 9.0), ("n2", "n2", "n2"), 0),
        complexity=Complexity(
            ("cluster", "tables") if many else ("cluster",), ("store",), ("a",), (GivenUp("p", "l"),)
        ),
        took_s=1.0,
    )


BOTH = {
    "active-passive-quorum": contestant("active-passive", (50, 0)),
    "active-active-quorum": contestant("active-active", (25, 25)),
}
LINES = {line.line: line for line in lines(BOTH)}


def texts(name: str) -> list[str]:
    return [figure.text for figure in LINES[name].figures.values()]


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ("no fault", ["20 ms", "20 ms"]),
        ("kill-node", ["450 ms", "450 ms; others 20 ms"]),
        ("partition", ["–", "–"]),
        ("in all faults (effect unknown)", ["1 (1 unknown)"] * 2),
        ("acknowledged, and missing", ["0 of 180", "0 of 180"]),
        ("lost, SET n = n + 1", ["0 of 10 (0 %)", "4 of 10 (40 %)"]),
        ("lost, the same on a counter", ["0 of 10 (0 %)", "0 of 10 (0 %)"]),
        ("kept in the conflict log", ["0", "4"]),
        ("nodes that take writes", ["1 of 2", "2 of 2"]),
        ("processor time per write", ["4.00 ms", "4.00 ms"]),
        ("log per write, all nodes", ["120 B", "120 B"]),
        ("between nodes, per write", ["160 B", "160 B"]),
        ("memory per node", ["80 MiB", "80 MiB"]),
        ("writes, 6 clients, spread", ["20/s 1.00 ms, p99 3.0"] * 2),
        ("age on another node", ["2.0 ms (p99 9.0)"] * 2),
        ("settings", ["1", "2"]),
    ],
)
def test_each_figure_is_computed_from_its_series(line: str, figures: list[str]) -> None:
    assert texts(line) == figures


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no fault", "20 to 20 ms"),
        (
            "kill-node",
            "AP quorum: n1 led (suspected); its successor was detached from it after 380 ms, named after 400 ms",
        ),
        ("kill-node", "promoted after 420 ms, open after 440 ms"),
        ("kill-node", "AA quorum: 1 of 2 clients were on n1"),
        ("kill-node", "waited 20 ms at most (without a fault 20 ms)"),
        ("partition", "etcd is not installed"),
        ("in all faults (effect unknown)", "1 × the connection was lost"),
        ("acknowledged, and missing", "none; each was confirmed from a second node's disk"),
        ("lost, SET n = n + 1", "AA quorum: 4 were made on two nodes at once"),
        ("lost, SET n = n + 1", "AP quorum: one node keeps the order"),
        ("lost, the same on a counter", "AA quorum: what each node has added is added up"),
        ("kept in the conflict log", "4 update/update; all can be restored; the nodes were equal 30 ms after"),
        ("nodes that take writes", "n2 (standby) did 0 writes"),
        ("processor time per write", "database 0.16 s + agent 0.04 s, 0.10 s of it on nodes that took no writes"),
        ("writes, 6 clients, spread", "AA quorum by n1, n2, 1.00 × its throughput"),
        ("age on another node", "3.7 ms after its acknowledgement on average; 1 of 3 were there before"),
        ("settings", "1 are the same for all. Besides: AA quorum: tables."),
    ],
)
def test_each_reason_says_what_was_observed(line: str, words: str) -> None:
    assert words in LINES[line].why


def test_lost_writes_are_said_with_their_fault() -> None:
    gone = replace(FOLLOWED, lost=2, lost_rows=((0, 1, 0), (0, 2, 0)))
    struck = replace(BOTH["active-passive-quorum"], durability="async", availability={"kill-node": (gone,)})
    line = next(line for line in lines({"active-passive-async": struck}) if line.topic == "data loss")
    assert line.figures["active-passive-async"].text == "2 of 80"
    assert "2 in kill-node: acknowledged before another node had them" in line.why


def test_of_several_runs_the_median_and_the_maximum_are_told() -> None:
    longer = replace(FOLLOWED, window_ms=(0.0, 1500.0))
    many = replace(BOTH["active-passive-quorum"], availability={"kill-node": (FOLLOWED, longer, FOLLOWED)})
    line = next(line for line in lines({"active-passive-quorum": many}) if line.line == "kill-node")
    assert line.figures["active-passive-quorum"].text == "450 ms (≤ 520 ms)"


def test_a_fault_that_could_not_be_finished_is_no_success() -> None:
    sick = replace(CONTESTANT, availability={}, skipped={"kill-node": "failed: it does not serve"})
    line = lines({"active-active-async": sick})[0]
    assert (line.line, line.figures["active-active-async"].text) == ("kill-node", "failed")
    assert "it does not serve" in line.why


def test_every_topic_has_a_line_and_every_line_a_reason() -> None:
    assert tuple(dict.fromkeys(line.topic for line in LINES.values())) == TOPICS
    assert [line.line for line in LINES.values() if not line.why] == []


def made() -> Comparison:
    return Comparison("now", Machine("a processor", 2, 4.0, "18.1", "0.1"), Options(), BOTH, tuple(LINES.values()))


def pointed(document: object, pointer: str) -> object:
    """What a JSON pointer points to. Raises KeyError."""
    for part in pointer.split("/")[1:]:
        assert isinstance(document, dict)
        document = document[part]
    return document


@pytest.mark.parametrize("line", LINES.values(), ids=lambda line: line.line)
def test_each_figure_points_to_its_series(line: Line) -> None:
    document = to_json(made())
    for figure in line.figures.values():
        assert pointed(document, figure.source) not in (None, [])


def test_the_terminal_has_a_row_for_each_line_and_a_column_for_each_contestant() -> None:
    shown = table(made())
    assert shown.row_count == len(LINES)
    assert [column.header for column in shown.columns] == ["", "", "AP quorum", "AA quorum"]
