"""The model of PostgreSQL is as unkind as PostgreSQL."""

from __future__ import annotations

import pytest

from tests.engine.facts import Facts
from tests.engine.virtual.bench import VirtualBench
from tests.engine.virtual.facts_bench import VirtualFacts


@pytest.fixture
async def facts(bench: VirtualBench) -> VirtualFacts:
    return VirtualFacts(bench)


class TestFacts(Facts):
    """The same as of real servers."""
