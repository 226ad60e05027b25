from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drill.plain_postgresql import PlainPostgresql, find_bin_dir


@pytest.fixture
def server() -> Iterator[PlainPostgresql]:
    bin_dir = find_bin_dir()
    if bin_dir is None:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql")
    plain = PlainPostgresql(bin_dir)
    try:
        plain.start()
        yield plain
    finally:
        plain.remove()
