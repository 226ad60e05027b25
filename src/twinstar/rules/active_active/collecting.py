"""When a tombstone may be forgotten.

Too early, and a write that was made without knowing it arrives late and brings back, on this node alone, what was
deleted. A write is late when its writer had not yet applied the tombstone. So a node waits until all that could be
late has arrived:

1. The node notes its *cut*: how far it has applied each stream. All the tombstones that it has now came from within
   it.
2. Members report now and then, in their own streams, how far they have applied each stream, and their *floor*.
3. When it has applied, from every other member, a report that covers the cut, it may forget the tombstones that it
   had when it noted the cut, if their stamps are not above any of these floors.

Then each member M has applied the tombstone before it wrote the report; what M wrote earlier has arrived, since
streams are in order; what M writes later knows the tombstone. And when M, too, has forgotten it, M stamps its
insertions above its floor: so they are above the tombstone for those who still have it. (A clock that is slow or was
set back would otherwise have its insertions refused there, and nowhere else.) A node raises its floor before it
reports it, to its clock less the retention, and then waits until all transactions that were open have ended: an
insertion that was stamped earlier and commits later would be below it. The floor never goes back, and survives a
restart.

*A position is effective*: below the oldest row of that stream which could not be applied and still waits (a dead
letter). Otherwise what waits would come back after the tombstone is gone.

*A member that is away* reports nothing, so nothing is forgotten; and it may come back after any time. What limits
this is that it is no longer a member (`membership`). Streams of the dead belong to the cut until every member has all
that anyone received of them; and a node counts a dead member among the others until it has applied its log to the
end.

Forgotten with the tombstone: the contributions that count no more, and what it kept. `collected` is raised to its
stamp in the same transaction: the base of later insertions (`writing`).

*Which contributions count no more* is known when the row is as it was at the cut, or was and is not there: then all
members had this row, or this deletion, at their reports, and nothing that came until then is greater; so all that is
written later is made on it. A row that came after the cut may yet lose to one that was made before the deletion,
and then what was added before counts again. Such a tombstone waits for another cut.

*Nothing is applied a second time* once tombstones are forgotten: an old image would find nothing that is above it. So
progress is exact, that of a copy, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from twinstar.rules.active_active.stamps import NONE

Positions = Mapping[int, int]
"""Stream (the number of the node that writes it) -> how far it was applied, in the units of that stream."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a member says of itself, in its own stream."""

    applied: Positions
    """Effective positions in the streams of all others."""
    floor: int
    """A stamp. It will stamp no insertion lower than this."""


def effective(applied: int, waiting: Collection[int]) -> int:
    """How far a stream counts as applied, when rows of the transactions at these positions still wait."""
    return min([applied, *(position - 1 for position in waiting)])


def covers(report: Report, member: int, cut: Positions) -> bool:
    """Had the member applied all of the cut when it reported? Its own stream it knows."""
    return all(report.applied.get(stream, 0) >= upto for stream, upto in cut.items() if stream != member)


def collectable(cut: Positions, reports: Mapping[int, Report], others: Collection[int], own_floor: int) -> int:
    """Up to which stamp the tombstones may be forgotten that were here when the cut was noted; NONE: not yet.

    `reports` are the newest that were applied here, of each member; `others` are all members but this node.
    """
    if any(member not in reports or not covers(reports[member], member, cut) for member in others):
        return NONE
    return min([own_floor, *(reports[member].floor for member in others)])
