"""A comparison that nobody measured, for tests alone: figures of the shape and size of real ones, from a seed."""

from __future__ import annotations

from collections import Counter
from random import Random

from twinstar.compare.comparison import (
    CONTROL,
    ClientSeries,
    Comparison,
    Complexity,
    Conflicts,
    Contestant,
    FaultRun,
    Figure,
    GivenUp,
    Line,
    Machine,
    NodeUse,
    Options,
    Refusal,
    Resources,
    Staleness,
    Tally,
    Throughput,
)

NAMES = ("active-passive-async", "active-passive-quorum", "active-active-async", "active-active-quorum")
FAULTS = ("kill-database", "kill-node", "hang-node", "partition", "switchover")
NODES = ("n1", "n2", "n3")
SPEEDS = [
    f"{what}-{clients}-{where}"
    for what in ("write", "read")
    for clients in ("one", "many")
    for where in ("one-node", "spread")
]
WINDOW_MS, FAULT_MS = (0.0, 5_500.0), 1_500.0


def invented(seed: int = 1, repeat: int = 2) -> Comparison:
    chance = Random(seed)
    return Comparison(
        made="2026-01-02T03:04:05Z",
        machine=Machine("Invented CPU 9000", 2, 24.0, "18.6", "0.1.0"),
        options=Options(repeat=repeat, seed=seed),
        contestants={name: contestant(name, chance, repeat) for name in NAMES},
        lines=tuple(lines()),
    )


def contestant(name: str, chance: Random, repeat: int) -> Contestant:
    strategy, _, durability = name.rpartition("-")
    active = strategy == "active-active"
    availability = {
        fault: tuple(run(chance, fault, active=active, durability=durability) for _ in range(repeat))
        for fault in (CONTROL, *FAULTS)
        if not (active and fault == "switchover")
    }
    return Contestant(
        strategy=strategy,
        durability=durability,
        cluster={"nodes": "3", "preset": "fast", "store": "etcd"},
        availability=availability,
        skipped={"leave": "it is <invented>"} if active else {},
        conflicts=conflicts(chance, active=active),
        resources=resources(chance, active=active),
        speed={kind: speed(chance, kind, slow=durability == "quorum") for kind in SPEEDS},
        staleness=staleness(chance, slow=active),
        complexity=complexity(active=active),
        took_s=60.0,
    )


