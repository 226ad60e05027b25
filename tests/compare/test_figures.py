"""Every figure from a series that is small enough to be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compare.test_comparison import RUN
from twinstar.compare.comparison import ClientSeries, Refusal
from twinstar.compare.figures import (
    ages,
    condensed,
    error_name,
    longest_gap,
    outage,
    per_bin,
    percentile,
    refusals,
    tally,
    throughput,
)


def client(number: int, node: str, *acknowledged_ms: float) -> ClientSeries:
    return ClientSeries(number, node, acknowledged_ms, ())


def test_condensed_counts_equal_values_smallest_first() -> None:
    assert condensed([0.304, 2.0, 0.299]) == ((0.3, 2), (2.0, 1))


@pytest.mark.parametrize(("share", "value"), [(0.5, 1.0), (0.51, 2.0), (0.75, 2.0), (0.76, 9.0), (1.0, 9.0)])
def test_percentiles_are_values_that_were_measured(share: float, value: float) -> None:
    assert percentile([(1.0, 2), (2.0, 1), (9.0, 1)], share) == value


def test_without_values_there_is_no_percentile_above_zero() -> None:
    assert percentile([], 0.5) == 0.0


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(condensed(values), share)
    rounded = [round(value, 2) for value in values]
    assert found in rounded
    assert sum(value <= found for value in rounded) >= share * len(values) - 1e-9
    assert sum(value < found for value in rounded) < share * len(values)


def test_bins_cover_the_window_and_nothing_else() -> None:
    assert per_bin([0.0, 99.9, 100.0, 249.0, 250.0, -1.0], 0.0, 250.0) == (2, 1, 1)


def test_a_gap_begins_and_ends_with_the_window() -> None:
    assert longest_gap(client(0, "", 40.0, 50.0), (0.0, 100.0)) == 50.0
    assert longest_gap(client(0, "", 70.0), (0.0, 100.0)) == 70.0
    assert longest_gap(client(0, "", 10.0, 60.0, 90.0), (0.0, 100.0)) == 50.0
    assert longest_gap(client(0, ""), (0.0, 100.0)) == 100.0
    assert longest_gap(client(0, "", -20.0, 120.0), (0.0, 100.0)) == 100.0


def test_the_outage_is_of_the_struck_nodes_clients_and_the_others_have_their_own() -> None:
    clients = (client(0, "n1", 300.0), client(1, "n2", 100.0, 200.0, 900.0), client(2, "n3", 500.0, 800.0))
    run = replace(RUN, clients=clients, struck="n1", others_outage_ms=0.0)
    assert (outage(run), outage(run, others=True)) == (700.0, 700.0)
    run = replace(run, clients=(client(0, "n1", 100.0), client(1, "n2", 400.0, 800.0)))
    assert (outage(run), outage(run, others=True)) == (900.0, 400.0)


def test_where_one_node_takes_writes_the_outage_is_of_all_clients() -> None:
    run = replace(RUN, clients=(client(0, "", 500.0), client(1, "", 900.0)), struck="n1", others_outage_ms=None)
    assert outage(run) == 900.0


def test_refusals_are_counted_by_error() -> None:
    one, other = Refusal(1.0, "unknown", "lost"), Refusal(2.0, "failed", "25006 no")
    assert refusals([ClientSeries(0, "", (), (one, other)), ClientSeries(1, "", (), (one,))]) == {
        "lost": 2,
        "25006 no": 1,
    }


@pytest.mark.parametrize(
    ("why", "name"),
    [
        (
            "57P01 FATAL: terminating connection due to administrator command",
            "57P01 the session was ended by the server",
        ),
        ("deadline", "no answer within the client's deadline"),
        ("server closed the connection unexpectedly This probably means", "the connection was lost"),
        ("23505 ERROR: duplicate key 17", "23505 ERROR: duplicate key …"),
        ("something on port 5432", "something on port …"),
    ],
)
def test_errors_that_differ_in_numbers_have_one_name(why: str, name: str) -> None:
    assert error_name(why) == name


def test_throughput_counts_what_was_acknowledged_within_the_window() -> None:
    answers = [("n1", 1010.0, 2.0), ("n2", 1110.0, 4.0), ("n1", 1190.0, 4.0), ("n1", 1201.0, 90.0)]
    found = throughput(answers, 1000.0, 1200.0, clients=2, failed=1)
    assert (found.per_s, found.p50_ms, found.p99_ms) == (15.0, 4.0, 4.0)
    assert found.latencies_ms == ((2.0, 1), (4.0, 2))
    assert found.throughput_series == (1, 2)
    assert found.nodes == {"n1": 2, "n2": 1}
    assert (found.window_ms, found.clients, found.failed) == (200.0, 2, 1)


def test_an_age_ends_when_the_number_or_a_later_one_is_seen() -> None:
    written = [(1, 100.0), (2, 120.0), (3, 140.0), (4, 160.0)]
    seen = [(1, 105.0), (3, 139.0)]
    assert ages(written, seen) == ((5.0, 19.0, 0.0), 1)
    assert ages(written, []) == ((), 4)


def test_a_tally_is_what_was_wanted_and_is_there() -> None:
    found = tally([3, 4], [2, 3], failed=1)
    assert (found.wanted, found.there, found.lost, found.failed) == (7, 5, 2, 1)
    assert (found.per_client, found.per_row) == ((3, 4), (2, 3))
