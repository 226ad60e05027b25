"""The databases of a local cluster, ended from outside when their agents are gone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from twinstar.ports import procfs

_LEADER_S = 8.0
_STANDBYS_S = 5.0
_SCAN_S = 0.01


def postmaster_of(data: Path) -> str | None:
    """The run (``pid:start time``) of the main process that stands in this data directory."""
    pids = {process.pid for process in procfs.of_directory(data)}
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return procfs.run_id(pid) if pid in pids else None


def is_standby(data: Path) -> bool:
    return (data / "standby.signal").exists()


def stop_databases(directories: Iterable[Path], hurried: Callable[[], bool] = lambda: False) -> None:
    """Stops every database fast: leaders first, so that the standbys get the end of the log; then kills what is left.

    Blocks for some seconds at most; kills at once when `hurried` becomes true.
    """
    every = list(directories)
    _interrupt([data for data in every if not is_standby(data)], _LEADER_S, hurried)
    _interrupt([data for data in every if is_standby(data)], _STANDBYS_S, hurried)
    for data in every:
        kill_processes_of(data)


def kill_processes_of(data: Path) -> int:
    """Kills every process that stands in the directory; returns how many there were."""
    ended: set[int] = set()
    while pids := {process.pid for process in procfs.of_directory(data)}:
        ended |= pids
        if procfs.kill_pids(pids):
            break  # Another user's: not ours to end.
        time.sleep(_SCAN_S)
    return len(ended)


def _interrupt(directories: list[Path], patience_s: float, hurried: Callable[[], bool]) -> None:
    runs = [run for run in map(postmaster_of, directories) if run]
    for run in runs:
        procfs.kill_run(run, signal.SIGINT)
    until = time.monotonic() + patience_s
    while any(procfs.is_running(run) for run in runs) and time.monotonic() < until and not hurried():
        time.sleep(_SCAN_S)
