"""What clients were told: a history of appends to lists and of reads, and what must be true of it.

An append is *ok* when the database confirmed it, *failed* when it was refused for certain, and otherwise *unknown*: the
connection ended, or the client gave up waiting. Numbers are never used twice. Times are of the one clock that nobody in
the simulation can see.

What is promised, and looked for here (`docs/protocol.md`, "Invariants" and "Opening"), in `quorum`:

* no append that was ok is missing in the end, and none that failed is there;
* through the `write` endpoint of one router, a read that begins after an append was ok shows it, and one that begins
  after another read has ended shows what that one showed, in the same order;
* what was read through the `write` endpoint is not taken back, and with one confirmation required what was read through
  the `read` endpoint is not either.

The `read` endpoint promises no more: a standby shows what it has replayed, which may be old.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from twinstar.router.base import Role


class Told(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One statement of one client."""

    client: str
    endpoint: Role
    key: int
    """Which list."""
    appended: int | None
    """The number; None for a read."""
    read: tuple[int, ...] | None
    """What was read; None for an append and for a read that got no answer."""
    invoked_ms: float
    completed_ms: float
    """When it was known, or given up."""
    told: Told


def lost_or_invented(history: Iterable[Operation], there: Set[int]) -> list[str]:
    """Compares what clients were told of their appends with the numbers that are there in the end."""
    breaches = []
    for each in history:
        if each.appended is None:
            continue
        if each.told is Told.OK and each.appended not in there:
            breaches.append(f"{each.client} was told that {each.appended} stands, and it is gone")
        if each.told is Told.FAILED and each.appended in there:
            breaches.append(f"{each.client} was told that {each.appended} failed, and it is there")
    return breaches


def taken_back(history: Iterable[Operation], there: Set[int], endpoints: Set[Role]) -> list[str]:
    """What was shown through one of these endpoints and is not there in the end."""
    gone = {
        (each.client, number)
        for each in history
        if each.endpoint in endpoints and each.read is not None
        for number in each.read
        if number not in there
    }
    return [f"{client} was shown {number}, and it is gone" for client, number in sorted(gone)]


def went_back(history: Sequence[Operation]) -> list[str]:
    """Reads through the `write` endpoint that do not show what was known before they began."""
    lists: dict[int, list[Operation]] = defaultdict(list)
    for each in history:
        if each.endpoint is Role.WRITE and each.told is Told.OK:
            lists[each.key].append(each)
    return [breach for one in lists.values() for breach in _went_back(one)]


def _went_back(operations: list[Operation]) -> list[str]:
    """Of one list. Walks over beginnings and ends in their order; `seen` is what a read that begins must show."""
    moments = [(each.invoked_ms, 1, each) for each in operations if each.read is not None]
    moments += [(each.completed_ms, 0, each) for each in operations]
    seen: tuple[int, ...] = ()
    appended: set[int] = set()
    wanted: dict[int, tuple[tuple[int, ...], frozenset[int]]] = {}
    breaches = []
    for _, begins, each in sorted(moments, key=lambda moment: moment[:2]):
        if begins:
            wanted[id(each)] = (seen, frozenset(appended))
        elif each.read is None:
            assert each.appended is not None
            appended.add(each.appended)
        else:
            before, known = wanted[id(each)]
            if each.read[: len(before)] != before or not known <= set(each.read):
                missing = sorted((known | set(before)) - set(each.read))
                breaches.append(f"{each.client} read {each.read[-5:]} of list {each.key}: missing or moved {missing}")
            seen = max(seen, each.read, key=len)
    return breaches
