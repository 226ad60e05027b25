"""The comparison's page: everything is on it, it needs nothing else, and it looks right in a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.compare.invented import FAULTS, NAMES, invented, run
from tests.pages import check, contrast, rendered
from twinstar.compare.comparison import CONTROL, ClientSeries, Comparison
from twinstar.compare.page import page
from twinstar.compare.plots import Spread, shares, silence, span_of, stacked

SERVED = {"timeline": 4 * (len(FAULTS) - 1) + 2, "bars": len(FAULTS) + 1 + 5 + 8 + 5, "distribution": 8 + 1}
"""Plots by kind: `switchover` has two contestants, all else four."""


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return invented()


def test_the_page_is_whole_and_needs_nothing_else(whole: Comparison) -> None:
    text = page(whole)
    assert check(text).count("figure") == sum(SERVED.values())
    for line in whole.lines:
        assert line.line in text
        for figure in line.figures.values():
            assert f'title="{figure.source}"' in text
    assert text.count("&lt;so to say&gt;") == len(whole.lines)
    assert "leave was not measured: it is &lt;invented&gt;" in text
    assert whole.machine.cpu in text


def test_each_reason_stands_beside_its_contestants_name(whole: Comparison) -> None:
    why = "Some are the same. AP async: it is <1>; as AP quorum; AP quorum: it is 2; AA async was n1. That is all."
    text = page(replace(whole, lines=(replace(whole.lines[0], why=why),)))
    reasons = re.sub(r"<b [^>]*>", "<b>", text[text.index('<tr class="why">') :]).partition("</td>")[0]
    assert reasons.partition("<div>")[2].removesuffix("</div>").split("</div><div>") == [
        "Some are the same.",
        "<b>AP async</b>: it is &lt;1&gt;; as AP quorum",
        "<b>AP quorum</b>: it is 2",
        "<b>AA async</b> was n1. That is all.",
    ]


def test_what_is_given_up_is_told_apart(whole: Comparison) -> None:
    text = page(whole)
    table = text[text.index("What is given up") :]
    assert (table.count(">given up<"), table.count(">kept<")) == (2, 2)
    assert "docs/active-active.md#what-is-not-promised" in table


def test_what_was_not_measured_is_left_out() -> None:
    passive = NAMES[1]
    one = replace(
        invented().contestants[passive],
        availability={},
        conflicts=None,
        resources=None,
        speed={},
        staleness=None,
        complexity=None,
    )
    text = page(replace(invented(), contestants={passive: one}, lines=()))
    assert "figure" not in check(text)
    assert "How fast it is" not in text
    control = page(replace(invented(), contestants={passive: replace(one, availability={CONTROL: ()})}))
    assert "figure" not in check(control)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [420, 1200])
def test_it_looks_right_in_a_browser(whole: Comparison, width: int, dark: bool, tmp_path: Path) -> None:
    seen = rendered(page(whole), width, tmp_path, dark=dark)
    assert {kind: len(plots) for kind, plots in seen.plots.items()} == SERVED
    assert all(wide > 200 and high > 30 for plots in seen.plots.values() for wide, high in plots)
    assert seen.scroll_width <= seen.width <= width, "something sticks out"
    assert seen.outside == []
    assert (sum(seen.paper) < 3 * 128) == dark
    assert min(contrast(seen.paper, ink) for ink in seen.inks) >= 4.5, "words that are hard to read"


def test_the_longest_bar_has_room_for_its_words(whole: Comparison, tmp_path: Path) -> None:
    active = whole.contestants[NAMES[2]]
    (long,) = [replace(each, outage_ms=98_765, others_outage_ms=4_321) for each in active.availability["hang-node"][:1]]
    one = replace(active, availability={"hang-node": (long,)})
    seen = rendered(page(replace(whole, contestants={NAMES[2]: one})), 420, tmp_path)
    assert seen.outside == []


def test_what_sticks_out_is_noticed(whole: Comparison, tmp_path: Path) -> None:
    """The check itself: a word moved out of its plot, a row that does not fit, ink like paper."""
    text = re.sub('<text x="[^"]*"', '<text x="-900.0"', page(whole), count=1).replace("</h1>", f"{'n' * 400}</h1>")
    seen = rendered(text.replace("--soft: #5b6675", "--soft: #eeeeee"), 420, tmp_path)
    assert seen.scroll_width > seen.width
    assert any("-900" in each for each in seen.outside)
    assert min(contrast(seen.paper, ink) for ink in seen.inks) < 2


def test_the_shaded_time_is_that_of_the_struck_node_where_every_node_writes() -> None:
    base = run(Random(1), "kill-node", active=True, durability="async")
    clients = (
        ClientSeries(0, "n1", (100.0, 900.0), ()),
        ClientSeries(1, "n2", (100.0, 1_600.0, 1_700.0), ()),
    )
    few = replace(base, clients=clients, window_ms=(0.0, 1_750.0), acks_per_100ms=(0,) * 18)
    assert silence(few) == (900, 1750)
    assert silence(replace(few, others_outage_ms=None)) == (100, 1600)
    assert silence(replace(few, clients=())) == (0, 0)
    counts = stacked(few)
    assert (counts[1], counts[9], counts[16], counts[17]) == ((1, 1, 0), (0, 1, 0), (1, 0, 0), (1, 0, 0))
    assert sum(sum(each) for each in counts) == 5
    assert stacked(replace(few, others_outage_ms=None))[1] == (2, 0, 0)
    assert stacked(replace(few, beside=(ClientSeries(9, "n1", (150.0, 160.0), ()),)))[1] == (1, 1, 2)


def test_shares_and_spans() -> None:
    spread = Spread("one", [(1.0, 98), (5.0, 1), (90.0, 1)])
    assert shares(spread) == [(1.0, 0.98), (5.0, 0.99), (90.0, 1.0)]
    assert span_of([spread], 0.05) == (1.0, 90.0)
    assert span_of([Spread("two", [(0.0, 10)])], 0.1) == (0.1, 1.0)
