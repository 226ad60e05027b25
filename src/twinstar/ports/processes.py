"""Processes: started, watched and ended as an engine needs it. What is said of them comes from `procfs`.

A process started with `spawn` belongs to nobody afterwards: it has a session of its own, gets no signal meant for this
program, and outlives it. A process started with `run` never outlives the call.
"""

from __future__ import annotations

import os
import signal as signals
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports import commands, procfs
from twinstar.ports.clock import Clock
from twinstar.ports.commands import Finished as Finished
from twinstar.ports.procfs import ProcessInfo as ProcessInfo


class Signal(IntEnum):
    HANGUP = signals.SIGHUP
    INTERRUPT = signals.SIGINT
    KILL = signals.SIGKILL
    TERMINATE = signals.SIGTERM
    CONTINUE = signals.SIGCONT
    STOP = signals.SIGSTOP


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user of the operating system that a process is to run as. Only root can become one."""

    name: str
    uid: int
    gid: int
    home: Path


_ROOT = Path("/")


class Processes(Protocol):
    def run_id(self, pid: int) -> str | None:
        """``pid:start time``; None when there is no such process or it is a zombie."""
        ...

    def is_running(self, run: str) -> bool:
        """Whether exactly this run is there and no zombie."""
        ...

    def of_directory(self, directory: Path) -> tuple[ProcessInfo, ...]:
        """The living processes that stand in `directory`."""
        ...

    def children_of(self, pid: int) -> tuple[ProcessInfo, ...]: ...

    def signal(self, pid: int, signal: Signal) -> bool:
        """False when there is no such process any more. Raises EnvironmentTrouble when it may not be signalled."""
        ...

    async def ended(self, run: str) -> None:
        """Returns as soon as this run has ended, at once when it has already."""
        ...

    async def end_all_of(self, directory: Path) -> int:
        """Kills every process of `directory`; how many there were. Returns when none is left. Raises
        EnvironmentTrouble when one may not be signalled. Bound it: a process may be stuck in the kernel.
        """
        ...

    def spawn(
        self,
        command: Sequence[str],
        *,
        account: Account | None,
        environment: Mapping[str, str],
        output: Path,
        directory: Path = _ROOT,
    ) -> int:
        """Starts a process that outlives this one, standing in `directory`; its output is appended to a file. Returns
        its pid. Raises EnvironmentTrouble when it cannot be started.
        """
        ...

    async def run(
        self,
        command: Sequence[str],
        *,
        account: Account | None,
        environment: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
        directory: Path = _ROOT,
    ) -> Finished:
        """Runs a command to its end, standing in `directory`; `on_line` is told each line of its error output, as it
        comes. When cancelled it kills the command with its descendants of the same session first. Raises
        EnvironmentTrouble when it cannot be started.
        """
        ...


class SystemProcesses:
    """The machine's own processes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spawned: set[int] = set()

    def run_id(self, pid: int) -> str | None:
        return procfs.run_id(pid)

    def is_running(self, run: str) -> bool:
        return procfs.is_running(run)

    def of_directory(self, directory: Path) -> tuple[ProcessInfo, ...]:
        return procfs.of_directory(directory)

    def children_of(self, pid: int) -> tuple[ProcessInfo, ...]:
        return procfs.children_of(pid)

    def signal(self, pid: int, signal: Signal) -> bool:
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            return False
        except PermissionError:
            raise EnvironmentTrouble(
                f"Process {pid} belongs to another user and cannot be signalled: "
                "run the agent as root or as the database's user."
            ) from None
        return True

    async def ended(self, run: str) -> None:
        pid = procfs.pid_of(run)
        if pid is None:
            return
        try:
            await commands.ended(pid, lambda: procfs.is_running(run))
        finally:
            self._reap()

    async def end_all_of(self, directory: Path) -> int:
        try:
            return await procfs.end_all_of(directory, self._clock.sleep_ms)
        finally:
            self._reap()

    def spawn(
        self,
        command: Sequence[str],
        *,
        account: Account | None,
        environment: Mapping[str, str],
        output: Path,
        directory: Path = _ROOT,
    ) -> int:
        self._reap()
        with output.open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **_detached(account, environment) | {"cwd": directory},
                )
            except OSError as error:
                raise _not_started(command, error) from None
        # It may outlive us: nobody is to wait for it, or to complain that nobody did.
        process.returncode = 0
        self._spawned.add(process.pid)
        return process.pid

    async def run(
        self,
        command: Sequence[str],
        *,
        account: Account | None,
        environment: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
        directory: Path = _ROOT,
    ) -> Finished:
        try:
            begun = commands.begin(command, _detached(account, environment) | {"cwd": directory})
        except OSError as error:
            raise _not_started(command, error) from None
        return await commands.finish(begun, on_line)

    def _reap(self) -> None:
        """Those that we started stay zombies until we ask how they ended."""
        for pid in tuple(self._spawned):
            try:
                ended = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:  # somebody else has asked
                ended = True
            if ended:
                self._spawned.discard(pid)


def _detached(account: Account | None, environment: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"cwd": "/", "env": dict(environment), "start_new_session": True, "umask": 0o077}
    if account and os.geteuid() == 0:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _not_started(command: Sequence[str], error: OSError) -> EnvironmentTrouble:
    return EnvironmentTrouble(f"{command[0]} cannot be started ({error.strerror}): check that it is installed.")
