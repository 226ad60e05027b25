from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.local import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    try:
        yield made
    finally:
        made.remove()
