"""Disasters that a seed decides. `twinstar simulate` plays a thousand of them; here is what makes them worth it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinstar.model.register import Durability
from twinstar.simulation.campaign import Tally
from twinstar.simulation.coverage import SOMETIMES
from twinstar.simulation.plan import MEMBERS, StoreKind, Wishes, draw
from twinstar.simulation.run import run_one

SEEDS = (3, 4, 11, 12)
_PRINT_DIGESTS = """
import json, sys
from twinstar.simulation.run import run_one
print(json.dumps({seed: run_one(int(seed)).digest for seed in sys.argv[1:]}))
"""


def digests(hash_seed: str, seeds: list[int]) -> dict[str, str]:
    """As another process finds them, which plays the seeds in this order."""
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(source)}
    command = [sys.executable, "-c", _PRINT_DIGESTS, *map(str, seeds)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_the_same_seed_gives_the_same_history() -> None:
    """Whatever hashes the process has, and whatever it played before."""
    one, other = digests("1", [*SEEDS]), digests("2", [*reversed(SEEDS)])
    assert one == other
    assert len(set(one.values())) == len(SEEDS)


def test_bad_days_end_well_and_what_they_did_not_reach_is_known() -> None:
    tally = Tally()
    for seed in SEEDS:
        outcome = run_one(seed)
        assert outcome.breach is None, "\n".join((outcome.kind, *outcome.log, outcome.breach))
        tally.add(outcome)
    assert tally.failovers > 0
    assert not set(tally.never) & {"promoted", "cloned"}
    assert 0 < len(tally.never) < len(SOMETIMES)


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("store", StoreKind)
def test_what_is_wished_for_is_not_left_to_the_seed(durability: Durability, store: StoreKind) -> None:
    for seed in range(50):
        drawn, wished = draw(seed), draw(seed, Wishes(4, durability, store))
        assert (wished.size, wished.durability, wished.store, wished.turns) == (4, durability, store, False)
        assert (wished.policy, wished.faults, wished.lease_ms) == (drawn.policy, drawn.faults, drawn.lease_ms)
        assert drawn.size in MEMBERS
