"""Ports that are found are given to one process at a time, also before they are used."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.free_ports import _BLOCK, _HIGH, _KEPT, _LOW, find_free_ports, find_ports_in_a_row

HOST = "127.0.0.1"
ELSEWHERE = f"""
import random
random.SystemRandom.randrange = lambda *_: 0
from twinstar.ports.free_ports import find_free_ports
print(*find_free_ports("{HOST}", 50), flush=True)
input()
"""


@pytest.fixture
def same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody begins to search at the same one."""
    monkeypatch.setattr(random.SystemRandom, "randrange", lambda *_: 0)


@pytest.mark.usefixtures("same_place")
def test_two_processes_are_given_different_ports() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = [int(port) for port in other.stdout.readline().split()]
        ours = find_free_ports(HOST, 50)
        row = find_ports_in_a_row(HOST, 10)
        other.communicate("\n", timeout=20)
    given = [*theirs, *ours, *range(row, row + 10)]
    assert len(given) == len(set(given)) == 110
    assert theirs == sorted(theirs)


@pytest.mark.usefixtures("same_place")
def test_one_process_may_ask_for_as_long_as_it_likes() -> None:
    found = [find_free_ports(HOST, 1)[0] for _ in range(_KEPT + 5)]
    assert len(set(found[-_KEPT:])) == _KEPT


def test_more_than_there_are_is_one_sentence() -> None:
    with pytest.raises(EnvironmentTrouble, match="Too few ports"):
        find_free_ports(HOST, _HIGH - _LOW + 1)
    with pytest.raises(EnvironmentTrouble, match="Nowhere between"):
        find_ports_in_a_row(HOST, _HIGH - _LOW + 1)
    with pytest.raises(EnvironmentTrouble, match="is no address to listen on here"):
        find_free_ports("192.0.2.1", _BLOCK)
