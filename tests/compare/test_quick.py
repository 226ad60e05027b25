"""The quick comparison as a user runs it, and what is left of it: nothing.

Two of the four contestants, so that both strategies and both durabilities are in it; `make soak` has all four, and so
has `make demo`.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.local import Folder, until
from tests.pages import rendered
from twinstar.compare.comparison import CONTROL, TOPICS, Comparison, from_json
from twinstar.compare.contestants import ENTRIES, QUICK_FAULTS
from twinstar.compare.figures import outage, percentile
from twinstar.compare.lines import lines
from twinstar.compare.page import page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


TWO = ("active-passive-async", "active-active-quorum")
ALL = tuple(entry.name for entry in ENTRIES)


@pytest.fixture(scope="module", params=[TWO, pytest.param(ALL, marks=pytest.mark.soak)], ids=["two", "all"])
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = request.param
    return chosen


@pytest.fixture(scope="module")
def made(names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    path = tmp_path_factory.mktemp("compare")
    folder = Folder(path)
    only = [word for name in names for word in ("--only", name)]
    done = folder.run("compare", "--quick", *only, "--json", "compare.json", "--html", "compare.html", timeout=650)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(topic in done.stdout for topic in TOPICS)
    assert f"{len(names)} of {len(names)}, active-active-quorum: kill-node" in done.stderr, "progress"
    assert folder.processes() == []
    assert sorted(file.name for file in path.iterdir()) == ["compare.html", "compare.json"]
    assert "</svg>" in (path / "compare.html").read_text()
    return from_json(json.loads((path / "compare.json").read_text()))


def test_every_contestant_went_through_the_same(made: Comparison, names: tuple[str, ...]) -> None:
    assert tuple(made.contestants) == names
    for contestant in made.contestants.values():
        assert list(contestant.availability) == [CONTROL, *QUICK_FAULTS]
        assert contestant.skipped == {}
        assert len(contestant.speed) == 8
        assert all(case.per_s > 0 and not case.failed for case in contestant.speed.values())


def test_every_figure_of_the_table_follows_from_the_series_in_the_json(made: Comparison) -> None:
    assert lines(made.contestants) == made.lines
    assert [line.line for line in made.lines if not line.why or len(line.figures) < len(made.contestants)] == []
    for contestant in made.contestants.values():
        for runs in contestant.availability.values():
            assert all(outage(run) == pytest.approx(run.outage_ms, abs=0.1) for run in runs)
        for case in contestant.speed.values():
            assert case.p99_ms == percentile(case.latencies_ms, 0.99)


@pytest.mark.parametrize("width", [420, 1200])
def test_the_page_shows_all_of_it(made: Comparison, width: int, tmp_path: Path) -> None:
    seen = rendered(page(made), width, tmp_path)
    counts = {kind: len(plots) for kind, plots in seen.plots.items()}
    faults, cases = len(QUICK_FAULTS), len(next(iter(made.contestants.values())).speed)
    assert counts["timeline"] == faults * len(made.contestants)
    assert counts["distribution"] == cases + 1
    assert counts["bars"] >= faults + 1 + cases + 5 + 4
    lowest = 10 * len(made.contestants)
    assert all(wide > 200 and high > lowest for plots in seen.plots.values() for wide, high in plots)
    assert seen.scroll_width <= seen.width
    assert seen.outside == []


def test_what_is_promised_is_seen(made: Comparison) -> None:
    for name, contestant in made.contestants.items():
        runs = [run for each in contestant.availability.values() for run in each]
        assert all(run.served_again for run in runs)
        if contestant.durability == "quorum":
            assert sum(run.lost for run in runs) == 0, name
        assert contestant.conflicts is not None
        assert contestant.conflicts.differing == 0
        assert contestant.conflicts.counters.lost == 0
        calm = outage(contestant.availability[CONTROL][0])
        assert outage(contestant.availability["kill-node"][0]) > calm or contestant.strategy == "active-active"


def test_one_node_writes_or_all_do(made: Comparison) -> None:
    for contestant in made.contestants.values():
        used, conflicts = contestant.resources, contestant.conflicts
        assert used is not None
        assert conflicts is not None
        writing = [node.node for node in used.per_node if node.writes]
        assert len(writing) == (3 if contestant.strategy == "active-active" else 1)
        assert all(node.cpu_s > 0 and node.wal_bytes > 0 and node.rss_mib > 0 for node in used.per_node)
        crossed = contestant.strategy == "active-active"
        assert (conflicts.increments.lost > 0) == crossed
        assert (conflicts.logged > 0) == crossed


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    error = tmp_path / "stderr"
    with (
        error.open("wb") as said,
        subprocess.Popen(
            folder.command("compare", "--quick", "--only", "active-passive-async"),
            cwd=tmp_path,
            env=folder.environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
        ) as running,
    ):
        until(lambda: "speed: write" in error.read_text(), "clients are at work", patience_s=200)
        running.send_signal(signal.SIGINT)
        assert running.wait(120) != 0
    assert "Traceback" not in error.read_text()
    assert folder.processes() == []


def test_a_word_that_names_nothing_is_refused(tmp_path: Path) -> None:
    done = Folder(tmp_path).run("compare", "--only", "nobody")
    assert done.returncode == 2
    assert "active-passive-async" in done.stderr
