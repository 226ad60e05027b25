"""Drills as a user runs them on a running cluster in which every node takes writes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.local import Folder

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    made = Folder(tmp_path_factory.mktemp("nodes"))
    try:
        up = made.run("up", "--detach", "--strategy", "active-active")
        assert up.returncode == 0, up.stdout + up.stderr
        yield made
    finally:
        made.remove()
    assert made.processes() == []


@pytest.mark.parametrize("fault", ["kill-node", "hang-node"])
def test_a_lost_node_concerns_its_own_clients_alone(folder: Folder, fault: str) -> None:
    done = folder.run("drill", fault, "--length-ms", "2000", "--pause-ms", "15", "--json", "drill.json", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder.path / "drill.json").read_text())
    figures, run = report["summary"], report["repetitions"][0]["faulty"]
    assert figures["survived"]
    assert figures["lost"] == figures["phantoms"] == figures["others_failed"] == 0
    assert run["apart"]["struck"] >= 1, "or the drill shows nothing"
    assert run["apart"]["struck"] + run["apart"]["others"] == 6
    told = [attempt for attempt in run["attempts"] if attempt["outcome"] == "acknowledged"]
    last_ms = max(attempt["ended_ms"] for attempt in told if attempt["node"] == run["target"])
    assert {each["node"] for each in told if each["started_ms"] > last_ms} == {"n2", "n3"}
    assert {each["client"] for each in told if each["started_ms"] > last_ms} == set(range(6)), "all are served again"


def test_there_is_no_leader_to_be_changed(folder: Folder) -> None:
    refused = folder.run("drill", "switchover")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "An active-active cluster has nothing for switchover to strike" in refused.stderr
