"""Disks that are full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """There is no room to replace this file (`agent.memory`): what is written beside goes to a device that is full."""
    beside = file.with_suffix(".new")
    beside.symlink_to("/dev/full")
    try:
        yield
    finally:
        beside.unlink()
