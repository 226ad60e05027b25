"""A whole cluster on this machine: it comes up, is one at a time, and leaves no process behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from tests.cli.local import Folder, until
from twinstar.cli.local_files import LocalFiles

pytestmark = [pytest.mark.slow]


def up(folder: Folder, *options: str) -> dict[str, object]:
    done = folder.run("up", "--detach", "--json", *options)
    assert done.returncode == 0, done.stderr
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def status(folder: Folder) -> dict[str, object]:
    done = folder.run("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def files(folder: Folder) -> LocalFiles:
    return LocalFiles(folder.path / "twinstar.yaml")


def test_a_cluster_comes_up_serves_is_up_once_and_goes_down(folder: Folder) -> None:
    up(folder, "--nodes", "3")
    endpoints = status(folder)["endpoints"]
    assert isinstance(endpoints, dict)
    with psycopg.connect(endpoints["write"], autocommit=True) as session:
        session.execute("CREATE TABLE t (i int)")
        session.execute("INSERT INTO t VALUES (1)")
        assert session.execute("SELECT i FROM t").fetchall() == [(1,)]

    again = folder.run("up")
    assert again.returncode == 2
    assert "up already" in again.stderr

    below = folder.path / "a" / "b"
    below.mkdir(parents=True)
    assert Folder(below).run("status").returncode == 0, "a cluster is found from a folder below its own"

    assert folder.run("down").returncode == 0
    assert folder.processes() == []
    assert not files(folder).state.exists()

    up(folder)  # The same data again.
    endpoints = status(folder)["endpoints"]
    assert isinstance(endpoints, dict)
    with psycopg.connect(endpoints["write"]) as session:
        assert session.execute("SELECT i FROM t").fetchall() == [(1,)]


def test_a_killed_agent_stays_dead_until_it_is_started(folder: Folder) -> None:
    up(folder, "--nodes", "1", "--durability", "async")
    state = files(folder).read_state()
    assert state is not None
    agent = state.program("n1 agent")
    assert agent is not None
    os.kill(int(agent.run.partition(":")[0]), signal.SIGKILL)

    def noted() -> bool:
        now = files(folder).read_state()
        return now is not None and (program := now.program("n1 agent")) is not None and program.status == -9

    until(noted, "the supervisor notes the end")
    time.sleep(1)
    assert noted(), "nobody has started it again"
    assert "n1 agent" in folder.run("start", "n1").stdout
    until(lambda: folder.run("status").returncode == 0, "the agent answers again")
    assert "runs already" in folder.run("start", "n1").stdout
    assert folder.run("start", "n9").returncode == 2


@pytest.mark.parametrize("after_s", [0.1, 0.6, 1.5, 4.0])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_ending_up_at_any_moment_leaves_no_process(folder: Folder, after_s: float, sent: signal.Signals) -> None:
    process = folder.popen("up", "--nodes", "3")
    time.sleep(after_s)
    process.send_signal(sent)
    process.wait(60)
    until(lambda: folder.processes() == [], f"everything has ended, not {folder.processes()}")


def test_what_a_killed_supervisor_left_is_found_and_ended(folder: Folder) -> None:
    up(folder, "--nodes", "1", "--durability", "async")
    state = files(folder).read_state()
    assert state is not None
    os.kill(int(state.supervisor.partition(":")[0]), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{state.supervisor.partition(':')[0]}").exists(), "the supervisor is gone")
    refused = folder.run("up")
    assert refused.returncode == 1
    assert "twinstar down" in refused.stderr
    down = folder.run("down")
    assert down.returncode == 0, down.stderr
    assert "left behind" in down.stdout
    assert folder.processes() == []


def test_a_program_that_ends_at_the_start_is_named_with_its_reason(folder: Folder) -> None:
    assert folder.run("init").returncode == 0
    config = folder.path / "twinstar.yaml"
    import socket

    from twinstar.config.load import load

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", load(config).nodes[0].api_port))
        taken.listen()
        done = folder.run("up")
    assert done.returncode == 1
    assert "n1 agent" in done.stderr
    assert "port" in done.stderr
    assert folder.processes() == []
