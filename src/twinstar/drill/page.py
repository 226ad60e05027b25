"""A drill's result as one HTML page that needs nothing else: a table, and a plot of acknowledged writes over time."""

from __future__ import annotations

from html import escape
from typing import Any

from twinstar.drill.drawing import Scale, document, line, linear, plot, rectangle, words

_WIDTH, _HEIGHT = 900.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 68.0, 10.0, 18.0, 26.0
_FLOOR = _HEIGHT - _BOTTOM

_STYLE = """
.verdict { font-weight: 600; color: var(--good); } .verdict.bad { color: var(--fault); }
.scroll { overflow-x: auto; } th, td { white-space: nowrap; }
"""


def page(report: dict[str, Any]) -> str:
    """The page for what `report.to_json` returned."""
    repetitions = report["repetitions"]
    plots = "".join(_section(number, repetition) for number, repetition in enumerate(repetitions, 1))
    return document(f"Drill: {report['summary']['fault']}", f"{_intro(report)}{_table(report)}{plots}", _STYLE)


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
    x = linear(0, length_ms, _LEFT, _WIDTH - _RIGHT)
    y = linear(0, peak, _FLOOR, _TOP)
    width = max(0.5, x(bin_ms) - x(0) - 0.4)
    bars = [
        rectangle("bar", x(i * bin_ms), y(count), width, _FLOOR - y(count)) for i, count in enumerate(bins) if count
    ]
    marks = [*_outage(run, x), *bars, *_axes(length_ms, x, peak, bin_ms), *_fault(run, x)]
    return plot(_WIDTH, _HEIGHT, "acknowledged writes over time", marks)


def _outage(run: dict[str, Any], x: Scale) -> list[str]:
    if run["fault_at_ms"] is None:
        return []
    start, end = x(run["outage_from_ms"]), x(run["outage_to_ms"])
    return [
        rectangle("outage", start, _TOP, max(1.0, end - start), _FLOOR - _TOP),
        words(f"{run['outage_ms']:.0f} ms without an acknowledgement", end + 4, _TOP - 5, look="outage-word"),
    ]


def _fault(run: dict[str, Any], x: Scale) -> list[str]:
    if run["fault_at_ms"] is None:
        return []
    at = x(run["fault_at_ms"])
    return [
        line("fault", at, _TOP - 8, at, _FLOOR),
        words(f"fault at {run['target']}", at - 4, _TOP - 5, anchor="end", look="fault-word"),
    ]


def _axes(length_ms: float, x: Scale, peak: int, bin_ms: float) -> list[str]:
    step = 500 if length_ms <= 8_000 else 1_000 if length_ms <= 16_000 else 5_000
    ticks = range(0, int(length_ms) + 1, step)
    return [
        line("axis", _LEFT, _FLOOR, _WIDTH - _RIGHT, _FLOOR),
        *(words(f"{at / 1000:g} s", x(at), _FLOOR + 14, anchor="middle") for at in ticks),
        words(str(peak), _LEFT - 6, _TOP + 8, anchor="end"),
        words("0", _LEFT - 6, _FLOOR, anchor="end"),
        words(f"per {bin_ms:g} ms", _LEFT - 6, (_TOP + _FLOOR) / 2 + 4, anchor="end"),
    ]
