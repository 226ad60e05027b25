"""Whatever happens to nodes, streams and clocks: when all has come, all are equal.

`make soak` plays many seeds: TWINSTAR_CONVERGENCE_SEED says with which one it begins, TWINSTAR_CONVERGENCE_SEEDS how
many.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.multiwriter.conftest import fresh
from tests.engine.multiwriter.convergence import converge

FIRST = int(os.environ.get("TWINSTAR_CONVERGENCE_SEED", "1000"))
COUNT = int(os.environ.get("TWINSTAR_CONVERGENCE_SEEDS", "100"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nodes_end_up_equal(seeds: tuple[str, Path], tmp_path: Path, seed: int) -> None:
    await play(seeds, tmp_path, seed, transactions=300)


@pytest.mark.soak
@pytest.mark.timeout(60 * COUNT + 600)
async def test_many_times_nodes_end_up_equal(seeds: tuple[str, Path], tmp_path: Path) -> None:
    for seed in range(FIRST, FIRST + COUNT):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await play(seeds, folder, seed, transactions=1500)


async def play(seeds: tuple[str, Path], folder: Path, seed: int, transactions: int) -> None:
    with fresh(seeds) as servers:
        world = await converge(servers, folder, seed, transactions)
        said = (
            f"seed {seed}, {world.durability}: {dict(world.done)}, {world.conflicts()} conflicts; "
            f"{', '.join(world.strikes)}"
        )
        print(said)  # noqa: T201
        different = [*world.differences(), *world.miscounted()]
        assert not different, f"{said}\n" + "\n".join(different[:40])
        assert world.conflicts() > 0
