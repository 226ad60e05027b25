"""The plots of the comparison's page: each takes what was measured and returns an SVG, or nothing where nothing was.

Every plot is small, so that its words are readable on a telephone and four of them fit beside each other on a screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate, pairwise
from math import ceil, floor

from twinstar.compare.comparison import ClientSeries, FaultRun
from twinstar.compare.figures import per_bin, percentile
from twinstar.compare.looks import colour
from twinstar.compare.why import short
from twinstar.drill.drawing import curve, decades, line, linear, logarithmic, plot, rectangle, words

_BIN_MS = 100
_STACK = ("mark", "mark struck", "mark cut-off")
_WIDTH = 290.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 12.0, 20.0, 30.0

_ROW, _NAME, _VALUE = 22.0, 78.0, 96.0
"""Of horizontal bars: a row's height, the room for names and the room for values."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant's value, as it is drawn and as it is written; `label`: what it is called instead of its name."""

    name: str
    value: float
    text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """One contestant's values, smallest first, each with how often it was seen."""

    name: str
    values: Sequence[tuple[float, int]]


def figure(title: str, drawn: str, kind: str) -> str:
    """A plot with its heading. Heading and plot are one thing for whoever looks for plots by `kind`."""
    return f'<figure class="plot {kind}"><figcaption>{escape(title)}</figcaption>{drawn}</figure>'


def bars(title: str, rows: Sequence[Bar], peak: float | None = None) -> str:
    """Horizontal bars from 0 to `peak` (else the greatest), a row for each contestant."""
    height = _ROW * len(rows) + 4
    greatest = peak or max(row.value for row in rows) or 1.0
    x = linear(0, greatest, _NAME, _WIDTH - _VALUE)
    marks = []
    for number, row in enumerate(rows):
        top = number * _ROW + 4
        marks += [
            words(row.label or short(row.name), _NAME - 6, top + 12, anchor="end"),
            f"<g {colour(row.name)}>{rectangle('mark', _NAME, top, max(1.0, x(row.value) - _NAME), _ROW - 8)}</g>",
            words(row.text, x(row.value) + 5, top + 12, look="value"),
        ]
    marks.append(line("axis", _NAME, 0, _NAME, height))
    return figure(title, plot(_WIDTH, height, title, marks), "bars")


def timeline(name: str, run: FaultRun, peak: int, span_ms: tuple[float, float]) -> str:
    """Acknowledged writes in each 100 ms around the fault; the longest time that a client went without is shaded.

    From below: clients of other nodes, pale those of the struck one, and palest those who are cut off together with it.
    `peak` and `span_ms`, which counts from the fault, are those of all plots beside this one.
    """
    height, fault_ms = 118.0, run.fault_at_ms or 0.0
    bottom = height - _BOTTOM
    x, y = linear(*span_ms, _LEFT, _WIDTH - _RIGHT), linear(0, peak, bottom, _TOP)
    start, end = (min(max(x(at - fault_ms), _LEFT), _WIDTH - _RIGHT) for at in silence(run))
    marks = [rectangle("outage", start, _TOP, max(1.0, end - start), bottom - _TOP)]
    width = x(_BIN_MS) - x(0) - 0.3
    for index, counts in enumerate(stacked(run)):
        left = x(index * _BIN_MS - fault_ms)
        if left >= _LEFT and left + width <= _WIDTH - _RIGHT:
            marks += [
                rectangle(look, left, y(upto), width, y(0) - y(count))
                for look, count, upto in zip(_STACK, counts, accumulate(counts), strict=True)
                if count
            ]
    middle = min(max((start + end) / 2, _LEFT + 24), _WIDTH - 32)
    marks += [
        line("axis", _LEFT, bottom, _WIDTH - _RIGHT, bottom),
        line("fault", x(0), _TOP - 4, x(0), bottom + 4),
        words(f"{run.outage_ms:,.0f} ms", middle, _TOP - 6, anchor="middle", look="outage-word"),
        words(str(peak), _LEFT - 4, _TOP + 8, anchor="end"),
        words("0", _LEFT - 4, bottom, anchor="end"),
        *(words(text, x(at_ms), bottom + 15, anchor="middle") for text, at_ms in _seconds(span_ms)),
    ]
    drawn = plot(_WIDTH, height, f"{name}: acknowledged writes over time", marks)
    return figure(short(name), f"<div {colour(name)}>{drawn}</div>", "timeline")


