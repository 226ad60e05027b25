"""Processes as Linux shows them under /proc. Synchronous and standard library only: the guard uses it as well.

A pid alone names nobody: it is used again. So a run of a process is named ``pid:start time`` (`run_id`), and a zombie,
whose work has ended although nobody has reaped it yet, counts as gone everywhere here.

The processes of a database are found by their working directory (`of_directory`): PostgreSQL's all stand in the data
directory, each in a process group of its own, and stay there when their parent has died and they belong to another.
"""

# pathlib would cost the guard a megabyte.
# ruff: noqa: PTH208

from __future__ import annotations

import errno
import os
import signal as signals
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinstar.model.errors import EnvironmentTrouble

if TYPE_CHECKING:
    from pathlib import Path

_GONE_STATES = "ZXx"
_NOT_OURS = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What reading below /proc/PID answers when there is nothing for us. Any other error, such as too many open files,
proves nothing about the process, so it is raised: a database must not be taken for dead because of it."""
_PR_SET_CHILD_SUBREAPER = 36
_SCAN_PAUSE_MS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A living process: `title` is its command line, or its short name in brackets when it has none."""

    pid: int
    ppid: int
    title: str


@dataclass(frozen=True, slots=True)
class _Stat:
    name: str
    state: str
    ppid: int
    terminal: int
    started_ticks: int


def run_id(pid: int) -> str | None:
    """``pid:start time in ticks since boot``; None when there is no such process or it is a zombie.

    Raises OSError when the machine lacks what it takes to look (descriptors, memory), like everything here that looks.
    """
    stat = _living(pid)
    return f"{pid}:{stat.started_ticks}" if stat else None


def pid_of(run: str) -> int | None:
    """The process id in what `run_id` returned, None when the text is something else."""
    pid, _, started = run.partition(":")
    return int(pid) if pid.isdecimal() and started.isdecimal() else None


def is_running(run: str) -> bool:
    """Whether exactly this run of a process is there and no zombie."""
    pid = pid_of(run)
    return pid is not None and run_id(pid) == run


def of_directory(directory: Path | str) -> tuple[ProcessInfo, ...]:
    """All living processes whose working directory is `directory`, oldest first; never the caller itself.

    Left out is what has a terminal, such as an administrator's shell or editor that stands there, unless it is the
    parent of one that has none: a database started by hand in the foreground.
    """
    here = os.path.realpath(directory)
    found = {pid: stat for pid in _pids() if _stands_in(pid, here) and (stat := _living(pid))}
    parents = {stat.ppid for stat in found.values() if not stat.terminal}
    chosen = [(stat.started_ticks, pid) for pid, stat in found.items() if not stat.terminal or pid in parents]
    return tuple(ProcessInfo(pid, found[pid].ppid, _title(pid, found[pid])) for _, pid in sorted(chosen))


def stands_in(pid: int, directory: Path | str) -> bool:
    """Whether the process's working directory is `directory`."""
    return _stands_in(pid, os.path.realpath(directory))


def descendants_of(pid: int) -> tuple[int, ...]:
    """The pids of living children, their children and so on: also of those that stand somewhere else by now."""
    parents = {each: stat.ppid for each in _pids() if (stat := _living(each))}
    found = [pid]
    for each in found:  # grows while it is walked
        found.extend(child for child, parent in parents.items() if parent == each)
    return tuple(found[1:])


def children_of(pid: int) -> tuple[ProcessInfo, ...]:
    """The living processes whose parent is `pid`."""
    stats = ((each, _living(each)) for each in _child_pids(pid))
    return tuple(ProcessInfo(each, pid, _title(each, stat)) for each, stat in stats if stat and stat.ppid == pid)


def _child_pids(pid: int) -> Iterable[int]:
    """The children of a process's only thread, as the kernel lists them; every process where it does not."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(each) for each in file.read().split()]
    except _NOT_OURS:
        return _pids()


def kill_pids(pids: Iterable[int], signal: int = signals.SIGKILL) -> tuple[int, ...]:
    """Signals each one; those that are gone are passed over. Returns the ones that may not be signalled (EPERM)."""
    refused = []
    for pid in pids:
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused.append(pid)
    return tuple(refused)


def kill_run(run: str, signal: int = signals.SIGKILL) -> bool:
    """Signals exactly this run, never another process that has got its pid since. False when it is gone.

    Raises PermissionError.
    """
    pid = pid_of(run)
    if pid is None:
        return False
    try:
        handle = open_pidfd(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process, so that a pid used again between the two lines is noticed here.
        if run_id(pid) != run:
            return False
        signals.pidfd_send_signal(handle, signal)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def open_pidfd(pid: int) -> int:
    """A descriptor that becomes readable when the process ends, also while it is a zombie; the caller closes it.

    Raises ProcessLookupError when there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a process id, or a thread's
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from error
        raise


def become_subreaper() -> bool:
    """Makes orphaned descendants children of this process, so that it can reap them at once. False if refused."""
    import ctypes  # large: not for the guard, which never calls this

    outcome: int = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return outcome == 0


async def end_all_of(directory: Path | str, sleep_ms: Callable[[float], Awaitable[None]]) -> int:
    """Kills every process of `directory` and returns, when none is left, how many there were.

    Bound it with a timeout: a process in uninterruptible sleep ends when its device lets it. Raises
    EnvironmentTrouble when one may not be signalled.
    """
    ended: set[int] = set()
    empty_scans = 0
    # One scan can miss a child that is forked behind its back; the second one, of what no longer forks, does not.
    while empty_scans < 2:
        pids = [process.pid for process in of_directory(directory)]
        empty_scans = 0 if pids else empty_scans + 1
        ended.update(pids)
        refused = kill_pids(pids)
        if refused:
            raise EnvironmentTrouble(
                f"Process {refused[0]} of {directory} belongs to another user and cannot be ended: "
                "run the agent and the guard as root or as the database's user."
            )
        await sleep_ms(_SCAN_PAUSE_MS if pids else 0)
    return len(ended)


def _pids() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != own]


def _stands_in(pid: int, directory: str) -> bool:
    try:
        link = os.readlink(f"/proc/{pid}/cwd")
    except _NOT_OURS:  # gone, a kernel thread, or another user's
        return False
    return link == directory or link == f"{directory} (deleted)"


def _living(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except _NOT_OURS:
        return None
    # The name is in parentheses and may contain anything, also parentheses and spaces.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    if fields[0] in _GONE_STATES:
        return None
    return _Stat(head.partition("(")[2], fields[0], int(fields[1]), int(fields[4]), int(fields[19]))


def _title(pid: int, stat: _Stat) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0 ").split(b"\0")
    except OSError:
        words = [b""]
    return " ".join(word.decode("utf-8", "replace") for word in words).strip() or f"[{stat.name}]"
