"""Tests of this folder live on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.engine.virtual.bench import VirtualBench
from twinstar.simulation.world.virtual_time import VirtualLoop

SEEDS = range(5)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture(params=SEEDS)
async def bench(request: pytest.FixtureRequest) -> VirtualBench:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualBench(loop, request.param)