def distribution(title: str, spreads: Sequence[Spread], span_ms: tuple[float, float]) -> str:
    """Which share of the values is at most so long, on a logarithmic axis over `span_ms`."""
    height, right = 170.0, _WIDTH - _RIGHT
    bottom = height - _BOTTOM
    x, y = logarithmic(*span_ms, _LEFT, right), linear(0, 1, bottom, 8)
    marks = [line("axis", _LEFT, y(share), right, y(share)) for share in (0, 0.5, 1)]
    marks += [words(f"{share:.0%}", _LEFT - 4, y(share) + 4, anchor="end") for share in (0, 0.5, 1)]
    for at in decades(*span_ms):
        marks.append(line("axis", x(at), 8, x(at), bottom))
        marks.append(words(f"{at:g} ms", min(x(at), _WIDTH - 22), bottom + 15, anchor="middle"))
    for spread in spreads:
        points = [(min(x(value), right), y(share)) for value, share in shares(spread)]
        look = "curve dashed" if spread.name.endswith("async") else "curve"
        marks.append(f"<g {colour(spread.name)}>{curve(look, [(points[0][0], bottom), *staircase(points)])}</g>")
    return figure(title, plot(_WIDTH, height, title, marks), "distribution")


def span_of(spreads: Sequence[Spread], least_ms: float) -> tuple[float, float]:
    """From `least_ms`, or from what one of a hundred stays below, to what one of a thousand exceeds."""
    low_ms = max(least_ms, min(percentile(spread.values, 0.01) for spread in spreads))
    return low_ms, max(10 * low_ms, *(percentile(spread.values, 0.999) for spread in spreads))


def silence(run: FaultRun) -> tuple[float, float]:
    """From when to when the client that waited the longest had no acknowledgement; of the struck node's clients, where
    every node takes writes."""
    apart = run.others_outage_ms is not None
    chosen = [client for client in run.clients if not apart or client.node == run.struck]
    begins, ends = run.window_ms
    gaps = [
        pair
        for client in chosen
        for pair in pairwise([begins, *sorted(at for at in client.acknowledged_ms if begins <= at <= ends), ends])
    ]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(begins, begins))


def stacked(run: FaultRun) -> list[tuple[int, int, int]]:
    """In each bin what clients of other nodes were told, those of the struck one, and those cut off together with it.

    Where one node alone takes writes, nobody is told apart.
    """
    apart = run.others_outage_ms is not None
    struck = [client for client in run.clients if apart and client.node == run.struck]
    others = [client for client in run.clients if client not in struck]
    return list(zip(*(_binned(clients, run) for clients in (others, struck, run.beside)), strict=True))


def _binned(clients: Sequence[ClientSeries], run: FaultRun) -> tuple[int, ...]:
    return per_bin((at for client in clients for at in client.acknowledged_ms), *run.window_ms)


def shares(spread: Spread) -> list[tuple[float, float]]:
    """Each value with the share of all that do not exceed it."""
    total = sum(count for _, count in spread.values)
    counted = accumulate(count for _, count in spread.values)
    return [(value, upto / total) for (value, _), upto in zip(spread.values, counted, strict=True)]


def staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A share holds until the next value."""
    return [points[0], *(corner for (_, y), (x, top) in pairwise(points) for corner in ((x, y), (x, top)))]


def _seconds(span_ms: tuple[float, float]) -> list[tuple[str, float]]:
    """Whole seconds from the fault on."""
    step = next(step for step in (1, 2, 5, 10, 20, 60) if (span_ms[1] - span_ms[0]) / 1000 / step <= 8)
    first, last = ceil(span_ms[0] / 1000 / step), floor(span_ms[1] / 1000 / step)
    return [(f"{number * step} s".replace("-", "−"), number * step * 1000.0) for number in range(first, last + 1)]
