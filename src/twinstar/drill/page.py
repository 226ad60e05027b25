"""A drill's result as one HTML page that needs nothing else: a table, and a plot of acknowledged writes over time."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

Scale = Callable[[float], float]
"""From milliseconds since the run's begin to a horizontal place."""

_WIDTH, _HEIGHT = 900.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 68.0, 10.0, 18.0, 26.0

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d7dce3; --bar: #2f6fb2; --paper: #fff;
  --outage: #d9480f; --fault: #b02a37; --good: #1f7a4d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #38414d; --bar: #6ea8e0;
  --paper: #14181e; --outage: #ff8a4c; --fault: #ff7b86; --good: #62c796; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .2rem; }
p { margin: .3rem 0; color: var(--soft); } .verdict { font-weight: 600; color: var(--good); }
.verdict.bad { color: var(--fault); }
table { border-collapse: collapse; margin: 1rem 0; } .scroll { overflow-x: auto; }
th, td { text-align: right; padding: .3rem .55rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.bar { fill: var(--bar); } .axis { stroke: var(--line); } .outage { fill: var(--outage); opacity: .16; }
.fault { stroke: var(--fault); stroke-width: 1.5; } svg text.fault-word { fill: var(--fault); stroke: none; }
svg text.outage-word { fill: var(--outage); font-weight: 600; }
"""


def page(report: dict[str, Any]) -> str:
    """The page for what `report.to_json` returned."""
    fault = escape(report["summary"]["fault"])
    repetitions = report["repetitions"]
    plots = "".join(_section(number, repetition) for number, repetition in enumerate(repetitions, 1))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Drill: {fault}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>Drill: {fault}</h1>{_intro(report)}{_table(report)}{plots}</body></html>\n"
    )


def _intro(report: dict[str, Any]) -> str:
    figures, options = report["summary"], report["options"]
    cluster = ", ".join(f"{escape(str(key))} {escape(str(value))}" for key, value in report["cluster"].items())
    survived = figures["survived"]
    verdict = (
        "Every fault was survived; no acknowledged write was lost."
        if survived
        else f"Not survived: {figures['lost']} acknowledged writes lost, {figures['phantoms']} rows nobody wrote."
        if figures["lost"] or figures["phantoms"]
        else "Not survived: clients were not served again within the time given."
    )
    busy = ", a long query on every standby" if options["busy_standby"] else ""
    return (
        f'<p class="verdict{"" if survived else " bad"}">{verdict}</p>'
        f"<p>{cluster}. {options['clients']} clients, {options['pause_ms']:g} ms between writes{busy}.</p>"
        f"<p>Machine: {escape(report['machine'])}.</p>"
    )


def _table(report: dict[str, Any]) -> str:
    heads = (
        *("run", "outage ms", "control ms", "acknowledged", "failed", "unknown", "lost", "duplicates"),
        *("epoch", "leader"),
    )
    figures = report["summary"]
    rows = [
        *(_row(number, repetition) for number, repetition in enumerate(report["repetitions"], 1)),
        (
            *("median", f"{figures['median_outage_ms']:.0f}", f"{figures['control_median_ms']:.0f}"),
            *("", "", "", "", "", "", ""),
        ),
        (
            *("maximum", f"{figures['maximum_outage_ms']:.0f}", f"{figures['control_maximum_ms']:.0f}"),
            *("", "", "", "", "", "", ""),
        ),
    ]
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(number: int, repetition: dict[str, Any]) -> tuple[object, ...]:
    faulty, control = repetition["faulty"], repetition["control"]
    audit = faulty["audit"]
    return (
        number,
        f"{faulty['outage_ms']:.0f}",
        f"{control['outage_ms']:.0f}",
        audit["acknowledged"],
        audit["failed"],
        audit["unknown"],
        len(audit["lost"]),
        audit["duplicates"],
        _arrow(faulty["epoch_before"], faulty["epoch_after"]),
        _arrow(faulty["leader_before"], faulty["leader_after"]),
    )


def _arrow(before: object, after: object) -> str:
    return f"{before}" if before == after else f"{before} → {after}"


def _section(number: int, repetition: dict[str, Any]) -> str:
    return (
        f"<h2>Run {number}</h2>{_plot(repetition['faulty'])}"
        f"<p>The same without a fault (longest gap {repetition['control']['outage_ms']:.0f} ms):</p>"
        f"{_plot(repetition['control'])}"
    )


def _plot(run: dict[str, Any]) -> str:
    """Acknowledged writes per bin as bars, the outage shaded, the fault as a line."""
    bins, bin_ms, length_ms = run["acknowledged_per_bin"], run["bin_ms"], run["length_ms"]
    peak = max([*bins, 1])
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    floor = _HEIGHT - _BOTTOM

    def x(at_ms: float) -> float:
        return _LEFT + plot_width * at_ms / float(length_ms)

    bar = max(0.5, plot_width * bin_ms / length_ms - 0.4)
    bars = "".join(
        f'<rect class="bar" x="{x(i * bin_ms):.1f}" y="{floor - plot_height * count / peak:.1f}" '
        f'width="{bar:.1f}" height="{plot_height * count / peak:.1f}"/>'
        for i, count in enumerate(bins)
        if count
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="acknowledged writes over time">'
        f"{_outage(run, x)}{bars}{_axes(length_ms, x, peak, bin_ms)}{_fault(run, x)}</svg>"
    )


def _outage(run: dict[str, Any], x: Scale) -> str:
    if run["fault_at_ms"] is None:
        return ""
    start, end = x(run["outage_from_ms"]), x(run["outage_to_ms"])
    word = f"{run['outage_ms']:.0f} ms without an acknowledgement"
    return (
        f'<rect class="outage" x="{start:.1f}" y="{_TOP:g}" width="{max(1.0, end - start):.1f}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM:g}"/>'
        f'<text class="outage-word" x="{end + 4:.1f}" y="{_TOP - 5:g}">{word}</text>'
    )


def _fault(run: dict[str, Any], x: Scale) -> str:
    if run["fault_at_ms"] is None:
        return ""
    at = x(run["fault_at_ms"])
    return (
        f'<line class="fault" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8:g}" y2="{_HEIGHT - _BOTTOM:g}"/>'
        f'<text class="fault-word" x="{at - 4:.1f}" y="{_TOP - 5:g}" text-anchor="end">fault at '
        f"{escape(run['target'])}</text>"
    )


def _axes(length_ms: float, x: Scale, peak: int, bin_ms: float) -> str:
    floor = _HEIGHT - _BOTTOM
    step = 500 if length_ms <= 8_000 else 1_000 if length_ms <= 16_000 else 5_000
    ticks = "".join(
        f'<text x="{x(at):.1f}" y="{floor + 14:g}" text-anchor="middle">{at / 1000:g} s</text>'
        for at in range(0, int(length_ms) + 1, step)
    )
    return (
        f'<line class="axis" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{floor:g}" y2="{floor:g}"/>{ticks}'
        f'<text x="{_LEFT - 6:g}" y="{_TOP + 8:g}" text-anchor="end">{peak}</text>'
        f'<text x="{_LEFT - 6:g}" y="{floor:g}" text-anchor="end">0</text>'
        f'<text x="{_LEFT - 6:g}" y="{(_TOP + floor) / 2 + 4:g}" text-anchor="end">per {bin_ms:g} ms</text>'
    )
