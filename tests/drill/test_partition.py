"""`twinstar drill partition` as a user runs it, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.local import Folder
from twinstar.cli.namespaces import network
from twinstar.model.errors import EnvironmentTrouble

pytestmark = [pytest.mark.slow]


def test_a_partition_is_survived_measured_and_leaves_nothing(tmp_path: Path) -> None:
    try:
        with network(["probe"]):
            pass
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))
    folder = Folder(tmp_path)
    done = folder.run("drill", "partition", "--json", "drill.json", timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "drill.json").read_text())
    assert report["summary"]["survived"]
    assert report["summary"]["changes_of_leader"] == 1
    assert report["cluster"]["store"] == "etcd"
    assert folder.processes() == []


def test_the_embedded_store_cannot_be_cut_off(tmp_path: Path) -> None:
    done = Folder(tmp_path).run("drill", "partition", "--store", "embedded")
    assert done.returncode == 2
    assert "choose etcd" in done.stderr + done.stdout
