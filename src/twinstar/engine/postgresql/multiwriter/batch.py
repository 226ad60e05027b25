"""What a peer has changed in one table, collapsed so that a key occurs once: what one batch gives to the database.

Values are text as ``pgoutput`` writes it, None is NULL. Stamps are versions of rows (`rules.active_active`); 0 is the
version of a row that is not there, or was never written. These are tuples and not dataclasses because tens of
thousands are made in a second, and `zip(*images)` is how columns are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Image(NamedTuple):
    """The last image that the batch has of a row.

    `values` are in the order of the table's `sent_columns`; what the last update did not send because it was unchanged
    is filled in. `was` is the version that the batch's first write of this key replaced, 0 for an insertion, and
    `last_was` the one that its last write replaced: a row here with one of these two versions is replaced without
    conflict. For tables with groups of columns `knew` and `last_knew` are the same for each group, separated by commas.
    """

    values: tuple[str | None, ...]
    stamp: int
    was: int
    last_was: int
    knew: str = ""
    last_knew: str = ""


class Burial(NamedTuple):
    """A tombstone. `was` is the version of the row that was deleted, `image` that row where the table keeps it."""

    key: tuple[str, ...]
    stamp: int
    was: int
    image: str | None


class Contribution(NamedTuple):
    """What `node` has added to the counters of a row that was made by the insertion `born`, after `writes` writes."""

    key: tuple[str, ...]
    born: int
    node: int
    writes: int
    sums: tuple[str, ...]


@dataclass(slots=True)
class Changes:
    """One table's part of a batch. Each key is in `images` and in `burials` at most once, each (key, born, node) in
    `contributions`.
    """

    images: list[Image] = field(default_factory=list)
    burials: list[Burial] = field(default_factory=list)
    contributions: list[Contribution] = field(default_factory=list)
