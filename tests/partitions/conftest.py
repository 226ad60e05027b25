from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from shutil import which

import pytest

from tests.partitions.lab import PRESET, Lab
from twinstar.cli.make_cluster import Wishes
from twinstar.model.errors import EnvironmentTrouble

LEASE_MS = 4_000


def _lab(stack: ExitStack, folders: pytest.TempPathFactory, name: str, wishes: Wishes) -> Lab:
    if which("etcd") is None:
        pytest.skip("no etcd: install Debian's etcd-server")
    try:
        return stack.enter_context(Lab.of(folders.mktemp(name), wishes))
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))


@pytest.fixture(scope="module")
def quorum_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield _lab(stack, tmp_path_factory, "quorum", Wishes(durability="quorum", store="etcd", preset=PRESET))


@pytest.fixture(scope="module")
def async_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        wishes = Wishes(durability="async", store="etcd", preset=PRESET, lease_ms=LEASE_MS)
        yield _lab(stack, tmp_path_factory, "async", wishes)


@pytest.fixture(scope="module")
def witnessed_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        wishes = Wishes(nodes=2, witnesses=1, store="managed", policy="degrade", preset=PRESET)
        yield _lab(stack, tmp_path_factory, "witnessed", wishes)


@pytest.fixture
def quorum(quorum_lab: Lab) -> Iterator[Lab]:
    """Three nodes with `quorum`, whole and joined: shared by a module's tests."""
    with quorum_lab.whole() as lab:
        yield lab


@pytest.fixture
def witnessed(witnessed_lab: Lab) -> Iterator[Lab]:
    """Two nodes and a witness, with the store that Twinstar runs."""
    with witnessed_lab.whole() as lab:
        yield lab


@pytest.fixture
def leased(async_lab: Lab) -> Iterator[Lab]:
    """The same with `async`."""
    with async_lab.whole() as lab:
        yield lab
