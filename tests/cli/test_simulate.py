"""`twinstar simulate`, as a user calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.cli.local import Folder
from twinstar.cli.run_simulation import Order, show_campaign
from twinstar.simulation.campaign import Tally
from twinstar.simulation.plan import Plan, Wishes
from twinstar.simulation.run import Outcome, run_one


def test_many_seeds_with_a_table_and_json(folder: Folder) -> None:
    ran = folder.run("simulate", "--seeds", "6", "--members", "3", "--json", "found.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6, 0 failed" in ran.stdout
    assert "hours a minute" in ran.stdout
    found = json.loads((folder.path / "found.json").read_text())
    assert (found["seeds"], found["failed"]) == (6, [])
    assert found["failovers"] > 0
    assert {run["members"] for run in found["runs"]} == {3}
    for never in found["never"]:
        assert f"({never})" in ran.stdout, "what was never reached is said"


def test_one_seed_tells_its_story(folder: Folder) -> None:
    """The same as among many, with what agents log only on request."""
    ran = folder.run("simulate", "--seed", "4")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for part in ("seed 4: ", "FAULT", "register by n", "its database leads epoch 1", "it serves again", "digest "):
        assert part in ran.stdout
    closely = folder.run("simulate", "--seed", "4", "--verbose")
    assert len(closely.stdout.splitlines()) > 2 * len(ran.stdout.splitlines())
    assert closely.stdout.splitlines()[-1] == ran.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--durability", "some"), "There is no durability 'some': choose one of quorum, async, or all."),
        (("--store", "some"), "There is no store 'some': choose one of embedded, etcd, zookeeper, kubernetes, or all."),
        (("--members", "9"), "less than or equal to 7"),
        (("--seeds", "1", "--members", "2", "--json", "no/such/folder.json"), "name another file"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Folder, options: tuple[str, ...], said: str) -> None:
    ran = folder.run("simulate", *options)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_ctrl_c_ends_it_with_what_was_found_so_far(folder: Folder) -> None:
    command = folder.command("simulate", "--seeds", "1000000", "--members", "3", "--jobs", "2", "--json", "found.json")
    with subprocess.Popen(command, cwd=folder.path, env=folder.environment, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert b"seeds" in running.stderr.readline(), "it says how far it is"
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert 0 < json.loads((folder.path / "found.json").read_text())["seeds"] < 1_000_000
    assert folder.processes() == []


def test_no_process_outlives_it(folder: Folder) -> None:
    command = folder.command("simulate", "--seeds", "1000000", "--members", "3", "--jobs", "2")
    with subprocess.Popen(command, cwd=folder.path, env=folder.environment, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        running.stderr.readline()
        assert len(folder.processes()) == 3
        running.kill()
    deadline = time.monotonic() + 20
    while folder.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert folder.processes() == []


def test_among_many_a_seed_is_what_it_is_alone(folder: Folder) -> None:
    ran = folder.run("simulate", "--seeds", "4", "--first-seed", "3", "--jobs", "2", "--json", "-")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = {run["seed"]: run for run in json.loads(ran.stdout)["runs"]}
    assert sorted(found) == [3, 4, 5, 6]
    for seed in (3, 6):
        alone = run_one(seed)
        assert found[seed]["digest"] == alone.digest
        assert tuple(found[seed]["log"]) == alone.log


def test_no_seed_is_begun_when_the_time_is_over(folder: Folder) -> None:
    ran = folder.run("simulate", "--minutes", "0.05", "--members", "2", "--json", "-", timeout=60)
    assert json.loads(ran.stdout)["seeds"] > 0


def test_a_failure_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    tally, order = Tally(), Order.of(5, "quorum", "all")
    tally.add(
        Outcome(76, Plan(size=5), "I2: epoch 3 of n2 began without [7], 1 in all", failovers=2, log=("one line",))
    )
    show_campaign(tally, 1.0, order)
    shown = capsys.readouterr().out
    for part in ("seed 76 (q5, embedded) failed", "one line", "I2: epoch 3", "1 of 1 seeds failed"):
        assert part in shown
    assert "twinstar simulate --seed 76 --members 5 --durability quorum" in shown
    assert order.wishes == Wishes(5, tally.outcomes[0].plan.durability)
