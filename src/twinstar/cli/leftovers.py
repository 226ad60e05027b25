"""What a supervisor that was killed could not end: found by its mark, by pid and start time, and by data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twinstar.cli.databases import stop_databases
from twinstar.cli.local_files import MARK, State
from twinstar.cli.managed_store import store_folders
from twinstar.config.schema import Config
from twinstar.ports import procfs

_TICK_S = 0.02


def leftovers(state: State, config: Config) -> set[int]:
    """The pids of everything that a run of this cluster has left behind."""
    pids = {pid for program in state.programs if program.alive and (pid := procfs.pid_of(program.run))}
    for node in config.nodes:
        pids |= {process.pid for process in procfs.of_directory(node.directory / "data")}
    for folder in store_folders(config):
        pids |= {process.pid for process in procfs.of_directory(folder)}
    return pids | marked_processes(state.mark)


def end_leftovers(state: State, config: Config) -> int:
    """Ends them, databases in order; returns how many there were."""
    found = leftovers(state, config)
    for program in state.programs:
        if program.kind in {"agent", "guard"} and program.alive:
            procfs.kill_run(program.run)
    stop_databases([node.directory / "data" for node in config.nodes])
    while pids := leftovers(state, config):
        if procfs.kill_pids(pids):
            break  # Another user's: not ours to end.
        time.sleep(_TICK_S)
    return len(found)


def marked_processes(mark: str) -> set[int]:
    """The pids of the processes whose environment carries this mark (as far as this user may look)."""
    wanted = f"{MARK}={mark}".encode()
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and wanted in _environment(entry)
    }


def _environment(process: Path) -> list[bytes]:
    if procfs.run_id(int(process.name)) is None:
        return []
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
