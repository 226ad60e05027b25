"""What the measures make of series, without a cluster."""

from __future__ import annotations

import pytest

from twinstar.compare.clients import Told
from twinstar.compare.comparison import NodeUse
from twinstar.compare.complexity import settings
from twinstar.compare.contestants import ENTRIES, Entry, chosen
from twinstar.compare.load import HERE, Place, Window, merged
from twinstar.compare.measures import availability, conflicts, speed, staleness
from twinstar.compare.measures.resources import acknowledged, grown, summed
from twinstar.drill.faults import Fault
from twinstar.drill.history import Attempt, audit, longest_gap
from twinstar.drill.history import apart as sides
from twinstar.drill.run import Run
from twinstar.drill.target import MemberView, View
from twinstar.histories.operation import Outcome
from twinstar.model.errors import UsageError

ACK, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN


def view(strategy: str) -> View:
    members = tuple(
        MemberView(name, f"dsn of {name}", "node", "serving", None, None, None, "", {}) for name in ("n1", "n2", "n3")
    )
    return View(strategy, 1, "leading", "n2", True, "embedded", "write", members, "", frozenset(), 0, "async")


def run(attempts: list[Attempt], *, all_write: bool) -> Run:
    return Run(
        from_ms=1000.0,
        to_ms=2000.0,
        fault_ms=1400.0,
        target="n1",
        attempts=tuple(attempts),
        audit=audit(attempts, [attempt.key for attempt in attempts if attempt.number != 3]),
        longest=longest_gap(attempts, 1000.0, 2000.0),
        epoch_before=1,
        epoch_after=2,
        leader_before="n1",
        leader_after="n2",
        apart=sides(attempts, "n1", 1400.0, 1000.0, 2000.0) if all_write else None,
    )


ATTEMPTS = [
    Attempt(0, 1, 0, 1100.0, 1101.0, ACK, "", "n1"),
    Attempt(0, 2, 0, 1399.0, 1450.0, UNKNOWN, "connection lost", "n1"),
    Attempt(0, 2, 1, 1890.0, 1900.0, ACK, "", "n2"),
    Attempt(1, 1, 0, 1390.0, 1391.0, ACK, "", "n2"),
    Attempt(1, 2, 0, 1690.0, 1700.0, ACK, "", "n2"),
    Attempt(1, 3, 0, 1990.0, 1999.0, ACK, "", "n2"),
]


def test_a_run_is_condensed_to_what_its_figures_can_be_computed_from() -> None:
    found = availability.condense(run(ATTEMPTS, all_write=True))
    assert (found.outage_ms, found.others_outage_ms) == (799.0, 391.0)
    assert (found.window_ms, found.fault_at_ms) == ((0.0, 1000.0), 400.0)
    assert found.failed == {"the connection was lost": 1}
    assert (found.unknown, found.others_failed) == (1, 0)
    assert (found.acknowledged, found.lost, found.duplicates, found.lost_rows) == (5, 1, 1, ((1, 3, 0),))
    assert found.gaps_ms == (799.0, 391.0)
    assert [(client.node, client.acknowledged_ms) for client in found.clients] == [
        ("n1", (101.0, 900.0)),
        ("n2", (391.0, 700.0, 999.0)),
    ]
    assert found.acks_per_100ms == (0, 1, 0, 1, 0, 0, 0, 1, 0, 2)


def test_where_one_node_takes_writes_there_are_no_others() -> None:
    found = availability.condense(run(ATTEMPTS, all_write=False))
    assert (found.outage_ms, found.others_outage_ms, found.others_failed) == (799.0, None, None)


def test_a_change_of_leader_is_told_from_the_fault_on() -> None:
    marks = {"sealed": -40.0, "promoted": 120.0, "opened": 200.0}
    assert availability.steps_after(10_000.0, 10_600.0, marks) == {
        "sealed": 360.0,
        "named": 400.0,
        "promoted": 520.0,
        "opened": 600.0,
    }
    assert availability.steps_after(0.0, 1.0, {"sealed": 1.0}) == {}


def test_staleness_leaves_out_what_could_be_seen_only_after_the_window() -> None:
    writer = Told(0, "n1", numbers=[(1, 1010.0), (2, 1500.0), (3, 1950.0)])
    near = Told(1, "n2", numbers=[(1, 1012.0), (2, 1510.0)])
    far = Told(2, "n3", numbers=[(1, 1005.0)])
    found = staleness.figures(Window(1000.0, 2000.0, (writer, near, far)), seconds=1.0)
    assert found.ages_ms == (2.0, 10.0, 0.0)
    assert found.readers == ("n2", "n2", "n3")
    assert found.unseen == 1
    assert (found.p50_ms, found.p99_ms) == (2.0, 10.0)


def test_conflicts_count_numbers_or_words() -> None:
    told = (Told(0, answers=[(1.0, 1.0)] * 3, failed=[(1.0, "failed", "40001")]), Told(1, answers=[(1.0, 1.0)] * 2))
    window = Window(0.0, 1.0, told)
    assert conflicts.count_up(window, [1, 2]).lost == 2
    found = conflicts.count_up(window, ["0.1 0.2", "", "1.1"])
    assert (found.wanted, found.there, found.lost, found.failed, found.per_row) == (5, 3, 2, 1, (2, 0, 1))


