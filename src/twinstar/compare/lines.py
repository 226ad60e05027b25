"""The table's lines, made from the contestants' series alone. Pure.

Each figure is computed anew from the series that its pointer names, not taken from what the measure wrote beside them;
so what is in a file made by `--json` can be computed again by anybody (a test does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

from twinstar.compare import why
from twinstar.compare.comparison import CONTROL, Contestant, FaultRun, Figure, Line, Tally
from twinstar.compare.figures import condensed, median_of, outage, percentile, refusals
from twinstar.drill.faults import Fault

Read = Callable[[Contestant], tuple[str, str] | None]
"""A figure's text, and the pointer within the contestant; None: not measured."""
_KINDS = {
    "increments": "lost, SET n = n + 1",
    "counters": "lost, the same on a counter",
    "naive_increments": "lost, SELECT n, then UPDATE",
    "updates": "lost, SELECT text, then UPDATE",
}
_CASES = {"one": "1 client", "many": "6 clients", "one-node": "on one node", "spread": "spread"}


@dataclass(frozen=True, slots=True)
class _Row:
    topic: str
    name: str
    read: Read
    because: Callable[[Mapping[str, Contestant]], str]


def lines(contestants: Mapping[str, Contestant]) -> tuple[Line, ...]:
    """Every line that at least one contestant has a figure for."""
    made = []
    for row in _rows(contestants):
        figures = {}
        for name, contestant in contestants.items():
            read = row.read(contestant)
            if read is not None:
                figures[name] = Figure(read[0], f"/contestants/{name}/{read[1]}")
        if figures:
            made.append(Line(row.topic, row.name, figures, row.because(contestants)))
    return tuple(made)


def _rows(contestants: Mapping[str, Contestant]) -> list[_Row]:
    return [
        *(_fault_row(fault) for fault in _faults(contestants)),
        _Row("failed statements", "in all faults (effect unknown)", _failed, why.failed),
        _Row("data loss", "acknowledged, and missing", _lost, why.lost),
        *(_conflict_row(kind, name) for kind, name in _KINDS.items()),
        _Row("conflicts", "kept in the conflict log", _logged, why.logged),
        _Row("resources", "nodes that take writes", _useful, why.useful),
        _Row("resources", "processor time per write", _per_write("cpu_ms", "{:.2f} ms"), why.cpu),
        _Row("resources", "log per write, all nodes", _per_write("wal_bytes", "{:.0f} B"), why.wal),
        _Row("resources", "between nodes, per write", _per_write("net_bytes", "{:.0f} B"), why.net),
        _Row("resources", "memory per node", _memory, why.memory),
        *(_speed_row(kind, many, where) for kind in ("write", "read") for many in ("one", "many") for where in _WHERE),
        _Row("staleness", "age on another node", _stale, why.stale),
        _Row("complexity", "settings", _count("settings"), why.settings),
        _Row("complexity", "processes", _count("processes"), why.processes),
        _Row("complexity", "commands of its own", _count("commands"), why.commands),
        _Row("complexity", "promises given up", _count("given_up"), why.given_up),
    ]


_WHERE = ("one-node", "spread")


def _faults(contestants: Mapping[str, Contestant]) -> list[str]:
    """That any was measured with or should have been, in the order of the drill's list; the control first."""
    there = {name for each in contestants.values() for name in (*each.availability, *each.skipped)}
    return [name for name in (CONTROL, *Fault) if name in there]


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def _of_runs(values: list[float]) -> str:
    """The median, with the maximum when there are several."""
    middle = _ms(median_of(values))
    return middle if len(values) == 1 else f"{middle} (≤ {_ms(max(values))})"


def _fault_row(fault: str) -> _Row:
    def read(contestant: Contestant) -> tuple[str, str] | None:
        runs = contestant.availability.get(fault)
        if runs is None:
            reason = contestant.skipped.get(fault)
            return None if reason is None else ("failed" if reason.startswith("failed") else "–", f"skipped/{fault}")
        text = _of_runs([outage(run) for run in runs])
        if runs[0].others_outage_ms is not None:
            text += f"; others {_of_runs([outage(run, others=True) for run in runs])}"
        if not all(run.served_again for run in runs):
            text += ", not served again"
        return text, f"availability/{fault}"

    return _Row("availability", "no fault" if fault == CONTROL else fault, read, lambda found: why.outage(fault, found))


