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


@dataclass(frozen=True, slots=True)
class Swath:
    """Images of many rows, each of another key and all written in the same way, as bytes: what becomes text and tuples
    only where one of them is not simple.

    `columns` are names, in the order of `rows`; what has no name is none of the row's values. `was` says at which place
    there is the version that the row replaced, with one write; None: all were inserted.
    """

    columns: tuple[str, ...]
    rows: list[tuple[bytes | None, ...]]
    was: int | None
    sent: tuple[str, ...]
    """The columns in the order of an image's values."""
    stamp: str
    """The column of the version."""

    def images(self) -> list[Image]:
        places = [self.columns.index(name) for name in self.sent]
        stamp, was = self.columns.index(self.stamp), self.was
        images = []
        for row in self.rows:
            values = tuple([None if (value := row[place]) is None else value.decode() for place in places])
            before = 0 if was is None else int(row[was] or 0)
            images.append(Image(values, int(row[stamp] or 0), before, before))
        return images


@dataclass(slots=True)
class Changes:
    """One table's part of a batch. Each key is in `images`, or in one of `swaths`, and in `burials` at most once, each
    (key, born, node) in `contributions`.
    """

    images: list[Image] = field(default_factory=list)
    burials: list[Burial] = field(default_factory=list)
    contributions: list[Contribution] = field(default_factory=list)
    swaths: list[Swath] = field(default_factory=list)

    def spread(self) -> None:
        """Makes single images of the swaths."""
        for swath in self.swaths:
            self.images += swath.images()
        self.swaths = []
