"""What nodes tell of their rows, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[str, ...]
"""The values of a primary key as text."""


@dataclass(frozen=True, slots=True)
class Range:
    """Keys above `after` and up to `upto`; None: from the first, to the last."""

    after: Key | None = None
    upto: Key | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows a range has on a node, and a digest of them that does not depend on their order."""

    rows: int
    digest: int


@dataclass(frozen=True, slots=True)
class Version:
    """A row on a node: its stamp, and a digest of all its values."""

    stamp: int
    digest: int


@dataclass(frozen=True, slots=True)
class Known:
    """All that a node knows of a key. `tombstone`: its stamp; None: there is none."""

    row: Version | None
    tombstone: int | None = None

    @property
    def newest(self) -> int:
        return max(self.row.stamp if self.row else -1, -1 if self.tombstone is None else self.tombstone)