def _faulty(contestant: Contestant) -> list[FaultRun]:
    return [run for fault, runs in contestant.availability.items() if fault != CONTROL for run in runs]


def _failed(contestant: Contestant) -> tuple[str, str] | None:
    runs = _faulty(contestant)
    if not runs:
        return None
    failed = sum(sum(refusals(run.clients).values()) for run in runs)
    unknown = sum(refused.outcome == "unknown" for run in runs for each in run.clients for refused in each.refused)
    return f"{failed} ({unknown} unknown)", "availability"


def _lost(contestant: Contestant) -> tuple[str, str] | None:
    runs = [run for each in contestant.availability.values() for run in each]
    if not runs:
        return None
    return f"{sum(len(run.lost_rows) for run in runs)} of {sum(run.acknowledged for run in runs):,}", "availability"


def _conflict_row(kind: str, name: str) -> _Row:
    def read(contestant: Contestant) -> tuple[str, str] | None:
        if contestant.conflicts is None:
            return None
        tally: Tally = getattr(contestant.conflicts, kind)
        wanted, there = sum(tally.per_client), sum(tally.per_row)
        share = 100 * (wanted - there) / wanted if wanted else 0.0
        return f"{wanted - there:,} of {wanted:,} ({share:.0f} %)", f"conflicts/{kind}"

    return _Row("conflicts", name, read, lambda found: why.conflict(kind, found))


def _logged(contestant: Contestant) -> tuple[str, str] | None:
    found = contestant.conflicts
    return None if found is None else (f"{sum(found.logged_kinds.values()):,}", "conflicts/logged_kinds")


def _useful(contestant: Contestant) -> tuple[str, str] | None:
    if contestant.resources is None:
        return None
    nodes = contestant.resources.per_node
    return f"{sum(node.writes > 0 for node in nodes)} of {len(nodes)}", "resources/per_node"


def _per_write(name: str, form: str) -> Read:
    def read(contestant: Contestant) -> tuple[str, str] | None:
        if contestant.resources is None:
            return None
        nodes = contestant.resources.per_node
        writes = sum(node.writes for node in nodes)
        parts = {
            "cpu_ms": [node.cpu_s * 1000 for node in nodes],
            "wal_bytes": [float(node.wal_bytes) for node in nodes],
            "net_bytes": [float(node.net_bytes) for node in nodes if node.net_bytes is not None],
        }[name]
        if not writes or len(parts) < len(nodes):
            return None
        return form.format(sum(parts) / writes), "resources/per_node"

    return read


def _memory(contestant: Contestant) -> tuple[str, str] | None:
    if contestant.resources is None:
        return None
    return f"{mean(node.rss_mib for node in contestant.resources.per_node):.0f} MiB", "resources/per_node"


def _speed_row(kind: str, many: str, where: str) -> _Row:
    case = f"{kind}-{many}-{where}"

    def read(contestant: Contestant) -> tuple[str, str] | None:
        found = contestant.speed.get(case)
        if found is None:
            return None
        per_s = sum(count for _, count in found.latencies_ms) / found.window_ms * 1000
        p50, p99 = (percentile(found.latencies_ms, share) for share in (0.5, 0.99))
        return f"{per_s:,.0f}/s {p50:.2f} ms, p99 {p99:.1f}", f"speed/{case}"

    name = f"{kind}s, {_CASES[many]}, {_CASES[where]}"
    return _Row("speed", name, read, lambda found: why.speed(kind, many, where, found))


def _stale(contestant: Contestant) -> tuple[str, str] | None:
    if contestant.staleness is None:
        return None
    values = condensed(contestant.staleness.ages_ms)
    text = f"{percentile(values, 0.5):.1f} ms (p99 {percentile(values, 0.99):.1f})"
    return text, "staleness/ages_ms"


def _count(name: str) -> Read:
    def read(contestant: Contestant) -> tuple[str, str] | None:
        if contestant.complexity is None:
            return None
        return str(len(getattr(contestant.complexity, name))), f"complexity/{name}"

    return read