def run(chance: Random, fault: str, *, active: bool, durability: str) -> FaultRun:
    """Six clients that write each 8 ms; those of n1, or everybody, have a hole after the fault."""
    faulty = fault != CONTROL
    hole_ms = 0.0
    if faulty:
        hole_ms = chance.uniform(200, 350) if active else 2_100.0 if durability == "async" else chance.uniform(120, 480)
    clients = []
    for number in range(6):
        node = NODES[number % 3]
        stopped = faulty and (not active or node == "n1")
        end_ms = FAULT_MS + hole_ms
        times = [at for at in _steps(chance) if not (stopped and FAULT_MS < at < end_ms)]
        refused = (Refusal(FAULT_MS + 1, "unknown", "the connection was lost"),) if stopped else ()
        clients.append(ClientSeries(number, node, tuple(times), refused))
    apart = active
    gaps = [max(b - a for a, b in zip(c.acknowledged_ms, c.acknowledged_ms[1:], strict=False)) for c in clients]
    struck = [gap for gap, client in zip(gaps, clients, strict=True) if not apart or client.node == "n1"]
    others = [gap for gap, client in zip(gaps, clients, strict=True) if client.node != "n1"]
    bins = Counter(int(at // 100) for client in clients for at in client.acknowledged_ms)
    return FaultRun(
        outage_ms=max(struck),
        others_outage_ms=max(others) if apart else None,
        failed={"the connection was lost": sum(len(c.refused) for c in clients)} if faulty else {},
        unknown=sum(len(c.refused) for c in clients),
        others_failed=0 if apart else None,
        acknowledged=sum(len(c.acknowledged_ms) for c in clients),
        lost=2 if faulty and durability == "async" else 0,
        duplicates=0,
        window_ms=WINDOW_MS,
        fault_at_ms=FAULT_MS if faulty else None,
        struck="n1" if faulty else "",
        served_again=True,
        acks_per_100ms=tuple(bins[index] for index in range(55)),
        gaps_ms=tuple(gaps),
        clients=tuple(clients),
        beside=(ClientSeries(6, "n1", tuple(_steps(chance)), ()),) if active and fault == "partition" else (),
    )


def _steps(chance: Random) -> list[float]:
    at, found = 0.0, []
    while (at := at + chance.uniform(5, 12)) < WINDOW_MS[1]:
        found.append(round(at, 1))
    return found


def conflicts(chance: Random, *, active: bool) -> Conflicts:
    def tally(share: float) -> Tally:
        wanted = chance.randrange(4_000, 9_000)
        lost = int(wanted * share)
        return Tally(wanted, wanted - lost, lost, (wanted,), (wanted - lost,), failed=3)

    return Conflicts(
        increments=tally(0.3 if active else 0),
        counters=tally(0),
        naive_increments=tally(0.7 if active else 0.55),
        updates=tally(0.6 if active else 0.5),
        logged=chance.randrange(5_000) if active else 0,
        logged_kinds={"update": 1} if active else {},
        differing=0,
        settled_ms=40.0,
        clients=6,
        rows=10,
        window_ms=8_000.0,
    )


def resources(chance: Random, *, active: bool) -> Resources:
    nodes = tuple(
        NodeUse(
            node=name,
            role="node" if active else "leader" if name == "n1" else "standby",
            cpu_s=chance.uniform(1, 4),
            cpu_parts_s={},
            writes=3_000 if active or name == "n1" else 0,
            wal_bytes=chance.randrange(10**6, 4 * 10**6),
            net_bytes=10**6,
            rss_mib=chance.uniform(80, 200),
        )
        for name in NODES
    )
    per_write = {"cpu_ms": chance.uniform(0.3, 2), "wal_bytes": chance.uniform(300, 1500), "net_bytes": 800.0}
    return Resources(nodes, 1.0 if active else 0.333, per_write, 5_000.0, "invented")


def speed(chance: Random, kind: str, *, slow: bool) -> Throughput:
    middle = 1.5 if slow and kind.startswith("write") else 0.3
    values = Counter(round(chance.lognormvariate(0, 0.5) * middle, 2) for _ in range(2_000))
    latencies = tuple(sorted(values.items()))
    per_s = 1000 / middle * (4 if "many" in kind else 1)
    return Throughput(per_s, middle, latencies[-1][0], latencies, (100,), 5_000.0, 6, 0, {"n1": 2_000})


def staleness(chance: Random, *, slow: bool) -> Staleness:
    ages = tuple(round(max(0.0, chance.lognormvariate(2 if slow else 0, 0.7) - 0.5), 2) for _ in range(300))
    ordered = sorted(ages)
    return Staleness(ordered[150], ordered[297], ages, ("n2",) * 300, 0)


def complexity(*, active: bool) -> Complexity:
    given_up = (GivenUp("isolation between nodes", "docs/active-active.md#what-is-not-promised"),) if active else ()
    return Complexity(("cluster", "nodes"), ("agent", "guard", "router"), ("up", "status"), given_up)


def lines() -> list[Line]:
    def figures(topic: str) -> dict[str, Figure]:
        return {
            name: Figure(f"{number * 111:,} ms & more", f"/contestants/{name}/{topic}")
            for number, name in enumerate(NAMES, 1)
        }

    why = (
        "Because this was invented, and a sentence of some length stands here, as it does on a real page, <so to say>."
    )
    return [
        *(Line("availability", f"outage, {fault}", figures("availability"), why) for fault in FAULTS),
        Line("failed statements", "statements that were not acknowledged", figures("availability"), why),
        Line("speed", "writes, many clients spread over the nodes", figures("speed"), why),
        Line("staleness", "age of a read on another node", figures("staleness"), why),
    ]
