"""What a node sends: its transactions in order of their commits, and what a batch of them comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from twinstar.rules.active_active.collecting import Report
from twinstar.rules.active_active.conflicts import Replaced
from twinstar.rules.active_active.stamps import NONE
from twinstar.rules.active_active.state import Count, State


@dataclass(frozen=True, slots=True)
class Image:
    """A row as a write left it. `delta` has its cells and its head."""

    key: str
    delta: State
    replaced: Replaced


@dataclass(frozen=True, slots=True)
class Burial:
    """A tombstone."""

    key: str
    delta: State
    replaced: Replaced
    lost: int = NONE
    """The version that a unique key took away; NONE: a client did."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a node has added to a row's counters by now, and what of it just now."""

    key: str
    born: int
    node: int
    count: Count
    added: tuple[int, ...]


Change = Image | Burial | Contribution | Report


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction. Its position is its place in the log, counted from 1."""

    node: int
    position: int
    changes: tuple[Change, ...]

    @property
    def stamps(self) -> list[int]:
        """Of all its rows and tombstones."""
        kinds = (Image, Burial)
        return [max(each.delta.stamp, each.delta.tombstone) for each in self.changes if isinstance(each, kinds)]


@dataclass(slots=True)
class Batch:
    """What one local transaction applies: each key once."""

    peer: int
    first: int
    upto: int
    images: dict[str, Image] = field(default_factory=dict)
    burials: dict[str, Burial] = field(default_factory=dict)
    contributions: dict[tuple[str, int, int], Contribution] = field(default_factory=dict)
    report: tuple[int, Report] | None = None
    """The newest, and its position."""

    @classmethod
    def of(cls, sent: list[Sent]) -> Batch:
        batch = cls(sent[-1].node, sent[0].position, sent[-1].position)
        for transaction in sent:
            batch._take(transaction.position, transaction.changes)
        return batch

    def _take(self, position: int, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, Image):
                before = self.images.get(change.key)
                self.images[change.key] = replace(change, replaced=_chained(before, change))
            elif isinstance(change, Burial):
                # What was updated and then deleted: the row here is the one that the update found.
                sooner = self.burials.get(change.key) or self.images.get(change.key)
                self.burials[change.key] = replace(change, replaced=_chained(sooner, change))
            elif isinstance(change, Contribution):
                making = change.key, change.born, change.node
                earlier = self.contributions.get(making)
                added = tuple(map(sum, zip(earlier.added, change.added, strict=True))) if earlier else change.added
                self.contributions[making] = replace(change, added=added)
            else:
                self.report = position, change


def _chained(before: Image | Burial | None, change: Image | Burial) -> Replaced:
    return Replaced(before.replaced.first if before else change.replaced.first, change.replaced.last)
