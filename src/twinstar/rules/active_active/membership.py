"""Who is in, and what becomes of the writes of one that is not.

**Numbers are spent.** A node's number is in its stamps and its contributions. A database that is new, rebuilt,
restored, or a replica that was promoted and may lack the end, gets a number above every one that ever was: the old
one has been used further than this database knows, and its next write would be refused, or taken for another one, by
those who know.

**A member that dies.** It is taken out of the membership, which grows an epoch; then *the survivors stop receiving
from it first*, each durably, and each publishes for that epoch how far it has received (received, not applied: what
was received is on its disk, and was perhaps confirmed to a client). Only when all survivors have said so is there a
last position, the greatest of them: nobody will ever receive more. Who has less takes what is missing *by position in
the dead one's log* from who has most. Not by stamp: stamps of different rows do not grow in the order of the commits,
so "everything of that node above a stamp" misses rows.

So a survivor keeps what it has received of every stream until all members have received it, too.

**One that comes back.** A member is one until it is taken out, however long it is away; its peers keep its place in
their logs, and nobody forgets a tombstone that it has not passed. Taken out, it cannot catch up: it is made anew, by
a copy, under a new number. What it had written and nobody received is only there; that is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twinstar.rules.active_active.stamps import NODES


def next_number(ever: Iterable[int]) -> int | None:
    """The number of a new node, when these were ever given out. None: there are no more."""
    number = max(ever, default=NODES.start - 1) + 1
    return number if number in NODES else None


@dataclass(frozen=True, slots=True)
class Missing:
    """What a survivor must fetch of a dead member's log: after `after`, up to `upto`."""

    source: int
    after: int
    upto: int


def end_of(received: Mapping[int, int], survivors: Iterable[int]) -> int | None:
    """Where the log of a dead member ends for good. None: not every survivor has stopped receiving.

    `received`: by the number of a survivor that has stopped, how far it has received.
    """
    numbers = list(survivors)
    if not numbers or any(number not in received for number in numbers):
        return None
    return max(received[number] for number in numbers)


def missing(own: int, received: Mapping[int, int], survivors: Iterable[int]) -> Missing | None:
    """What this survivor must fetch, and from whom. None: nothing, or not all have stopped."""
    numbers = sorted(survivors)
    end = end_of(received, numbers)
    if end is None or received[own] >= end:
        return None
    source = next(number for number in numbers if received[number] == end)
    return Missing(source, received[own], end)


def kept_from(received: Mapping[int, int], members: Iterable[int]) -> int:
    """Up to which position of a stream nobody needs it any more, when members have received so far."""
    return min((received.get(member, 0) for member in members), default=0)
