"""Faults drawn by a seed, everything healed: the cluster serves again, and no invariant was broken on the way.

A failure prints its seed: `play` it alone to see it again, step by step.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.play import play
from twinstar.model.register import Durability
from twinstar.simulation.cluster import Cluster, Plan
from twinstar.simulation.soak import Disaster

KINDS = {
    "three": Plan(),
    "five": Plan(size=5),
    "two": Plan(size=2),
    "three-degrading": Plan(policy="degrade", voter_removal_ms=2_000),
    "two-degrading": Plan(size=2, policy="degrade", voter_removal_ms=2_000),
    "async": Plan(durability=Durability.ASYNC),
}
FEW = [("three", range(15)), ("five", range(5)), ("three-degrading", range(6)), ("two-degrading", range(6))]
FEW += [("two", range(3)), ("async", range(5))]


def disaster(directory: Path, seed: int, kind: str, faults: int) -> Counter[str]:
    """What was gone through on the way."""
    log: list[str] = []

    async def story(cluster: Cluster) -> None:
        await Disaster(cluster, log).run(faults)

    try:
        return play(directory, story, seed, KINDS[kind]).witness.sometimes
    except AssertionError as error:
        raise AssertionError(f"{kind}, seed {seed}: {error}\n" + "\n".join(log)) from error


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, seeds in FEW for seed in seeds])
def test_a_bad_day_ends_well(tmp_path: Path, kind: str, seed: int) -> None:
    disaster(tmp_path, seed, kind, 10)


@pytest.mark.soak
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("kind", KINDS)
def test_many_bad_days_end_well(tmp_path: Path, kind: str) -> None:
    been = Counter[str]()
    for seed in range(1_000, 1_400):
        directory = tmp_path / str(seed)
        directory.mkdir()
        been += disaster(directory, seed, kind, 25)
    never = {"crash", "promoted", "cloned"} - been.keys()
    assert not never, f"no run went through {never}: the menu is too kind ({been})"
