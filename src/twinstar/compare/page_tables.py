"""The tables of the comparison's page: every figure with why it is so, and which promise is given up by whom."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby

from twinstar.compare import looks
from twinstar.compare.comparison import Comparison, Line
from twinstar.compare.why import short


def lines(comparison: Comparison) -> str:
    """Every line of the table, by topic; a figure's tooltip is the place of its series in the JSON."""
    names = list(comparison.contestants)
    heads = "".join(f"<th {looks.colour(name)}>{escape(short(name))}</th>" for name in names)
    rows = []
    for topic, of_topic in groupby(comparison.lines, key=lambda each: each.topic):
        rows.append(f'<tr class="topic"><th colspan="{len(names) + 1}">{escape(topic)}</th></tr>')
        rows += [_line(each, names) for each in of_topic]
    return (
        '<h2>In one table</h2><table class="lines"><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _line(one: Line, names: list[str]) -> str:
    cells = []
    for name in names:
        found = one.figures.get(name)
        source = f' title="{escape(found.source)}"' if found else ""
        text = escape(found.text) if found else "–"
        cells.append(f'<td data-name="{escape(short(name))}" {looks.colour(name)}{source}>{text}</td>')
    return (
        f'<tr class="figures"><td>{escape(one.line)}</td>{"".join(cells)}</tr>'
        f'<tr class="why"><td colspan="{len(names) + 1}">{_why(one.why, names)}</td></tr>'
    )


def _why(text: str, names: list[str]) -> str:
    """What is said of a contestant begins a line of its own, its name in its colour."""
    by_short = {short(name): name for name in names}
    known = "|".join(re.escape(each) for each in by_short)
    parts = re.split(rf"(?:^|; |(?<=\. ))(?=(?:{known})\b)", text)

    def marked(found: re.Match[str]) -> str:
        return f"<b {looks.colour(by_short[found[0]])}>{found[0]}</b>"

    lines = (re.sub(rf"^(?:{known})\b", marked, escape(part.strip())) for part in parts)
    return "".join(f"<div>{line}</div>" for line in lines if line)


def given_up(comparison: Comparison) -> str:
    """Which contestant gives up what: the promises beside each other, with where each is explained."""
    found = {name: one.complexity for name, one in comparison.contestants.items() if one.complexity}
    links = {each.promise: each.link for facts in found.values() for each in facts.given_up}
    if not links:
        return ""
    missing = {name: {each.promise for each in facts.given_up} for name, facts in found.items()}
    heads = "".join(f"<th {looks.colour(name)}>{escape(short(name))}</th>" for name in found)
    rows = []
    for promise, link in links.items():
        cells = "".join(
            f'<td data-name="{escape(short(name))}" {looks.colour(name)}>'
            f"{'given up' if promise in missing[name] else 'kept'}</td>"
            for name in found
        )
        rows.append(
            f'<tr class="figures"><td>{escape(promise)}</td>{cells}</tr>'
            f'<tr class="why"><td colspan="{len(found) + 1}">{escape(link)}</td></tr>'
        )
    return (
        "<h2>What is given up</h2><p>Promises that one server makes, and where their loss is explained.</p>"
        f'<table class="lines"><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
