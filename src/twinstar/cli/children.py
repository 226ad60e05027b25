"""The supervisor's children: started with a log each, reaped as soon as they end, never restarted by themselves.

The supervisor is the subreaper of everything it starts, so a database whose agent was killed becomes its child; whoever
ends is reaped at once, and at the end nothing can be left that it does not know.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from twinstar.cli.local_files import Running
from twinstar.cli.programs import Program
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports import procfs


class Children:
    """Starts programs and remembers what became of them."""

    def __init__(self, logs: Path, environment: Mapping[str, str], changed: Callable[[Running], None]) -> None:
        self._logs = logs
        self._environment = dict(environment)
        self._changed = changed
        self._programs: dict[str, Running] = {}

    @property
    def programs(self) -> tuple[Running, ...]:
        return tuple(self._programs.values())

    def running(self, name: str) -> bool:
        program = self._programs.get(name)
        return program is not None and program.alive

    def start(self, program: Program) -> Running:
        """Starts it, with its output appended to its log. Raises EnvironmentTrouble when there is no such program."""
        log = self._logs / f"{program.name.replace(' ', '-')}.log"
        with log.open("ab") as output:
            try:
                # A session of its own: Ctrl-C is for the supervisor, which ends its children in order.
                process = subprocess.Popen(
                    program.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                    cwd="/",
                )
            except OSError as trouble:
                raise EnvironmentTrouble(
                    f"{program.argv[0]} cannot be started ({trouble.strerror}): install it, or choose another store."
                ) from None
        process.returncode = 0  # `reap` waits for it; Popen must not.
        run = procfs.run_id(process.pid) or f"{process.pid}:0"
        started = Running(program.name, program.kind, program.node, run, str(log))
        self._programs[program.name] = started
        self._changed(started)
        return started

    def reap(self) -> None:
        """Takes note of everything that has ended, adopted orphans included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._note(pid, os.waitstatus_to_exitcode(status))

    def _note(self, pid: int, status: int) -> None:
        for program in self._programs.values():
            if program.status is None and procfs.pid_of(program.run) == pid:
                ended = self._programs[program.name] = replace(program, status=status)
                self._changed(ended)
                return

    def signal(self, kinds: set[str], sent: signal.Signals) -> None:
        """Signals the living programs of these kinds."""
        for program in self.programs:
            if program.kind in kinds and program.status is None:
                procfs.kill_run(program.run, sent)

    def alive(self, kinds: set[str]) -> bool:
        return any(program.kind in kinds and program.alive for program in self.programs)
