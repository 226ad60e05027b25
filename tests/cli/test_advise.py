"""`twinstar advise` as a user would run it: options, questions on a terminal, a file that can be started from."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from tests.cli.local import Folder
from tests.compare.invented import invented
from twinstar.compare.comparison import to_json
from twinstar.config.load import load

ALL = ("--loss", "none", "--outage", "2s", "--regions", "1", "--conflicts", "rare", "--not-isolated")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--loss"),
        (("--loss", "little"), "none, a time such as 5s"),
        (("--loss", "none", "--outage", "500"), "with its unit"),
        ((*ALL, "--rtt", "40ms"), "--regions 2"),
        ((*ALL, "--measured", "nowhere.json"), "nowhere.json"),
        ((*ALL[:-2], "perhaps", "--not-isolated"), "none, rare, often, counters"),
    ],
)
def test_a_mistake_is_a_sentence(folder: Folder, arguments: tuple[str, ...], words: str) -> None:
    done = folder.run("advise", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_it_says_why_and_what_will_hurt_and_writes_a_file_that_loads(folder: Folder) -> None:
    done = folder.run("advise", *ALL, "--write", "made.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("active-passive with durability quorum, preset balanced\n")
    assert "What will hurt" in done.stdout and "Why" in done.stdout
    config = load(folder.path / "made.yaml")
    assert (config.strategy, config.durability, len(config.nodes)) == ("active-passive", "quorum", 3)
    again = folder.run("advise", *ALL, "--write", "made.yaml")
    assert again.returncode == 2 and "exists already" in again.stderr


def test_json_has_all_of_it(folder: Folder) -> None:
    arguments = ("--loss", "5s", "--outage", "0", "--regions", "3", "--rtt", "40ms", "--conflicts", "counters")
    done = folder.run("advise", *arguments, "--not-isolated", "--writes-when-cut", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["recommended"]["strategy"] == "active-active"
    assert said["why"] and said["hurts"]
    assert any("both sides" in sentence for sentence in said["why"])
    assert "strategy: active-active" in said["twinstar_yaml"]


def test_figures_of_ones_own_stand_behind_it(folder: Folder) -> None:
    made = invented()
    (folder.path / "compare.json").write_text(json.dumps(to_json(made)))
    done = folder.run("advise", *ALL, "--measured", "compare.json")
    assert done.returncode == 0, done.stderr
    assert "AP quorum is what is recommended" in done.stdout
    assert all(line.figures[name].text in done.stdout for line in made.lines for name in made.contestants)
    assert made.machine.cpu in done.stdout
    (folder.path / "compare.json").write_text("{}")
    broken = folder.run("advise", *ALL, "--measured", "compare.json")
    assert broken.returncode == 2 and "twinstar compare --json" in broken.stderr


def test_what_is_not_given_is_asked_for(folder: Folder) -> None:
    """On a terminal; an answer that is not understood is asked for again."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            folder.command("advise", "--conflicts", "none", "--json"),
            cwd=folder.path,
            env=folder.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as asking:
            os.write(ours, b"little\n5s\n1s\n2\n80ms\nn\ny\n")
            out, questions = asking.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert asking.returncode == 0, questions
    needs = json.loads(out)["needs"]
    assert (needs["loss"]["seconds"], needs["outage_ms"], needs["regions"], needs["rtt_ms"]) == (5, 1000, 2, 80)
    assert (needs["isolated"], needs["writes_when_cut"]) == (False, True)
    assert "'little' is no loss" in questions
