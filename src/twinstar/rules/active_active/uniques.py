"""Two rows that hold one value of a unique key: who must go.

Both were right where they were written, and cannot both be in one table. The lesser (by stamp, then by key: stamps of
*different* keys may be equal) goes, into the conflict log and under a tombstone with the stamp `removal(version)`.
That tombstone is a write like any other, and all nodes receive it.

**All end up equal.** When everything has arrived, consider the greatest write m of a key, tombstones among them. No
node has something greater. A node that does not hold m although it is a row has found it to be a loser; then it has
written removal(m), which is greater than m: a contradiction. So all hold m.

**It ends.** A removal depends on the removed version alone: whoever finds it necessary writes the same stamp, and
twice is as once. There are no more removals than versions, and a removal makes no version; so nodes cannot answer
each other for ever.

**It takes no more than it must.** Nothing written in knowledge of the version is below its removal. A row that loses
to one holder removes none of the others. But a row that lost to one which then itself goes does not come back:
bringing it back would depend on the order. It is in the conflict log.

The removal is published by an ordinary session of the node that found it: what an applier writes is not sent on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that holds a value. Keys are of one type and can be ordered, on every node in the same way."""

    key: Hashable
    stamp: int

    def loses_to(self, other: Claim) -> bool:
        mine: Any = (self.stamp, self.key)
        return bool(mine < (other.stamp, other.key))


def losers(arriving: Claim, holders: Collection[Claim]) -> frozenset[Claim]:
    """Who must go so that a row with these collisions can be in the table; or itself alone."""
    if any(arriving.loses_to(holder) for holder in holders):
        return frozenset({arriving})
    return frozenset(holders)
