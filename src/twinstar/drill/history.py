"""What a client was told, compared with what is there afterwards. Pure.

A client writes rows keyed (client, number, attempt). `number` is one logical write; after an answer that settles
nothing (`UNKNOWN`) the client tries the same number again with the next `attempt`, as an application that must get its
row in would. From the attempts and from the rows found on the leader afterwards follows

* **lost**: an attempt that was acknowledged and whose row is not there. With durability `quorum` this must be empty.
* **duplicates**: a number of which more than one attempt is there: an attempt with an unknown answer had been made,
  and so was its repetition. Not an error of the database; what it costs a client that retries blindly.
* **unknown but present**: how many unknown answers stand for a row that is there.
* **phantoms**: a row whose attempt was refused with an error, or that nobody wrote. Must be empty as well.

What it does not show: reads that were stale, and losses among rows that nobody wrote through this workload.

An *outage* is the longest time one client went without an acknowledgement, within a window that begins before the
fault; a client that gets no answer until the window's end was without service until then, at least.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from twinstar.histories.operation import Outcome

Key = tuple[int, int, int]
"""(client, number, attempt): identifies a row."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One statement of one client. Times are milliseconds on the boot clock."""

    client: int
    number: int
    attempt: int
    started_ms: float
    ended_ms: float
    outcome: Outcome
    why: str = ""
    node: str = ""
    """Where the client's session was, where it asked."""

    @property
    def key(self) -> Key:
        return (self.client, self.number, self.attempt)


@dataclass(frozen=True, slots=True)
class Gap:
    """Time without an acknowledgement for one client. `open_end`: the window ended before service came back."""

    client: int
    from_ms: float
    to_ms: float
    open_end: bool = False

    @property
    def length_ms(self) -> float:
        return self.to_ms - self.from_ms


@dataclass(frozen=True, slots=True)
class Apart:
    """Where every node takes writes: the clients that were on the struck node, and the others. Milliseconds."""

    struck: int
    """How many clients."""
    struck_outage_ms: float
    others: int
    others_outage_ms: float
    others_failed: int
    """Their statements that were not acknowledged, from the fault on."""
    cut_off_acknowledged: int | None = None
    """`partition`: what the client that stayed with the node was told of, from the fault on."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of the attempts. `lost` and `phantoms` name rows, so that they can be looked for by hand."""

    acknowledged: int
    failed: int
    unknown: int
    lost: tuple[Key, ...]
    duplicates: int
    unknown_present: int
    phantoms: tuple[Key, ...]

    @property
    def sound(self) -> bool:
        """Everybody was told the truth."""
        return not self.lost and not self.phantoms


def audit(attempts: Iterable[Attempt], present: Iterable[Key]) -> Audit:
    """Compares what clients were told with the rows found on the leader afterwards."""
    rows = set(present)
    by_outcome: dict[Outcome, set[Key]] = {outcome: set() for outcome in Outcome}
    for attempt in attempts:
        by_outcome[attempt.outcome].add(attempt.key)
    acknowledged, unknown = by_outcome[Outcome.ACKNOWLEDGED], by_outcome[Outcome.UNKNOWN]
    copies = Counter((client, number) for client, number, _ in rows)
    return Audit(
        acknowledged=len(acknowledged),
        failed=len(by_outcome[Outcome.FAILED]),
        unknown=len(unknown),
        lost=tuple(sorted(acknowledged - rows)),
        duplicates=sum(count - 1 for count in copies.values()),
        unknown_present=len(unknown & rows),
        phantoms=tuple(sorted(rows - acknowledged - unknown)),
    )


def gaps(attempts: Iterable[Attempt], from_ms: float, to_ms: float) -> list[Gap]:
    """The times between acknowledgements of each client within the window, longest first.

    A client's first gap begins at the window's begin, its last ends at the window's end (`open_end` only if it is
    that one that did not end by an acknowledgement).
    """
    acknowledged: dict[int, list[float]] = defaultdict(list)
    for attempt in attempts:
        times = acknowledged[attempt.client]
        if attempt.outcome is Outcome.ACKNOWLEDGED and from_ms <= attempt.ended_ms <= to_ms:
            times.append(attempt.ended_ms)
    found = []
    for client, times in acknowledged.items():
        edges = [from_ms, *sorted(times), to_ms]
        found += [Gap(client, start, end, end == to_ms) for start, end in pairwise(edges)]
    return sorted(found, key=lambda gap: -gap.length_ms)


def longest_gap(attempts: Iterable[Attempt], from_ms: float, to_ms: float) -> Gap:
    """The longest of all clients' gaps; the whole window when nobody wrote."""
    found = gaps(attempts, from_ms, to_ms)
    return found[0] if found else Gap(0, from_ms, to_ms, open_end=True)


def apart(attempts: Sequence[Attempt], node: str, fault_ms: float, from_ms: float, to_ms: float) -> Apart:
    """The gaps of the clients whose last statement before the fault was on `node`, and those of all others."""
    last: dict[int, str] = {}
    for attempt in sorted(attempts, key=lambda each: each.started_ms):
        if attempt.started_ms <= fault_ms:
            last[attempt.client] = attempt.node
    struck = [attempt for attempt in attempts if last.get(attempt.client) == node]
    others = [attempt for attempt in attempts if last.get(attempt.client) != node]
    failed = [each for each in others if each.ended_ms >= fault_ms and each.outcome is not Outcome.ACKNOWLEDGED]
    return Apart(
        struck=len({attempt.client for attempt in struck}),
        struck_outage_ms=longest_gap(struck, from_ms, to_ms).length_ms if struck else 0.0,
        others=len({attempt.client for attempt in others}),
        others_outage_ms=longest_gap(others, from_ms, to_ms).length_ms if others else 0.0,
        others_failed=len(failed),
    )


def acknowledged_since(attempts: Iterable[Attempt], from_ms: float) -> int:
    """How many statements that were begun from then on were acknowledged."""
    return sum(each.started_ms >= from_ms and each.outcome is Outcome.ACKNOWLEDGED for each in attempts)


def acknowledged_per_bin(attempts: Iterable[Attempt], from_ms: float, to_ms: float, bin_ms: float) -> list[int]:
    """How many writes of all clients were acknowledged in each interval of `bin_ms`."""
    counts = [0] * max(1, int((to_ms - from_ms) // bin_ms) + 1)
    for attempt in attempts:
        if attempt.outcome is Outcome.ACKNOWLEDGED and from_ms <= attempt.ended_ms <= to_ms:
            counts[int((attempt.ended_ms - from_ms) // bin_ms)] += 1
    return counts


def median_and_maximum(values: Sequence[float]) -> tuple[float, float]:
    """(median, maximum); zeros when there are none."""
    return (median(values), max(values)) if values else (0.0, 0.0)
