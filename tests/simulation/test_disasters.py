"""Faults drawn by a seed, everything healed: the cluster serves again, and no invariant was broken on the way.

A failure prints its seed: `twinstar simulate --seed` shows it again, step by step.
"""

from __future__ import annotations

import pytest

from twinstar.simulation.run import run_one


@pytest.mark.parametrize("seed", range(40))
def test_a_bad_day_ends_well(seed: int) -> None:
    outcome = run_one(seed)
    assert outcome.breach is None, "\n".join((outcome.kind, *outcome.log, outcome.breach))
