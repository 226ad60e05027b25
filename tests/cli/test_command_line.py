"""What can go wrong is said in one sentence, with the right exit status, and never as a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.cli.local import Folder
from twinstar.config.load import load


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["status"], 2, "twinstar up --nodes 3"),
        (["down"], 2, "twinstar.yaml"),
        (["start", "n1"], 2, "twinstar.yaml"),
        (["status", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["up", "--nodes", "2"], 2, "policy"),
        (["up", "--nodes", "0"], 2, "--nodes 3"),
        (["up", "--store", "paper"], 2, "embedded"),
        (["drill", "flood"], 2, "kill-node"),
        (["failover", "--accept-loss"], 2, "--to"),
        (["engine-exec", "--launch", "nowhere"], 2, "launch file"),
        (["fly"], 2, "fly"),
    ],
)
def test_a_mistake_is_a_sentence(folder: Folder, arguments: list[str], status: int, words: str) -> None:
    done = folder.run(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_cluster_that_does_not_run_is_said_to_be_so(folder: Folder) -> None:
    assert folder.run("init").returncode == 0
    for arguments in (["status"], ["history"], ["switchover"]):
        done = folder.run(*arguments)
        assert done.returncode == 1
        assert "twinstar up" in done.stderr
    assert "Nothing of this cluster runs here" in folder.run("down").stdout
    started = folder.run("start", "n1")
    assert started.returncode == 2
    assert "not up" in started.stderr


def test_destroying_something_needs_a_yes(folder: Folder) -> None:
    assert folder.run("init").returncode == 0
    done = folder.run("reinit", "n2")
    assert done.returncode == 2
    assert "--yes" in done.stderr


def test_help_names_every_command_and_loads_nothing_large(folder: Folder) -> None:
    done = folder.run("--help")
    for name in ("init", "up", "down", "status", "switchover", "failover", "dsn", "history", "drill", "demo"):
        assert f"\n  {name} " in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, twinstar.cli.main; print(*sys.modules)"],
        env=folder.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"psycopg", "pydantic", "yaml", "asyncio", "rich.table", "rich.live"} & set(loaded)


def test_the_version_is_the_packages(folder: Folder) -> None:
    done = folder.run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"twinstar {version('twinstar')}, Python 3.")


def test_engine_exec_becomes_the_program_and_uses_the_order_up(folder: Folder) -> None:
    launch = folder.path / "launch"
    launch.write_text(json.dumps({"argv": ["sh", "-c", "echo $WORD from $$"], "environment": {"WORD": "hello"}}))
    process = subprocess.Popen(
        folder.command("engine-exec", "--launch", str(launch)),
        env=folder.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=30)
    assert said == f"hello from {process.pid}\n"
    assert not launch.exists()


def test_guard_becomes_the_guard_of_its_node(folder: Folder) -> None:
    """It ends by itself at once, since it is given a port that is taken: its settings were read."""
    assert folder.run("init").returncode == 0
    own = load(folder.path / "twinstar.yaml").nodes[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((own.host, own.guard_port))
        done = folder.run("guard", "--node", "n2", timeout=30)
    assert done.returncode == 1
    assert str(own.guard_port) in done.stderr
