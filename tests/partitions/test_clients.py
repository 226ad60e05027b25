"""The clients themselves, on a server that nothing happens to: truth is accepted, and what is done behind their back is
noticed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.drill.plain_postgresql import PlainPostgresql, find_bin_dir
from tests.partitions.clients import LISTS, REGISTERS, Tellers, make_tables
from twinstar.histories.operation import Kind, Outcome
from twinstar.histories.verdict import Accepted, Fault, Refused

DONE = 150
BEHIND_THEIR_BACK = {
    "the last element goes": (f"UPDATE {LISTS} SET elements = trim_array(elements, 1)", 0, Fault.LOST),
    "a first element appears": (f"UPDATE {LISTS} SET elements = ARRAY[0::bigint] || elements", 0, Fault.CONTRADICTION),
    "values fall back": (f"UPDATE {REGISTERS} SET value = 0", 1, Fault.UNWRITTEN),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PlainPostgresql]:
    bin_dir = find_bin_dir()
    if bin_dir is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: install Debian's postgresql")
    server = PlainPostgresql(bin_dir)
    try:
        server.start()
        make_tables(server.dsn)
        yield server
    finally:
        server.remove()


def told(server: PlainPostgresql, run: str) -> Tellers:
    with Tellers(server.dsn, run) as tellers:
        tellers.served(DONE)
    return tellers


def test_the_truth_is_accepted_and_everything_was_tried(server: PlainPostgresql) -> None:
    tellers = told(server, "truth")
    assert all(isinstance(verdict, Accepted) for verdict in tellers.verdicts(server.dsn))
    acknowledged = {o.kind for o in tellers.told if o.outcome is Outcome.ACKNOWLEDGED}
    assert acknowledged == {Kind.APPEND, Kind.READ, Kind.WRITE, Kind.COMPARE_AND_SET, Kind.UNEQUAL}


@pytest.mark.parametrize("what", BEHIND_THEIR_BACK)
def test_what_is_done_behind_their_back_is_noticed(server: PlainPostgresql, what: str) -> None:
    statement, which, fault = BEHIND_THEIR_BACK[what]
    run = what.replace(" ", "-")
    tellers = told(server, run)
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute(f"{statement} WHERE key LIKE %s".encode(), [f"% {run}"])
    verdict = tellers.verdicts(server.dsn)[which]
    assert isinstance(verdict, Refused)
    assert fault in {anomaly.fault for anomaly in verdict.anomalies}