@pytest.mark.parametrize(
    ("strategy", "kind", "many", "spread", "works"),
    [
        ("active-passive", "write", False, False, [("n2", "n2", 1)]),
        ("active-passive", "write", True, True, [("n1", "n2", 2), ("n3", "n2", 2), ("n2", "n2", 2)]),
        ("active-passive", "read", True, True, [("n1", "n1", 2), ("n3", "n3", 2), ("n2", "n2", 2)]),
        ("active-passive", "read", False, True, [("n1", "n1", 1)]),
        ("active-active", "write", True, False, [("n1", "n1", 2)] * 3),
        ("active-active", "write", True, True, [("n2", "n2", 2), ("n3", "n3", 2), ("n1", "n1", 2)]),
        ("active-active", "write", False, True, [("n2", "n2", 1)]),
    ],
)
def test_clients_are_beside_nodes_and_write_where_that_is_possible(
    strategy: str, kind: str, many: bool, spread: bool, works: list[tuple[str, str, int]]
) -> None:
    jobs = speed.jobs(view(strategy), lambda node: Place((node,)), kind, 1.0, 1, many=many, spread=spread)
    assert [(place.enter[0], job.dsns[0].removeprefix("dsn of "), len(job.dsns)) for place, job in jobs] == works
    numbers = [job.first + index for _, job in jobs for index in range(len(job.dsns))]
    assert numbers == list(range(len(numbers)))


def test_clients_in_one_place_share_a_process_where_speed_does_not_matter() -> None:
    spread = speed.jobs(view("active-active"), lambda _: HERE, "increments", 1.0, 1, many=True, spread=True)
    ((place, job),) = merged(spread)
    assert (place, job.first) == (HERE, 0)
    assert job.dsns == ("dsn of n2",) * 2 + ("dsn of n3",) * 2 + ("dsn of n1",) * 2
    apart = speed.jobs(view("active-active"), lambda node: Place((node,)), "increments", 1.0, 1, many=True, spread=True)
    assert merged(apart) == apart


def use(node: str, writes: int, net_bytes: int | None) -> NodeUse:
    return NodeUse(node, "node", 0.5, {"database": 0.5}, writes, 1000, net_bytes, 80.0)


def test_what_a_write_costs_is_what_all_nodes_spent() -> None:
    found = summed((use("n1", 10, 400), use("n2", 0, 100)), 1000.0)
    assert found.useful_share == 0.5
    assert found.per_write == {"cpu_ms": 100.0, "wal_bytes": 200.0, "net_bytes": 50.0}
    assert "bytes_acked" in found.net_source


def test_what_could_not_be_read_has_no_figure() -> None:
    found = summed((use("n1", 10, 400), use("n2", 0, None)), 1000.0)
    assert "net_bytes" not in found.per_write
    assert found.net_source.startswith("none")
    assert summed((use("n1", 0, 1),), 1000.0).per_write == {}


def test_counters_of_connections_that_came_meanwhile_begin_at_nothing() -> None:
    assert grown({"a": 10, "gone": 5}, {"a": 15, "b": 7}) == 12
    assert grown(None, {"a": 1}) is None


SHOWN = (
    'ESTAB 0 0 127.0.0.1:5432 127.0.0.1:33386 users:(("postgres",pid=25,fd=9)) bbr bytes_sent:90 bytes_acked:80 rto:1\n'
    'ESTAB 0 0 127.0.0.1:33386 127.0.0.1:5432 users:(("postgres",pid=251,fd=6)) bbr bytes_sent:7 bytes_acked:7\n'
    'ESTAB 0 0 127.0.0.1:1 127.0.0.1:2 users:(("postgres",pid=26,fd=6)) bbr\n'
)


def test_bytes_are_those_of_the_processes_that_send_the_log() -> None:
    assert acknowledged(SHOWN, [25, 26]) == {"127.0.0.1:5432 127.0.0.1:33386": 80}
    assert acknowledged(SHOWN, [2]) == {}


def test_contestants_are_chosen_by_strategy_durability_or_name() -> None:
    assert chosen([]) == ENTRIES
    assert [entry.name for entry in chosen(["quorum"])] == ["active-passive-quorum", "active-active-quorum"]
    assert [entry.name for entry in chosen(["active-active-async"])] == ["active-active-async"]
    assert len(chosen(["active-passive", "quorum"])) == 3
    with pytest.raises(UsageError, match="active-passive-async"):
        chosen(["active"])


def test_each_strategy_meets_the_faults_that_it_has_something_for() -> None:
    assert Entry("active-passive", "quorum").faults(quick=False)[-1] is Fault.SWITCHOVER
    assert Entry("active-active", "quorum").faults(quick=False)[-1] is Fault.LEAVE
    assert Entry("active-active", "async").faults(quick=True) == (Fault.KILL_DATABASE, Fault.KILL_NODE)


def test_settings_are_those_that_have_an_effect() -> None:
    passive, active = settings(Entry("active-passive", "async")), settings(Entry("active-active", "quorum"))
    assert "lease_ms" in passive
    assert "required" not in passive
    assert "tables.pattern" not in passive
    assert "tables.pattern" in active
    assert "required" in active
    assert "lease_ms" not in active
    assert {"cluster", "nodes.tags.priority", "store.etcd.endpoints"} & set(passive)
    assert HERE.enter == ()
