"""Seeds of the model of databases that all take writes: all end equal, and no safeguard is left out unnoticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinstar.simulation.multiwriter.run import run_one
from twinstar.simulation.multiwriter.safeguards import REMOVED, Safeguard, focused

NOTICED = {
    Safeguard.LOOK_AFTER: 3,
    Safeguard.BUCKET_LOCK: 18,
    Safeguard.UNSETTLED: 18,
    Safeguard.SAME_TOMBSTONE: 662,
    Safeguard.SECOND_DELETE: 69,
    Safeguard.TOMBSTONE_OF_ABSENT: 1,
    Safeguard.TOMBSTONE_CHECK: 1,
    Safeguard.ROW_CLOCK: 31,
    Safeguard.OLD_SNAPSHOT: 279,
    Safeguard.SUMS_UNDER_LOCK: 83,
    Safeguard.CONTRIBUTIONS: 2,
    Safeguard.MAKINGS: 6,
    Safeguard.COLLECTED_BASE: 13,
    Safeguard.KEPT_IMAGES: 22,
    Safeguard.GRAVE_LOCK: 415,
    Safeguard.MERGED_GROUPS: 19,
    Safeguard.REMOVAL: 5,
    Safeguard.REMOVAL_SENT: 5,
    Safeguard.FREED_FIRST: 5,
    Safeguard.REPORTS: 10,
    Safeguard.FLOOR: 52,
    Safeguard.COUNTERS_ALONE: 1,
    Safeguard.REMOVAL_STAMP: 86,
    Safeguard.OPEN_FIRST: 185,
    Safeguard.DEAD_COUNT: 103,
    Safeguard.DEAD_LETTERS: 330,
    Safeguard.CONFLICTS_BY_GROUP: 2,
    Safeguard.SETTLED_ROW: 980,
    Safeguard.STOP_FIRST: 30,
    Safeguard.FETCH: 10,
    Safeguard.FETCH_BY_POSITION: 10,
}
"""In which seed it is missed. When the model is changed: `twinstar simulate --strategy active-active --ablations`."""


@pytest.mark.parametrize("part", range(4))
def test_in_every_seed_all_nodes_end_equal_and_nothing_is_lost(part: int) -> None:
    for seed in range(part, 1000, 4):
        outcome = run_one(seed)
        assert outcome.breach is None, f"seed {seed}"


def test_each_safeguard_is_known_to_be_noticed() -> None:
    assert set(Safeguard) == REMOVED.keys() == NOTICED.keys()


@pytest.mark.parametrize("safeguard", NOTICED)
def test_without_a_safeguard_a_seed_ends_badly(safeguard: Safeguard) -> None:
    seed = NOTICED[safeguard]
    plan = focused(seed, safeguard)
    assert run_one(seed, plan).breach is None
    assert run_one(seed, plan, frozenset({safeguard})).breach is not None


def test_one_seed_is_one_history_in_whichever_process(tmp_path: Path) -> None:
    stories = []
    for hash_seed in ("1", "2"):
        file = tmp_path / hash_seed
        command = [sys.executable, "-m", "twinstar.cli.main", "simulate", "--strategy", "active-active"]
        subprocess.run(
            [*command, "--seed", "67", "--json", str(file)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=True,
            timeout=120,
        )
        stories.append(json.loads(file.read_text()))
    assert stories[0] == stories[1]
    assert len(stories[0]["log"]) > 10
