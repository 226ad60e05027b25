"""Figures from series. Pure, so that every number of the table can be computed again from the JSON."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from twinstar.compare.comparison import ClientSeries, FaultRun, Tally, Throughput

Weighted = Sequence[tuple[float, int]]
"""(value, how often), smallest value first."""
_BIN_MS = 100.0


def condensed(values: Iterable[float], digits: int = 2) -> tuple[tuple[float, int], ...]:
    """Each rounded value with how often it is there, smallest first."""
    return tuple(sorted(Counter(round(value, digits) for value in values).items()))


def percentile(values: Weighted, share: float) -> float:
    """The smallest value that at least `share` (above 0, up to 1) of all do not exceed: nearest rank. 0 when none."""
    total = sum(count for _, count in values)
    wanted, seen = math.ceil(share * total), 0
    for value, count in values:
        seen += count
        if seen >= wanted:
            return value
    return 0.0


def per_bin(times_ms: Iterable[float], from_ms: float, to_ms: float, bin_ms: float = _BIN_MS) -> tuple[int, ...]:
    """How many of these times fall into each `bin_ms` of the window; the last one may be shorter."""
    counts = [0] * max(1, math.ceil((to_ms - from_ms) / bin_ms))
    for at in times_ms:
        if from_ms <= at < to_ms:
            counts[int((at - from_ms) // bin_ms)] += 1
    return tuple(counts)


def longest_gap(client: ClientSeries, window_ms: tuple[float, float]) -> float:
    """The longest time within the window without an acknowledgement for this client."""
    begins, ends = window_ms
    edges = [begins, *sorted(at for at in client.acknowledged_ms if begins <= at <= ends), ends]
    return max(later - earlier for earlier, later in pairwise(edges))


def outage(run: FaultRun, *, others: bool = False) -> float:
    """`outage_ms` of a run, or `others_outage_ms`, from its clients' series. 0 when there are no such clients.

    Where nothing was struck, or one node alone takes writes, it is that of all clients.
    """
    apart = run.others_outage_ms is not None
    chosen = [client for client in run.clients if not apart or (client.node == run.struck) != others]
    return max((longest_gap(client, run.window_ms) for client in chosen), default=0.0)


def refusals(clients: Iterable[ClientSeries]) -> dict[str, int]:
    """Statements that were not acknowledged, by error, the most frequent first."""
    return dict(Counter(refused.error for client in clients for refused in client.refused).most_common())


_NUMBERS = re.compile(r"\b\d+(\.\d+)*\b")
_KNOWN = {
    "57P01": "57P01 the session was ended by the server",
    "57P02": "57P02 the session was ended by a crash of the server",
    "57P03": "57P03 the server does not take sessions now",
    "25006": "25006 the node takes no writes",
    "40001": "40001 serialization failure",
    "deadline": "no answer within the client's deadline",
    "connection lost": "the connection was lost",
}


def error_name(why: str) -> str:
    """One name for errors that differ in ports, pids and the like."""
    first = why.partition(" ")[0]
    if known := _KNOWN.get(why) or _KNOWN.get(first):
        return known
    if "server closed the connection" in why or "Connection reset" in why or "connection lost" in why:
        return _KNOWN["connection lost"]
    if re.fullmatch(r"[0-9A-Z]{5}", first):
        return f"{first} {_NUMBERS.sub('…', why[6:])[:80]}"
    return _NUMBERS.sub("…", why)[:80]


def throughput(
    answers: Sequence[tuple[str, float, float]], from_ms: float, to_ms: float, clients: int, failed: int
) -> Throughput:
    """From (node, when acknowledged, how long it took); what came after the window does not count."""
    within = [answer for answer in answers if from_ms <= answer[1] <= to_ms]
    latencies = condensed(took for _, _, took in within)
    return Throughput(
        per_s=round(len(within) / (to_ms - from_ms) * 1000, 1),
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        latencies_ms=latencies,
        throughput_series=per_bin((at for _, at, _ in within), from_ms, to_ms),
        window_ms=round(to_ms - from_ms, 1),
        clients=clients,
        failed=failed,
        nodes=dict(sorted(Counter(node for node, _, _ in within).items())),
    )


def ages(written: Sequence[tuple[int, float]], seen: Sequence[tuple[int, float]]) -> tuple[tuple[float, ...], int]:
    """Of each acknowledged number: how long until a reader saw it or a later one; 0 when it was there before.

    Both by number and time, growing. Also how many were never seen.
    """
    numbers = [number for number, _ in seen]
    found: list[float] = []
    for number, at in written:
        index = bisect_left(numbers, number)
        if index < len(seen):
            found.append(round(max(0.0, seen[index][1] - at), 2))
    return tuple(found), len(written) - len(found)


def tally(per_client: Sequence[int], per_row: Sequence[int], failed: int) -> Tally:
    wanted, there = sum(per_client), sum(per_row)
    return Tally(wanted, there, max(0, wanted - there), tuple(per_client), tuple(per_row), failed)


def median_of(values: Sequence[float]) -> float:
    return median(values) if values else 0.0
