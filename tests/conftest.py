"""What every test run ends with: why something was skipped, no process left behind, and no shared memory."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from tests import room
from twinstar.engine.postgresql.shared_memory import abandoned, release

_LONG = ("partitions", "cluster", "compare", "drill")
"""Folders with few tests of many seconds each."""
_TAG = "TWINSTAR_TEST_RUN"
"""In the environment of every process that a test starts, unless the test gave it another one."""
_ENDING_S = 10.0
"""How long those may take that have been told to end."""


# How long one example takes says something about the machine, not about the code.
settings.register_profile("twinstar", deadline=None)
settings.load_profile("twinstar")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(_TAG, secrets.token_hex(8))
    room.choose()
    for interrupt in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(interrupt) is signal.SIG_IGN:  # in a shell's background, and so in all that tests start
            signal.signal(interrupt, signal.default_int_handler)


def pytest_unconfigure() -> None:
    room.give_back()


@pytest.hookimpl(trylast=True)  # after the shuffling
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that of several workers none goes on long after the others. A folder's files
    stay together: the servers that its tests share end with them.
    """
    items.sort(key=lambda item: (_rank(item.path.parent.name), item.path.parent))


def _rank(folder: str) -> int:
    return _LONG.index(folder) if folder in _LONG else len(_LONG)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that outlives its test makes the run fail: it may be a database that nobody ends."""
    if hasattr(session.config, "workerinput"):
        return  # one of several workers: the others' tests still run
    for segment in abandoned():
        release(segment)  # tests kill servers and remove their directories; a machine has room for 4,096
    deadline = time.monotonic() + _ENDING_S
    while (left := _left_behind(os.environ[_TAG])) and time.monotonic() < deadline:
        time.sleep(0.1)
    session.config.stash[_LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for command in config.stash.get(_LEFT, []):
        terminalreporter.write_line(f"FAILED: a test left a process behind: {command}", red=True)
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"{skipped.total()} skipped, because:")
    for reason, count in skipped.most_common():
        terminalreporter.write_line(f"  {count:4} x {reason}")


_LEFT = pytest.StashKey[list[str]]()


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(text.removeprefix("Skipped: ").split())


def _left_behind(tag: str) -> list[str]:
    """Commands of the living processes that carry the tag, this one and those it descends from excepted."""
    wanted = f"{_TAG}={tag}".encode()
    own = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def _ancestors() -> set[int]:
    pids = set()
    pid = os.getpid()
    while pid > 0:
        pids.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return pids
