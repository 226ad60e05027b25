"""Appliers as processes: started, ended, killed, and what they say of themselves."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.multiwriter.appliers import Applier, Node, join, same
from tests.engine.postgresql.lab import Server, environment, until
from twinstar.ports import procfs

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
ALL = "SELECT * FROM t ORDER BY id"


@pytest.fixture
async def nodes(own: list[Server], tmp_path: Path) -> Any:
    made = [Node(number, server, "postgres", tmp_path) for number, server in enumerate(own[:2], 1)]
    await join(made, TABLE, tables={"t": None})
    yield made
    for node in made:
        for applier in node.appliers.values():
            applier.end(signal.SIGKILL)


@pytest.fixture
def to_b(nodes: list[Node]) -> Applier:
    _, b = nodes
    return b.appliers[1]


def arrived(nodes: list[Node], applier: Applier) -> None:
    same(nodes, ALL)
    until(lambda: applier.state().get("lag_ms") == 0, "it says that nothing is missing")


def test_it_applies_says_so_and_ends_when_asked(nodes: list[Node], to_b: Applier) -> None:
    a, _ = nodes
    to_b.start()
    a.do("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 3) AS i; UPDATE t SET v = 'new' WHERE id = 2")
    arrived(nodes, to_b)
    state = to_b.state()
    assert (state["conflicts"], state["dead_letters"], state["gap"]) == (0, 0, None)
    assert to_b.end() == 0
    a.do("INSERT INTO t VALUES (4, 'later')")
    to_b.start()
    arrived(nodes, to_b)
    assert to_b.state()["rows"] == 1


def test_it_ends_with_its_parent(nodes: list[Node], to_b: Applier) -> None:
    parent = subprocess.Popen(["sleep", "600"], env=environment())
    to_b.changes["parent"] = procfs.run_id(parent.pid)
    to_b.start()
    arrived(nodes, to_b)
    parent.kill()
    parent.wait()
    assert to_b.process is not None
    assert to_b.process.wait(60) == 0


def test_the_lag_of_a_stream_that_is_cut_grows_and_that_of_an_idle_peer_does_not(
    nodes: list[Node], to_b: Applier
) -> None:
    a, _ = nodes
    to_b.start()
    a.do("INSERT INTO t VALUES (1, 'x')")
    arrived(nodes, to_b)
    time.sleep(4)
    until(lambda: to_b.state()["lag_ms"] == 0, "it has none: one that grew would not go")
    a.server.stop()
    until(lambda: (to_b.state()["lag_ms"] or 0) > 3000, "its lag grows")
    assert to_b.state()["error"]
    a.server.start()
    a.do("INSERT INTO t VALUES (2, 'y')")
    arrived(nodes, to_b)


def test_settings_that_cannot_work(nodes: list[Node], to_b: Applier) -> None:
    to_b.changes["durability"] = "sometimes"
    to_b.start()
    assert to_b.process is not None
    assert to_b.process.wait(60) == 2
    assert "`durability` is wrong" in to_b.log


def test_a_gap_ends_it_and_is_said(nodes: list[Node], to_b: Applier) -> None:
    a, _ = nodes
    a.do("SELECT pg_drop_replication_slot('twinstar_2')")
    to_b.start()
    assert to_b.process is not None
    assert to_b.process.wait(60) == 3
    assert to_b.state()["gap"]["cause"] == "no slot"
    assert "copy it anew" in to_b.log


def test_with_quorum_nothing_acknowledged_is_lost_whoever_is_killed(nodes: list[Node], to_b: Applier) -> None:
    """What was received and is not applied when the machine's processes die is applied from the spool, also when the
    sender never comes back."""
    a, b = nodes
    to_b.changes["durability"] = "quorum"
    to_b.start()
    a.server.set(synchronous_standby_names="ANY 1 (twinstar_2)")
    a.do("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) AS i")
    same(nodes, ALL)
    # Nothing can be applied while somebody holds a lock; it is received all the same.
    with b.server.connect(dbname=b.database) as holder:
        holder.execute("BEGIN; LOCK TABLE t")
        for number in range(101, 121):
            a.do(f"INSERT INTO t VALUES ({number}, 'acknowledged')")
        acknowledged = a.do(ALL)
        to_b.end(signal.SIGKILL)
    a.server.kill()
    b.server.kill()
    b.server.start()
    to_b.start()
    until(lambda: b.do(ALL) == acknowledged, "all that was acknowledged is here", 60)
    # Back to `async`: what is in the spool comes first, and reading goes on where it ended.
    to_b.end(signal.SIGKILL)
    to_b.changes["durability"] = "async"
    a.server.configure(synchronous_standby_names="")
    a.server.start()
    to_b.start()
    a.do("INSERT INTO t VALUES (121, 'async')")
    arrived(nodes, to_b)
    assert not list(b.folder.glob("*.spool"))


@pytest.mark.parametrize("durability", ["async", "quorum"])
def test_a_transaction_of_a_hundred_megabytes_takes_no_such_memory(
    nodes: list[Node], to_b: Applier, durability: str
) -> None:
    a, _ = nodes
    to_b.changes["durability"] = durability
    to_b.start()
    a.do("INSERT INTO t VALUES (0, '')")
    arrived(nodes, to_b)
    assert to_b.process is not None
    before = peak_bytes(to_b.process.pid)
    a.do("INSERT INTO t SELECT i, repeat(md5(i::text), 320) FROM generate_series(1, 10000) AS i")
    same(nodes, "SELECT count(*), sum(length(v)) FROM t", 150)
    assert peak_bytes(to_b.process.pid) - before < 60 * 1024 * 1024


def peak_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
