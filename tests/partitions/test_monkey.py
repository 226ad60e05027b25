"""A minute of kill -9 at random moments; ten with `make soak`. TWINSTAR_MONKEY_SEED repeats one."""

from __future__ import annotations

import os
import random

import pytest

from tests.partitions.lab import Lab
from tests.partitions.monkey import Monkey

MINUTES = float(os.environ.get("TWINSTAR_MONKEY_MINUTES", "10"))
SEED = int(os.environ.get("TWINSTAR_MONKEY_SEED", random.SystemRandom().randrange(1_000_000)))


@pytest.mark.slow
def test_a_minute_of_kills_loses_nothing(quorum: Lab) -> None:
    strikes = rage(quorum, 60, SEED)
    assert len(set(strikes)) >= 10, "it must have met most of what there is"


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_many_minutes_of_kills_lose_nothing(quorum: Lab) -> None:
    """A minute at a time, with a look at everything in between."""
    for number in range(int(MINUTES)):
        rage(quorum, 60, SEED + number)


def rage(lab: Lab, seconds: float, seed: int) -> list[tuple[str, str]]:
    print(f"monkey: seed {seed}")  # noqa: T201
    monkey = Monkey(lab.cluster, seed)
    try:
        with lab.clients():
            monkey.rage(seconds)
            lab.cluster.heal()
    finally:
        print(f"killed: {', '.join(' '.join(each) for each in monkey.strikes)}")  # noqa: T201
    return monkey.strikes
