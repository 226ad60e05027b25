"""Where the tests' databases are: in memory, if there is room for them.

Hundreds of data directories of a thousand files each are made and removed. On a disk that is a third of all that the
tests compute; and what they kill is processes, never the machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twinstar.config.local import data_home
from twinstar.ports import procfs

_MEMORY = Path("/dev/shm")
_NAME = "twinstar-tests-"
_NEEDED_MIB = 6_000
"""What a run has needed at most, some four times over: it is taken from the same memory as everything else."""
_CHOSEN = "XDG_DATA_HOME"


def choose() -> None:
    """For this process and all that it starts; what the environment says already stays."""
    if _CHOSEN in os.environ:
        return
    _remove_abandoned()
    if min(_free_mib(), _available_mib()) >= _NEEDED_MIB:
        folder = _MEMORY / f"{_NAME}{os.getpid()}"
        folder.mkdir()
        os.environ[_CHOSEN] = str(folder)


def give_back() -> None:
    """What this process chose."""
    shutil.rmtree(_MEMORY / f"{_NAME}{os.getpid()}", ignore_errors=True)


def make_room(prefix: str) -> Path:
    """A new folder for databases, with a path that is short enough for unix sockets."""
    parent = data_home("tests").parent
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _remove_abandoned() -> None:
    """Of runs that were killed."""
    for folder in _MEMORY.glob(f"{_NAME}*"):
        if procfs.run_id(int(folder.name.removeprefix(_NAME))) is None:
            shutil.rmtree(folder, ignore_errors=True)


def _free_mib() -> int:
    return shutil.disk_usage(_MEMORY).free >> 20 if _MEMORY.is_dir() else 0


def _available_mib() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) >> 10
