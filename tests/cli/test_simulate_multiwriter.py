"""`twinstar simulate --strategy active-active`, as a user calls it."""

from __future__ import annotations

import json

import pytest

from tests.cli.local import Folder
from twinstar.cli.run_multiwriter import show
from twinstar.simulation.multiwriter.campaign import Tally
from twinstar.simulation.multiwriter.plan import draw
from twinstar.simulation.multiwriter.run import Outcome

COMMAND = ("simulate", "--strategy", "active-active")


def test_many_seeds_with_a_table_and_json(folder: Folder) -> None:
    ran = folder.run(*COMMAND, "--seeds", "12", "--members", "2", "--json", "found.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "12, 0 failed" in ran.stdout
    found = json.loads((folder.path / "found.json").read_text())
    assert (found["strategy"], found["seeds"], found["failed"]) == ("active-active", 12, [])
    assert found["transactions"] > 0


def test_what_a_seed_tells_without_a_safeguard_and_with_it(folder: Folder) -> None:
    found = folder.run(*COMMAND, "--ablations", "--without", "removal", "--seeds", "20", "--json", "-")
    assert found.returncode == 0, found.stdout + found.stderr
    (missed,) = json.loads(found.stdout)["safeguards"]
    assert missed["safeguard"] == "removal"
    story = folder.run(*COMMAND, "--seed", str(missed["seed"]), "--without", "removal")
    assert story.returncode == 1
    assert f"broken: {missed['breach']}" in story.stdout
    whole = folder.run(*COMMAND, "--seed", str(missed["seed"]))
    assert whole.returncode == 0
    assert "all nodes are equal, and nothing is lost" in whole.stdout


def test_a_safeguard_that_no_seed_misses_is_a_failure(folder: Folder) -> None:
    ran = folder.run(*COMMAND, "--without", "settled row", "--seeds", "1")
    assert ran.returncode == 1
    assert "none of 1" in ran.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--store", "etcd"), "there is no --store here: leave it out"),
        (("--ablations", "--members", "3"), "there is no --members here: leave it out"),
        (("--without", "umbrella"), "No safeguard is called umbrella: choose from look after,"),
        (("--seed", "1", "--without", "fetch by", "--without", "makings"), "name one of them with --without"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Folder, options: tuple[str, ...], said: str) -> None:
    ran = folder.run(*COMMAND, *options)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_strategy_that_is_none(folder: Folder) -> None:
    ran = folder.run("simulate", "--strategy", "passive")
    assert ran.returncode == 2
    assert "choose active-passive or active-active" in ran.stderr


def test_a_failure_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.add(Outcome(7, draw(7), "k1 is lost"))
    wished = draw(8).nodes + 1
    tally.add(Outcome(8, draw(8, wished), "k2 is lost"))
    show(tally, 1.0)
    shown = capsys.readouterr().out
    for part in ("k1 is lost", "--seed 7\n", f"--seed 8 --members {wished}\n", "2 of 2 seeds failed"):
        assert part in shown
