"""`twinstar drill idle`: what one node's agent and guard cost while nothing happens. Read from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports import procfs


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process. `pss_bytes` divides what is shared among those who share it."""

    name: str
    rss_bytes: int
    pss_bytes: int
    cpu_share: float
    """Of one core."""


def measure(runs: dict[str, str], seconds: float) -> list[Cost]:
    """The cost of each named run (``pid:start time``) over `seconds`. Raises EnvironmentTrouble when one ends."""
    before = {name: _cpu_s(name, run) for name, run in runs.items()}
    started = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    return [Cost(name, *_memory(name, run), (_cpu_s(name, run) - before[name]) / passed) for name, run in runs.items()]


def _cpu_s(name: str, run: str) -> float:
    text = _read(name, run, "stat")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(name: str, run: str) -> tuple[int, int]:
    sizes = {}
    for line in _read(name, run, "smaps_rollup").splitlines():
        words = line.split()
        if words[0] in ("Rss:", "Pss:"):
            sizes[words[0]] = int(words[1]) * 1024
    return sizes["Rss:"], sizes["Pss:"]


def _read(name: str, run: str, file: str) -> str:
    pid = procfs.pid_of(run)
    if pid is None or not procfs.is_running(run):
        raise EnvironmentTrouble(f"{name} does not run: look at `twinstar status`, start it, and measure again.")
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except OSError as trouble:
        raise EnvironmentTrouble(
            f"The memory of {name} cannot be read ({trouble.strerror}): measure as the user who runs it."
        ) from None
