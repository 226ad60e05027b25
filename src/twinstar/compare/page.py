"""A comparison as one HTML page that needs nothing else, for a design review.

The table has every line with what was observed to be the reason; each figure names its series in the JSON (a tooltip).
The plots are made from the series, not from the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from twinstar.compare import looks, page_tables
from twinstar.compare.comparison import CONTROL, Comparison, Contestant, FaultRun, Tally, Throughput
from twinstar.compare.plots import Bar, Spread, bars, distribution, span_of, stacked, timeline
from twinstar.drill.drawing import document

_TITLE = "What each strategy costs, measured"
_LEAST_MS = 0.01
"""Where the axes of durations begin at the earliest."""
_PER_WRITE = {
    "cpu_ms": ("processor time, per write", "{:,.3g} ms"),
    "wal_bytes": ("log, per write", "{:,.0f} bytes"),
    "net_bytes": ("sent between nodes, per write", "{:,.0f} bytes"),
}
_KINDS = {
    "increments": "SET n = n + 1",
    "counters": "the same, on a declared counter",
    "naive_increments": "read n, then write n + 1",
    "updates": "read a text, then write a longer one",
}

_STYLE = """
body { max-width: 78rem; }
h2 { font-size: 1.2rem; margin-top: 2.4rem; } h3 { font-size: .95rem; margin: 1.2rem 0 .2rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .6rem 1rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .8rem; font-weight: 600; overflow-wrap: anywhere; }
.mark { fill: var(--mark); } .struck { opacity: .5; } .cut-off { opacity: .25; }
.curve { fill: none; stroke: var(--mark); stroke-width: 2; } .dashed { stroke-dasharray: 6 3; }
svg text.value { fill: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .4em; background: var(--mark); }
table { width: 100%; table-layout: fixed; font-size: .9rem; } th, td { overflow-wrap: anywhere; }
td:first-child, th:first-child { width: 24%; } thead th { border-bottom: 3px solid var(--mark, var(--line)); }
tr.topic th { color: var(--ink); text-align: left; padding-top: 1.1rem; }
tr.figures td { border-bottom: none; padding-bottom: 0; }
tr.why td { text-align: left; color: var(--soft); font-size: .85rem; padding-top: .1rem; }
tr.why b { color: var(--ink); border-bottom: 2px solid var(--mark); font-weight: 600; }
@media (max-width: 40rem) {
  thead { display: none; } table, tbody, tr, td, tr.topic th { display: block; width: auto !important; }
  tr.figures { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; }
  tr.figures td { padding: .1rem 0; text-align: left; border-top: 3px solid var(--mark, transparent); }
  tr.figures td:first-child { grid-column: 1 / -1; font-weight: 600; padding-top: .5rem; border-top: none; }
  tr.figures td[data-name]::before { content: attr(data-name); display: block; color: var(--soft); font-size: .75rem; }
  tr.why td { padding-left: 0; }
}
"""


def page(comparison: Comparison) -> str:
    """The whole page."""
    sections = (
        _introduction(comparison),
        _outages(comparison),
        page_tables.lines(comparison),
        _over_time(comparison),
        _conflicts(comparison),
        _speed(comparison),
        _staleness(comparison),
        _resources(comparison),
        page_tables.given_up(comparison),
    )
    return document(_TITLE, "".join(sections), looks.STYLE + _STYLE)


def _introduction(comparison: Comparison) -> str:
    machine, options = comparison.machine, comparison.options
    how = [
        f"{machine.cores} × {machine.cpu}, {machine.memory_gib:g} GiB",
        f"PostgreSQL {machine.postgresql}",
        f"Twinstar {machine.commit}",
        f"{options.rtt_ms:g} ms added to each round trip between nodes" if options.rtt_ms else "nodes side by side",
        "the quick comparison" if options.quick else f"each fault {_times(options.repeat)}",
    ]
    return (
        f"<p>{escape('; '.join(how))}. Made {escape(comparison.made[:16].replace('T', ' '))} UTC.</p><p>The same "
        "clients, the same faults, the same machine. AP, active-passive: one node takes the writes, the others follow "
        "it. AA, active-active: every node takes writes. Async: a commit returns at once. Quorum: when another node "
        "has it on disk.</p>"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _section(title: str, said: str, *plots: str) -> str:
    """Nothing when there is no plot."""
    drawn = "".join(plots)
    return f"<h2>{title}</h2><p>{said}</p>{drawn}" if drawn else ""


def _grid(plots: Iterable[str]) -> str:
    drawn = "".join(plots)
    return f'<div class="grid">{drawn}</div>' if drawn else ""


def _faults(comparison: Comparison) -> list[str]:
    """In the order in which they were measured, the control left aside."""
    found = dict.fromkeys(fault for one in comparison.contestants.values() for fault in one.availability)
    return [fault for fault in found if fault != CONTROL]


def _worst(runs: tuple[FaultRun, ...]) -> FaultRun:
    return max(runs, key=lambda run: run.outage_ms)


def _outages(comparison: Comparison) -> str:
    runs = [run for one in comparison.contestants.values() for runs in one.availability.values() for run in runs]
    peak = max((run.outage_ms for run in runs), default=0.0)
    return _section(
        "How long clients were not served",
        "The longest time that one client went without an acknowledged write, in the worst run. Where every node takes "
        "writes, that is of the clients of the struck node, and its others are the clients of all other nodes. The "
        "control is the same without a fault.",
        _grid(_outage_bars(comparison, fault, peak) for fault in [*_faults(comparison), CONTROL]),
    )


def _outage_bars(comparison: Comparison, fault: str, peak: float) -> str:
    rows = []
    for name, one in comparison.contestants.items():
        if runs := one.availability.get(fault):
            longest_ms = _worst(runs).outage_ms
            others = [each.others_outage_ms for each in runs if each.others_outage_ms is not None]
            rows.append(Bar(name, longest_ms, f"{longest_ms:,.0f} ms"))
            if others and fault != CONTROL:
                rows.append(Bar(name, max(others), f"{max(others):,.0f} ms", label="its others"))
    return bars(fault, rows, peak) if rows else ""


def _over_time(comparison: Comparison) -> str:
    return _section(
        "What it looked like",
        "Writes acknowledged in each 100 ms around the fault (the red line), in the worst run; the longest wait of one "
        "client is shaded. Where every node takes writes, the pale part is of the struck node's clients, and the "
        "palest of clients that are cut off together with it.",
        *(_timelines(comparison, fault) for fault in _faults(comparison)),
    ) + _skipped(comparison)


def _timelines(comparison: Comparison, fault: str) -> str:
    runs = {
        name: _worst(one.availability[fault])
        for name, one in comparison.contestants.items()
        if one.availability.get(fault)
    }
    peak = max(sum(counts) for run in runs.values() for counts in stacked(run)) or 1
    starts = [-(run.fault_at_ms or 0.0) for run in runs.values()]
    ends = [run.window_ms[1] - (run.fault_at_ms or 0.0) for run in runs.values()]
    span_ms = (min(starts), max(ends))
    return f"<h3>{escape(fault)}</h3>" + _grid(timeline(name, run, peak, span_ms) for name, run in runs.items())


def _skipped(comparison: Comparison) -> str:
    reasons = dict.fromkeys(
        f"{fault} was not measured: {why}"
        for one in comparison.contestants.values()
        for fault, why in one.skipped.items()
    )
    return "".join(f"<p>{escape(reason)}</p>" for reason in reasons)


def _conflicts(comparison: Comparison) -> str:
    plots = []
    for kind, what in _KINDS.items():
        rows = [
            Bar(name, tally.lost / (tally.wanted or 1), f"{tally.lost:,} of {tally.wanted:,}")
            for name, one in comparison.contestants.items()
            if one.conflicts and (tally := _tally(one, kind))
        ]
        plots.append(bars(what, rows, 1.0) if rows else "")
    logged = [
        Bar(name, one.conflicts.logged, f"{one.conflicts.logged:,}")
        for name, one in comparison.contestants.items()
        if one.conflicts and one.strategy == "active-active"
    ]
    plots.append(bars("versions in the conflict log", logged) if logged else "")
    return _section(
        "What becomes of writes to the same rows",
        "Clients on all nodes change the same few rows as fast as they can. Counted are acknowledged changes that are "
        "not there in the end; a full bar is all of them.",
        _grid(plots),
    )


def _tally(one: Contestant, kind: str) -> Tally | None:
    found: Tally | None = getattr(one.conflicts, kind)
    return found


def _speed(comparison: Comparison) -> str:
    found: dict[str, dict[str, Throughput]] = {}
    for name, one in comparison.contestants.items():
        for kind, measured in one.speed.items():
            found.setdefault(kind, {})[name] = measured
    rates, latencies = [], []
    for what in dict.fromkeys(kind.partition("-")[0] for kind in found):
        kinds = {kind: by_name for kind, by_name in found.items() if kind.startswith(what)}
        peak = max(one.per_s for by_name in kinds.values() for one in by_name.values())
        for kind, by_name in kinds.items():
            rows = [Bar(name, one.per_s, f"{one.per_s:,.0f} per s") for name, one in by_name.items()]
            rates.append(bars(_speed_title(kind), rows, peak))
        spreads = {kind: _latencies(by_name) for kind, by_name in kinds.items()}
        if seen := [spread for each in spreads.values() for spread in each]:
            span_ms = span_of(seen, _LEAST_MS)
            latencies += [distribution(_speed_title(kind), each, span_ms) for kind, each in spreads.items() if each]
    return _section(
        "How fast it is",
        "Statements per second, with all clients beside one node, or spread over the nodes; a single client beside the "
        "node that takes its writes, or away from it.",
        _grid(rates),
    ) + _section(
        "How long a statement takes",
        "Which share of the statements took at most so long; further to the left is faster.",
        looks.legend(comparison.contestants) if latencies else "",
        _grid(latencies),
    )


def _latencies(by_name: dict[str, Throughput]) -> list[Spread]:
    return [Spread(name, one.latencies_ms) for name, one in by_name.items() if one.latencies_ms]


def _speed_title(kind: str) -> str:
    """Of ``write-many-one-node``."""
    what, clients, where = kind.split("-", 2)
    if clients == "one":
        return f"{what}s, one client, {'near' if where == 'one-node' else 'far'}"
    return f"{what}s, many clients, {'one node' if where == 'one-node' else 'spread'}"


def _staleness(comparison: Comparison) -> str:
    spreads = [
        Spread(name, sorted(Counter(one.staleness.ages_ms).items()))
        for name, one in comparison.contestants.items()
        if one.staleness and one.staleness.ages_ms
    ]
    title = "until another node shows a write"
    return _section(
        "How old a read on another node is",
        "From the acknowledgement of a write on one node until another one shows it; what was there already is at the "
        "left edge.",
        looks.legend(spread.name for spread in spreads) if spreads else "",
        _grid([distribution(title, spreads, span_of(spreads, _LEAST_MS))]) if spreads else "",
    )


def _resources(comparison: Comparison) -> str:
    found = {name: one.resources for name, one in comparison.contestants.items() if one.resources}
    plots = []
    for key, (title, written) in _PER_WRITE.items():
        rows = [
            Bar(name, value, written.format(value)) for name, one in found.items() if (value := one.per_write.get(key))
        ]
        plots.append(bars(title, rows) if rows else "")
    if found:
        sizes = {name: sum(node.rss_mib for node in one.per_node) / len(one.per_node) for name, one in found.items()}
        useful = {name: one.useful_share for name, one in found.items()}
        plots += [
            bars("memory of a node", [Bar(name, size, f"{size:,.0f} MiB") for name, size in sizes.items()]),
            bars("nodes that do writes", [Bar(name, share, f"{share:.0%}") for name, share in useful.items()], 1.0),
        ]
    return _section(
        "What a write uses", "Of all nodes together, while many clients write, spread over the nodes.", _grid(plots)
    )
