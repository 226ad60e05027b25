from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.real import Change, RealCluster, Shared
from twinstar.cli.make_cluster import Wishes

Make = Callable[..., RealCluster]


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    three = Shared(tmp_path_factory.mktemp("cluster"))
    try:
        yield three
    finally:
        three.close()


@pytest.fixture
def cluster(shared: Shared) -> RealCluster:
    """Three nodes that serve, shared by the tests: each leaves the cluster whole again."""
    return shared.get()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes clusters of a test's own; they are not started yet."""
    made: list[RealCluster] = []

    def one(wishes: Wishes | None = None, change: Change | None = None) -> RealCluster:
        made.append(RealCluster(tmp_path / f"cluster{len(made)}", wishes, change))
        return made[-1]

    try:
        yield one
    finally:
        for each in made:
            each.remove()
