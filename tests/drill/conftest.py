from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plain_postgresql import PlainPostgresql, find_bin_dir


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
