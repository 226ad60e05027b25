"""Three nodes that all take writes: how they come, die, return, leave and are replaced."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.cluster.real import NODE, RealCluster, engine_pids, member
from tests.stopping import stop
from twinstar.cli.make_cluster import Wishes
from twinstar.config.derive import addresses, node
from twinstar.config.dsn import member_dsn
from twinstar.ports import procfs

pytestmark = [pytest.mark.slow]

_PATIENCE_S = 60.0
_REMOVAL_MS = 3_000


class Nodes:
    """The cluster, and what clients of single nodes do and see."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        for name in cluster.names:
            self.run(name, "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at text, n int)")
        self.told("tables", "add", "orders")

    def told(self, *arguments: str) -> Any:
        return self.cluster.told(*arguments)

    def dsn(self, name: str) -> str:
        return member_dsn(self.cluster.config, node(self.cluster.config, name))

    def run(self, name: str, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn(name), autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def write(self, name: str, count: int = 10) -> None:
        self.run(name, f"INSERT INTO orders (at, n) SELECT '{name}', i FROM generate_series(1, {count}) i")

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        return self.run(name, "SELECT * FROM orders ORDER BY id")

    def equal(self, *names: str) -> list[tuple[Any, ...]]:
        """Waits until these nodes have the same rows."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            seen = [self.rows(name) for name in names]
            if all(rows == seen[0] for rows in seen):
                return seen[0]
            assert time.monotonic() < until, f"{names} still differ: {[len(rows) for rows in seen]} rows"
            time.sleep(0.1)

    def spread(self, count: int) -> list[int]:
        """How many sessions each node has, of so many through the router at once."""
        any_dsn = self.cluster.status()["endpoints"]["any"]
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(psycopg.connect(any_dsn, autocommit=True)) for _ in range(count)]
            where = Counter(session.execute("SELECT current_setting('port')").fetchone() for session in sessions)
        return sorted(where.values())

    def metrics(self, name: str) -> str:
        at = addresses(node(self.cluster.config, name)).api
        with urllib.request.urlopen(f"http://{at}/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def number(self, name: str) -> int | None:
        found: int | None = member(self.cluster.status(), name)["number"]
        return found


class Writing:
    """One client that writes to one node, without a pause, and what it was told."""

    def __init__(self, nodes: Nodes, name: str) -> None:
        self._dsn, self._name = nodes.dsn(name), name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.acknowledged: list[int] = []

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def progress(self, count: int = 50) -> None:
        """Waits until more has been written."""
        wanted, until = len(self.acknowledged) + count, time.monotonic() + _PATIENCE_S
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < until, "nothing is acknowledged any more"
            time.sleep(0.01)

    def _write(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as session:
            while not self._stop.is_set():
                found = session.execute(b"INSERT INTO orders (at) VALUES (%s) RETURNING id", (self._name,)).fetchone()
                assert found is not None
                self.acknowledged.append(found[0])
                time.sleep(0.002)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    cluster = RealCluster(tmp_path_factory.mktemp("nodes") / "cluster", Wishes(strategy="active-active"))
    try:
        cluster.up()
        yield Nodes(cluster)
    finally:
        cluster.remove()


@pytest.fixture
def nodes(started: Nodes) -> Nodes:
    started.cluster.whole(_PATIENCE_S)
    return started


def test_every_node_takes_writes_and_all_have_them(nodes: Nodes) -> None:
    before = len(nodes.equal(*nodes.cluster.names))
    for name in nodes.cluster.names:
        nodes.write(name)
    rows = nodes.equal(*nodes.cluster.names)
    assert len(rows) == before + 30
    assert len({key for key, *_ in rows}) == len(rows), "no two nodes give one number"


def test_the_router_spreads_sessions_over_the_nodes(nodes: Nodes) -> None:
    """As soon as it has heard all of them; until then those that it has."""
    until = time.monotonic() + _PATIENCE_S
    while (spread := nodes.spread(6)) != [2, 2, 2]:
        assert time.monotonic() < until, spread


def test_a_node_that_dies_does_not_concern_the_others_and_catches_up(nodes: Nodes) -> None:
    nodes.write("n2")
    nodes.equal("n1", "n2", "n3")
    number = nodes.number("n2")
    nodes.cluster.kill("n2", *NODE)
    for name in ("n1", "n3"):
        nodes.write(name)
    nodes.equal("n1", "n3")
    nodes.cluster.start("n2")
    nodes.cluster.whole(_PATIENCE_S)
    nodes.equal("n1", "n2", "n3")
    assert nodes.number("n2") == number, "it is the same node"


def test_an_agent_that_dies_takes_no_database_with_it(nodes: Nodes) -> None:
    with psycopg.connect(nodes.dsn("n3"), autocommit=True) as session:
        nodes.cluster.kill("n3", "agent")
        session.execute("INSERT INTO orders (at, n) VALUES ('n3', 0)")
        nodes.cluster.start("n3")
        nodes.cluster.whole(_PATIENCE_S)
        session.execute("INSERT INTO orders (at, n) VALUES ('n3', 1)")
    nodes.equal("n1", "n2", "n3")


def test_a_node_leaves_in_order_and_comes_back_under_a_new_number(nodes: Nodes) -> None:
    nodes.write("n3")
    number = nodes.number("n3")
    assert nodes.told("leave", "n3", "--yes")["ok"]
    rows = nodes.equal("n1", "n2")
    assert any(at == "n3" for _, at, *_ in rows), "what it had is with the others"
    left = nodes.cluster.until(lambda s: member(s, "n3")["number"] is None, "n3 is gone")
    assert left["copies"] == ["n1", "n2"]
    with pytest.raises(psycopg.OperationalError):
        nodes.run("n3", "SELECT 1")
    slots = "SELECT count(*) FROM pg_replication_slots"
    nodes.cluster.until(lambda _: nodes.cluster.ask("n1", slots) == [(1,)], "nothing is kept for it any more")
    nodes.write("n1")
    assert nodes.told("rejoin", "n3")["ok"]
    nodes.cluster.whole(_PATIENCE_S)
    nodes.equal("n1", "n2", "n3")
    assert nodes.number("n3") not in (None, number)


def test_a_node_is_copied_anew_while_the_others_take_writes(nodes: Nodes) -> None:
    given = [nodes.number(name) or 0 for name in nodes.cluster.names]
    rows = len(nodes.equal("n1", "n2", "n3"))
    with Writing(nodes, "n1") as writing:
        writing.progress()
        assert nodes.told("reinit", "n2", "--yes")["ok"]
        nodes.cluster.until(lambda s: (member(s, "n2")["number"] or 0) > max(given), "it has a new number", _PATIENCE_S)
        nodes.cluster.whole(_PATIENCE_S)
        writing.progress()
    found = nodes.equal("n1", "n2", "n3")
    assert {key for key, *_ in found} >= set(writing.acknowledged)
    assert len(found) == rows + len(writing.acknowledged)


def test_what_is_known_of_each_node_is_shown(nodes: Nodes) -> None:
    names = set(nodes.cluster.names)
    nodes.write("n1")
    nodes.equal(*names)
    with psycopg.connect(member(nodes.cluster.status(), "n2")["dsn"]):
        shown = nodes.cluster.until(
            lambda s: (
                all(len(each["skews_ms"]) == len(each["lags_ms"]) == 2 for each in s["members"])
                and member(s, "n2")["sessions"] == 1
                and s["equality"] is not None
            ),
            "clocks are compared, and the nodes are",
            _PATIENCE_S,
        )
    assert len({each["number"] for each in shown["members"]}) == len(names)
    for each in shown["members"]:
        assert each["skews_ms"].keys() == each["lags_ms"].keys() == names - {each["name"]}
        assert all(abs(skew) < 1_000 for skew in each["skews_ms"].values()), "one machine has one clock"
        assert each["dead_letters"] == 0
        assert nodes.cluster.ask(each["name"], "SHOW max_slot_wal_keep_size") == [("4GB",)]
    assert shown["equality"]["differing"] == 0
    metrics = "".join(nodes.metrics(name) for name in names)
    assert re.search(r"^twinstar_differing_rows(\{.*\})? 0(\.0)?$", metrics, re.MULTILINE)


def test_one_that_was_declared_dead_comes_back_as_a_copy(nodes: Nodes) -> None:
    nodes.write("n1")
    nodes.equal("n1", "n2", "n3")
    number = nodes.number("n1")
    nodes.cluster.kill("n1", *NODE)
    refused = nodes.cluster.cli("remove", "n2", "--yes")
    assert refused.returncode == 1
    assert "is alive" in refused.stderr + refused.stdout
    nodes.cluster.until(lambda s: member(s, "n1")["state"] == "unreachable", "n1 is not heard any more")
    nodes.told("remove", "n1", "--yes")
    nodes.cluster.until(lambda s: s["copies"] == ["n2", "n3"], "n1 is out")
    nodes.write("n2")
    nodes.cluster.start("n1")
    nodes.cluster.whole(_PATIENCE_S)
    nodes.equal("n1", "n2", "n3")
    assert nodes.number("n1") not in (None, number)


def test_what_a_dead_node_has_sent_to_one_survivor_alone_the_other_one_gets_from_there(nodes: Nodes) -> None:
    nodes.equal("n1", "n2", "n3")
    agent = procfs.pid_of(nodes.cluster.runs("n3", "agent")[0])
    assert agent is not None
    file = f"applier-{nodes.number('n3')}-{nodes.number('n1')}.json"
    appliers: list[int] = []

    def runs(_: object) -> bool:  # it is started again when the membership has changed
        appliers[:] = (each.pid for each in procfs.children_of(agent) if file in each.title)
        return len(appliers) == 1

    nodes.cluster.until(runs, "the applier runs")
    stop(*appliers)
    nodes.write("n1")
    rows = nodes.equal("n1", "n2")
    assert len(nodes.rows("n3")) == len(rows) - 10
    mark = nodes.cluster.mark("n3 agent")
    nodes.cluster.kill("n1", *NODE)
    nodes.cluster.until(lambda s: member(s, "n1")["state"] == "unreachable", "n1 is not heard any more")
    nodes.told("remove", "n1", "--yes")
    assert nodes.equal("n2", "n3") == rows
    nodes.cluster.until(lambda s: member(s, "n1")["number"] is None, "it is settled", _PATIENCE_S)
    assert nodes.cluster.said("n3 agent", "n2 has more of the log of node", mark)
    nodes.cluster.start("n1")
    nodes.cluster.whole(_PATIENCE_S)
    nodes.equal("n1", "n2", "n3")


def test_one_that_was_away_for_too_long_hands_over_what_it_has_and_is_copied_anew(nodes: Nodes) -> None:
    """Its place in another node's log was given up; what it wrote last, nobody else has yet."""
    nodes.equal("n1", "n2", "n3")
    number = nodes.number("n3")
    for name in ("n1", "n2"):
        nodes.cluster.kill(name, *NODE)
    nodes.run("n3", "INSERT INTO orders (at, n) VALUES ('alone', 1)")
    nodes.cluster.kill("n3", *NODE)
    nodes.cluster.start("n1", "n2")
    nodes.cluster.until(
        lambda s: {member(s, n)["state"] for n in ("n1", "n2")} == {"serving"}, "the others serve", _PATIENCE_S
    )
    nodes.cluster.ask("n1", f"SELECT pg_drop_replication_slot('twinstar_{number}')")
    nodes.write("n1")
    nodes.cluster.start("n3")
    nodes.cluster.until(lambda s: member(s, "n3")["number"] not in (None, number), "n3 is a new node", _PATIENCE_S)
    nodes.cluster.whole(_PATIENCE_S)
    rows = nodes.equal("n1", "n2", "n3")
    assert [at for _, at, *_ in rows].count("alone") == 1
    assert nodes.cluster.said("n3 agent", "comes back as a copy")


def test_what_can_change_while_it_runs_is_applied_by_reload(nodes: Nodes) -> None:
    cluster = nodes.cluster
    good = cluster.file.read_text()
    pids = engine_pids(cluster.status())

    def change(raw: dict[str, Any]) -> None:
        raw.update(clock_bound_ms=20_000, tables=[{"pattern": "public.taken_*"}])
        raw["postgresql"].update(
            parameters={"work_mem": "7MB", "max_connections": 120}, hba=["local all all peer map=nobody"]
        )
        raw["timing"].update(heartbeat_ms=110)

    try:
        cluster.edit(change)
        done = nodes.told("reload")
        assert all("timing.heartbeat_ms: restart" in each["message"] for each in done.values()), done
        for name in cluster.names:
            assert nodes.run(name, "SHOW work_mem") == [("7MB",)]
            assert "map=nobody" in (cluster.data[name].parent / "conf" / "pg_hba.conf").read_text()
            nodes.run(name, "CREATE TABLE taken_in (id uuid PRIMARY KEY, at text)")
        wanted = {f"{name}: {key}" for name in cluster.names for key in ("max_connections", "timing.heartbeat_ms")}
        cluster.until(lambda s: wanted <= set(s["restart_pending"]) and s["drift"] == [], "what waits is shown")
        assert "n1: max_connections" in cluster.cli("status").stdout
        nodes.run("n1", "INSERT INTO taken_in (id, at) VALUES (gen_random_uuid(), 'n1')")
        for name in ("n2", "n3"):
            cluster.until(
                lambda _, name=name: nodes.run(name, "SELECT at FROM taken_in") == [("n1",)],  # type: ignore[misc]
                "the new rule takes the table in",
                _PATIENCE_S,
            )
        assert engine_pids(cluster.status()) == pids, "nothing was restarted"
        nodes.told("restart", "n1")
        assert nodes.run("n1", "SHOW max_connections") == [("120",)]
        cluster.until(lambda s: "n1: max_connections" not in s["restart_pending"], "and waits no more")
    finally:
        cluster.file.write_text(good)
        nodes.told("reload")
    # PostgreSQL goes on saying it of what is not in its file any more.
    waits = {f"{name}: max_connections" for name in cluster.names}
    cluster.until(lambda s: set(s["restart_pending"]) == waits, "nor does what was taken back")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.update(clock_bound=1), "clock_bound"),
        (lambda raw: raw["postgresql"].update(parameters={"work_mem": "much"}), "postgresql.parameters"),
        (lambda raw: raw["postgresql"].update(hba=["host all all 300.0.0.1/8 md5"]), "postgresql.hba"),
        (lambda raw: raw["postgresql"].update(user="web"), "create another with SQL"),
        (lambda raw: raw["nodes"].pop(), "twinstar remove"),
    ],
)
def test_a_file_that_cannot_be_taken_over_is_refused_and_nothing_changes(
    nodes: Nodes, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    good, before = nodes.cluster.file.read_text(), nodes.cluster.status()
    raw = yaml.safe_load(good)
    raw["clock_bound_ms"] = 30_000
    raw["postgresql"]["parameters"] = {"work_mem": "8MB"}
    change(raw)
    try:
        nodes.cluster.file.write_text(yaml.safe_dump(raw))
        refused = nodes.cluster.cli("reload")
        assert refused.returncode in (1, 2)
        assert words in refused.stdout + refused.stderr
    finally:
        nodes.cluster.file.write_text(good)
    assert nodes.run("n1", "SHOW work_mem") != [("8MB",)]
    shown = ("restart_pending", "drift")
    nodes.cluster.until(lambda s: [s[key] for key in shown] == [before[key] for key in shown], "nothing waits for it")
    done = nodes.told("reload")
    assert all(each["message"].startswith("0 change") for each in done.values()), done


def test_the_durability_is_changed_while_it_runs_and_what_was_promised_before_is_kept(nodes: Nodes) -> None:
    """Acknowledged with `quorum`, since two nodes have it on disk; then the cluster turns to `async`, the writer dies
    and is declared dead, and neither survivor had applied it.
    """
    cluster = nodes.cluster
    nodes.equal("n1", "n2", "n3")
    numbers = [nodes.number(name) for name in ("n2", "n3")]

    def confirming(*names: str) -> set[str]:
        found = set()
        for name in names:
            with contextlib.suppress(psycopg.OperationalError):  # one that was killed just now is still shown
                found.add(str(cluster.ask(name, "SHOW synchronous_standby_names")[0][0])[:5])
        return found

    def become(durability: str, said: str) -> None:
        cluster.edit(lambda raw: raw.update(durability=durability))
        cluster.cli("reload")
        cluster.until(
            lambda s: (
                (s["durability"], confirming(*(m["name"] for m in s["members"] if m["engine_pid"])))
                == (durability, {said})
            ),
            f"it is {durability} everywhere",
        )

    become("quorum", "ANY 1")
    try:
        nodes.write("n2")
        rows = nodes.equal("n1", "n2", "n3")
        with contextlib.ExitStack() as held:
            for name in ("n2", "n3"):
                session = held.enter_context(psycopg.connect(nodes.dsn(name)))
                session.execute("LOCK TABLE orders")
            nodes.write("n1", 10)
            become("async", "")
            cluster.kill("n1", *NODE)
            cluster.until(lambda s: member(s, "n1")["state"] == "unreachable", "n1 is not heard any more")
            removing = threading.Thread(target=nodes.told, args=("remove", "n1", "--yes"))
            removing.start()
            cluster.until(lambda s: s["copies"] == ["n2", "n3"], "n1 is declared dead")
            time.sleep(1)
            assert nodes.number("n1") is not None, "what has come of it is not applied yet"
        removing.join(_PATIENCE_S)
        cluster.until(lambda s: member(s, "n1")["number"] is None, "it is settled", _PATIENCE_S)
        assert len(nodes.equal("n2", "n3")) == len(rows) + 10
    finally:
        become("async", "")
        cluster.start("n1")
    cluster.whole(_PATIENCE_S)
    assert [nodes.number(name) for name in ("n2", "n3")] == numbers, "none of them took what waits for a gap"
    nodes.equal("n1", "n2", "n3")


def test_a_node_that_has_another_file_is_shown(nodes: Nodes) -> None:
    """As when it could not be reached, or its own file was not edited."""
    good = nodes.cluster.file.read_text()
    try:
        nodes.cluster.edit(lambda raw: raw.update(removal_ms=120_000))
        nodes.cluster.kill("n3", "agent")
        nodes.cluster.cli("reload")
        nodes.cluster.file.write_text(good)
        nodes.cluster.start("n3")
        nodes.cluster.until(lambda s: s["drift"] == ["n3: removal_ms"], "the others see that", _PATIENCE_S, at="n1")
        for name in nodes.cluster.names:
            nodes.cluster.until(lambda s: any("removal_ms" in each for each in s["drift"]), "all see it", at=name)
        assert "removal_ms" in nodes.cluster.cli("status").stdout, "whoever is asked"
    finally:
        nodes.cluster.file.write_text(good)
        nodes.told("reload")
    for name in nodes.cluster.names:
        nodes.cluster.until(lambda s: s["drift"] == [], "they are the same again", at=name)


def test_all_of_them_restarted_at_once(nodes: Nodes) -> None:
    for name in nodes.cluster.names:
        nodes.write(name)
    numbers = [nodes.number(name) for name in nodes.cluster.names]
    nodes.cluster.power_loss()
    nodes.cluster.start("store", *nodes.cluster.names, "router")
    nodes.cluster.whole(_PATIENCE_S)
    nodes.equal(*nodes.cluster.names)
    assert [nodes.number(name) for name in nodes.cluster.names] == numbers


def test_with_quorum_nothing_acknowledged_dies_with_its_node(tmp_path: Path) -> None:
    """It is written without a pause, killed at once, and declared dead: its survivors have all it has acknowledged.
    Then, with policy `block`, a commit waits for the only other node that is left, unless it says that it need not.
    """
    cluster = RealCluster(tmp_path / "cluster", Wishes(strategy="active-active", durability="quorum"))
    try:
        cluster.up()
        nodes = Nodes(cluster)
        acknowledged = []
        with psycopg.connect(nodes.dsn("n1"), autocommit=True) as session:
            for n in range(300):
                found = session.execute("INSERT INTO orders (at, n) VALUES ('n1', %s) RETURNING id", (n,)).fetchone()
                assert found is not None
                acknowledged.append(found[0])
            cluster.kill("n1", *NODE)
        cluster.until(lambda s: member(s, "n1")["state"] == "unreachable", "n1 is not heard any more")
        nodes.told("remove", "n1", "--yes")
        cluster.until(
            lambda s: s["copies"] == ["n2", "n3"] and member(s, "n1")["number"] is None, "it is settled", 60.0
        )
        rows = nodes.equal("n2", "n3")
        assert {key for key, *_ in rows} >= set(acknowledged)
        cluster.kill("n3", *NODE)
        # What receives for it ends a moment after its agent, and confirms as long as it is there.
        receivers = "SELECT count(*) FROM pg_replication_slots WHERE active"
        cluster.until(lambda _: cluster.ask("n2", receivers) == [(0,)], "nobody receives any more")
        waiting = threading.Thread(target=nodes.write, args=("n2", 1))
        waiting.start()
        nodes.run("n2", "BEGIN; SET LOCAL synchronous_commit = local; INSERT INTO orders (at) VALUES ('alone'); COMMIT")
        waiting.join(2)
        assert waiting.is_alive(), "nobody else has it"
        cluster.start("n3")
        waiting.join(_PATIENCE_S)
        assert not waiting.is_alive()
        # Asked of itself: what the others have heard of it may be from before it was killed.
        cluster.until(lambda s: member(s, "n3")["open"], "n3 takes clients again", _PATIENCE_S, at="n3")
        cluster.until(lambda s: member(s, "n2")["open"], "n2 still does", _PATIENCE_S, at="n2")
        assert len(nodes.equal("n2", "n3")) == len(rows) + 2
        with psycopg.connect(nodes.dsn("n2")) as session:
            session.execute("LOCK TABLE orders")
            nodes.write("n3")
            leaving = threading.Thread(target=nodes.told, args=("leave", "n3", "--yes"))
            leaving.start()
            cluster.until(lambda s: "n2 to apply" in member(s, "n3")["note"], "received is not enough", _PATIENCE_S)
            time.sleep(1)
            assert nodes.number("n3") is not None
        leaving.join(_PATIENCE_S)
        cluster.until(lambda s: member(s, "n3")["number"] is None, "n3 has left")
        assert len(nodes.rows("n2")) == len(rows) + 12
        # Who is not in may go from the file.
        cluster.edit(lambda raw: raw.update(nodes=raw["nodes"][1:], policy="block"))
        nodes.told("reload")
        cluster.until(lambda s: [each["name"] for each in s["members"]] == ["n2", "n3"], "n1 is forgotten", at="n2")
    finally:
        cluster.remove()


def test_a_node_left_alone_goes_on_and_who_is_silent_for_too_long_is_taken_out(tmp_path: Path) -> None:
    """With policy `degrade`. One alone declares nobody dead; two of three do, and the third comes back as a copy."""
    wishes = Wishes(strategy="active-active", durability="quorum", policy="degrade")
    cluster = RealCluster(tmp_path / "cluster", wishes, lambda raw: raw.update(removal_ms=_REMOVAL_MS))
    try:
        cluster.up()
        nodes = Nodes(cluster)
        number = nodes.number("n3")
        nodes.write("n3")
        nodes.equal("n1", "n2", "n3")
        for name in ("n2", "n3"):
            cluster.kill(name, *NODE)
        nodes.write("n1")
        time.sleep(_REMOVAL_MS / 1_000)
        nodes.write("n1")
        assert cluster.status()["copies"] == ["n1", "n2", "n3"]
        cluster.start("n2")
        cluster.until(lambda s: s["copies"] == ["n1", "n2"] and member(s, "n3")["number"] is None, "n3 is out", 60.0)
        cluster.until(lambda s: member(s, "n2")["open"], "n2 takes clients", _PATIENCE_S)
        rows = nodes.equal("n1", "n2")
        cluster.start("n3")
        cluster.whole(_PATIENCE_S)
        assert nodes.equal("n1", "n2", "n3") == rows
        assert (nodes.number("n3") or 0) > (number or 0)
        assert (cluster.data["n3"].parent / "data.old" / "PG_VERSION").exists(), "what it had is there for people"
    finally:
        cluster.remove()


def test_what_is_not_this_strategys_is_said(nodes: Nodes, tmp_path: Path) -> None:
    for command in (("switchover",), ("failover",), ("pause",)):
        refused = nodes.cluster.cli(*command)
        assert refused.returncode == 1
        assert "No node leads" in refused.stderr + refused.stdout, tmp_path
