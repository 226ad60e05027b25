"""Drills and the demo as a user runs them, on throw-away clusters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.local import Folder
from twinstar.model.timing import Timings

BRIEF = ("--length-ms", "2000", "--pause-ms", "15")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def test_a_drill_of_a_killed_node_is_survived_measured_and_written_down(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    done = folder.run("drill", "kill-node", *BRIEF, "--json", "drill.json", "--html", "drill.html", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "drill.json").read_text())
    figures = report["summary"]
    assert figures["survived"]
    assert figures["lost"] == figures["phantoms"] == 0
    assert figures["changes_of_leader"] == 1
    # As long as silence must last. A busy machine may keep a client waiting for longer, without a fault too.
    fast = Timings.preset("fast")
    assert figures["median_outage_ms"] >= fast.suspicion_floor_ms - fast.heartbeat_ms
    assert figures["control_median_ms"] > 0
    run = report["repetitions"][0]["faulty"]
    assert run["outage_from_ms"] <= run["fault_at_ms"] + 1_000
    assert run["outage_to_ms"] > run["fault_at_ms"]
    assert "</svg>" in (tmp_path / "drill.html").read_text()
    assert folder.processes() == []


def test_the_demo_survives_three_faults_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    done = folder.run("demo", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    acts = ("The leader's node dies", "database dies", "Planned switchover", "its clients ms")
    for words in (*acts, "Acknowledged writes lost: 0"):
        assert words in done.stdout
    assert "Rows that differ between nodes: 0." in done.stdout
    assert folder.processes() == []
    assert list(tmp_path.iterdir()) == []
