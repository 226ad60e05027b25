"""What is written to a file is read back as it was."""

from __future__ import annotations

import json

import pytest

from twinstar.compare.comparison import (
    ClientSeries,
    Comparison,
    Contestant,
    FaultRun,
    Figure,
    Line,
    Machine,
    Options,
    Refusal,
    from_json,
    to_json,
)
from twinstar.model.errors import UsageError

RUN = FaultRun(
    outage_ms=450.0,
    others_outage_ms=38.0,
    failed={"57P01 terminating connection": 1},
    unknown=1,
    others_failed=0,
    acknowledged=2,
    lost=0,
    duplicates=0,
    window_ms=(0.0, 1000.0),
    fault_at_ms=500.0,
    struck="n1",
    served_again=True,
    acks_per_100ms=(1, 0, 1),
    gaps_ms=(450.0,),
    clients=(ClientSeries(0, "n1", (1.0, 2.5), (Refusal(1.5, "unknown", "57P01 terminating connection"),)),),
)
CONTESTANT = Contestant(
    strategy="active-active",
    durability="async",
    cluster={"nodes": "3"},
    availability={"kill-node": (RUN,)},
    skipped={"partition": "no namespaces here"},
    conflicts=None,
    resources=None,
    speed={},
    staleness=None,
    complexity=None,
    took_s=1.0,
)
COMPARISON = Comparison(
    made="2026-01-01T00:00:00+00:00",
    machine=Machine("a processor", 2, 4.0, "18.1", "0.1"),
    options=Options(quick=True),
    contestants={"active-active-async": CONTESTANT},
    lines=(
        Line("availability", "kill-node", {"active-active-async": Figure(text="450 ms", source="/contestants")}, "…"),
    ),
)


def test_json_and_back() -> None:
    assert from_json(json.loads(json.dumps(to_json(COMPARISON)))) == COMPARISON


def test_a_figure_says_where_it_is_from() -> None:
    line = to_json(COMPARISON)["lines"][0]
    assert line["figures"] == {"active-active-async": {"text": "450 ms", "from": "/contestants"}}


@pytest.mark.parametrize("raw", [{}, [], None, {**to_json(COMPARISON), "contestants": {"a": 1}}])
def test_anything_else_is_refused_in_a_sentence(raw: object) -> None:
    with pytest.raises(UsageError, match="no result of `twinstar compare --json`"):
        from_json(raw)
