"""`twinstar drill partition` as a user runs it, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.local import Folder
from twinstar.cli.namespaces import network
from twinstar.model.errors import EnvironmentTrouble

BRIEF = ("--length-ms", "2000", "--pause-ms", "15")

pytestmark = [pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    try:
        with network(["probe"]):
            pass
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))
    return Folder(tmp_path)


def test_a_partition_is_survived_measured_and_leaves_nothing(folder: Folder) -> None:
    done = folder.run("drill", "partition", *BRIEF, "--json", "drill.json", timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder.path / "drill.json").read_text())
    assert report["summary"]["survived"]
    assert report["summary"]["changes_of_leader"] == 1
    assert report["cluster"]["store"] == "etcd"
    assert folder.processes() == []


def test_where_every_node_takes_writes_both_sides_go_on_and_are_equal_afterwards(folder: Folder) -> None:
    """A drill ends in an error when its nodes do not come to have the same rows (`drill.rows`)."""
    done = folder.run("drill", "partition", "--strategy", "active-active", *BRIEF, "--json", "drill.json", timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder.path / "drill.json").read_text())
    figures, run = report["summary"], report["repetitions"][0]["faulty"]
    assert figures["survived"]
    assert figures["lost"] == figures["phantoms"] == figures["others_failed"] == 0
    told = [attempt for attempt in run["attempts"] if attempt["outcome"] == "acknowledged"]
    cut_ms = max(attempt["ended_ms"] for attempt in told if attempt["node"] == run["target"])
    alone = [attempt for attempt in run["beside"] if attempt["started_ms"] > cut_ms]
    assert {(each["node"], each["outcome"]) for each in alone} == {(run["target"], "acknowledged")}
    assert figures["cut_off_acknowledged"] >= len(alone) > 20
    assert {each["node"] for each in told if each["started_ms"] > cut_ms} == {"n1", "n2", "n3"} - {run["target"]}
    assert folder.processes() == []


def test_the_embedded_store_cannot_be_cut_off(tmp_path: Path) -> None:
    done = Folder(tmp_path).run("drill", "partition", "--store", "embedded")
    assert done.returncode == 2
    assert "choose etcd" in done.stderr + done.stdout
