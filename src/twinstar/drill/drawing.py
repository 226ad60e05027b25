"""What the pages share: one look in light and dark, and the few marks that their plots are made of, as inline SVG.

docs/decisions/plots.md says why no library draws them. Lengths are the units of a plot's own view box, about pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

Scale = Callable[[float], float]
"""From a value to a place."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d7dce3; --bar: #2f6fb2; --paper: #fff;
  --outage: #c2410c; --fault: #b02a37; --good: #1f7a4d; --shade: .16; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #38414d; --bar: #6ea8e0;
  --paper: #14181e; --outage: #ff8a4c; --fault: #ff7b86; --good: #62c796;
  --shade: .32; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .2rem; }
p { margin: .3rem 0; color: var(--soft); }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: right; padding: .3rem .55rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.bar { fill: var(--bar); } .axis { stroke: var(--line); } .outage { fill: var(--outage); opacity: var(--shade); }
.fault { stroke: var(--fault); stroke-width: 1.5; } svg text.fault-word { fill: var(--fault); stroke: none; }
svg text.outage-word { fill: var(--outage); font-weight: 600; }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page; `body` is HTML, and `style` what it needs beside the common look."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head><body>'
        f"<h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Values from `low` to `high` lie from `start` to `end`."""
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1.0)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """The same by their logarithms; what is below `low` lies at `start`."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(max(value, low)))


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def plot(width: float, height: float, label: str, marks: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'


def rectangle(look: str, left: float, top: float, width: float, height: float) -> str:
    return f'<rect class="{look}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def line(look: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def curve(look: str, points: Sequence[tuple[float, float]]) -> str:
    """Points that lie on their neighbours at this resolution are left out."""
    kept = [points[0], *(b for a, b in pairwise(points) if abs(a[0] - b[0]) + abs(a[1] - b[1]) >= 0.2)]
    return f'<polyline class="{look}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in kept)}"/>'


def words(text: str, x: float, y: float, *, anchor: str = "start", look: str = "") -> str:
    named = f' class="{look}"' if look else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
