"""SIGSTOP that has taken effect.

`kill()` returns when the signal is sent. The thread of the process that takes it stops the others, and must be given a
processor first: until then the process goes on, on a busy machine for many milliseconds, and may answer once more.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_STANDING = frozenset("TtZX")
"""States of a thread that runs nothing: stopped, traced, ended (proc_pid_stat(5))."""
_WAIT_S = 20.0


def stop(*pids: int) -> None:
    """Returns when none of them runs; one that is gone already does not. Raises AssertionError if one does not stop."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + _WAIT_S
    for pid in pids:
        while _runs(pid):
            assert time.monotonic() < deadline, f"process {pid} has not stopped"
            time.sleep(0.001)


def _runs(pid: int) -> bool:
    return any(_state(thread) not in _STANDING for thread in Path(f"/proc/{pid}/task").glob("*"))


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
