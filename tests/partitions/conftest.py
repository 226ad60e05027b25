from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from shutil import which

import pytest

from tests.partitions.lab import Lab
from twinstar.model.errors import EnvironmentTrouble

LEASE_MS = 4_000


def _lab(stack: ExitStack, folders: pytest.TempPathFactory, durability: str, lease_ms: int | None = None) -> Lab:
    if which("etcd") is None:
        pytest.skip("no etcd: install Debian's etcd-server")
    try:
        return stack.enter_context(Lab.of(folders.mktemp(durability), durability, lease_ms))
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))


@pytest.fixture(scope="module")
def quorum_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield _lab(stack, tmp_path_factory, "quorum")


@pytest.fixture(scope="module")
def async_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield _lab(stack, tmp_path_factory, "async", LEASE_MS)


@pytest.fixture
def quorum(quorum_lab: Lab) -> Iterator[Lab]:
    """Three nodes with `quorum`, whole and joined: shared by a module's tests."""
    with quorum_lab.whole() as lab:
        yield lab


@pytest.fixture
def leased(async_lab: Lab) -> Iterator[Lab]:
    """The same with `async`."""
    with async_lab.whole() as lab:
        yield lab
