"""Starts a supervisor and hangs the cluster's life on this process: when it goes, the cluster goes, unless detached."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twinstar.cli.local_files import LocalFiles
from twinstar.model.errors import EnvironmentTrouble, UsageError

_STOP_S = 40.0
_LAST_WORDS = 5


class Launched:
    """A supervisor that this process has started. Leaving the context ends the cluster, unless it was detached."""

    def __init__(self, config: Path) -> None:
        self.files = LocalFiles(config)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._detached = False

    def __enter__(self) -> Self:
        self.files.folder.mkdir(exist_ok=True)
        with (self.files.folder / "supervisor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "twinstar.cli.supervisor", str(self.files.config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for this process, which then tells the supervisor.
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put({"event": "gone"})

    def events(self, patience_s: float = 0.0) -> Iterator[dict[str, Any]]:
        """What the supervisor has said since the last time; `patience_s`: waits so long for the first word."""
        with contextlib.suppress(queue.Empty):
            if patience_s:
                yield self._events.get(timeout=patience_s)
            while True:
                yield self._events.get_nowait()

    def wait_for_start(self) -> None:
        """Until everything has been started (not: until it serves). Raises TwinstarError when that fails."""
        while True:
            event = self._events.get()
            self.check(event)
            if event["event"] == "started":
                return

    def check(self, event: dict[str, Any]) -> None:
        """Raises TwinstarError for an event that must not happen while the cluster comes up."""
        if event["event"] == "failed":
            raise (UsageError if event["usage"] else EnvironmentTrouble)(event["message"])
        if event["event"] == "gone":
            raise EnvironmentTrouble(f"The supervisor has ended: see {self.files.folder / 'supervisor.log'}.")
        if event["event"] == "ended" and event["status"] not in (0, -9):
            raise EnvironmentTrouble(
                f"{event['name']} has ended with status {event['status']}: {last_words(Path(event['log']))} "
                f"(log: {event['log']})"
            )

    def detach(self) -> None:
        """Lets the cluster live on when this process ends."""
        self._detached = True
        self._tell(b"detach\n")

    def hurry(self) -> None:
        """Has everything killed at the end instead of stopped in order: of a cluster whose data nobody wants."""
        self._tell(b"hurry\n")

    def _tell(self, word: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(word)
            self._process.stdin.flush()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._detached:
            return  # The listener's pipe goes with this process; closing it here would wait for its next line.
        self._end()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _end(self) -> None:
        """Patient, also when Ctrl-C is pressed again: that makes the supervisor hurry, not this process leave."""
        until = time.monotonic() + _STOP_S
        while self._process.poll() is None and time.monotonic() < until:
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=1)
            except KeyboardInterrupt:
                self._process.terminate()


def last_words(log: Path) -> str:
    """The last line of a log that says something; frames around it are left out."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
    except OSError:
        return "it has no log"
    words = [line.strip(" |+-") for line in lines]
    return next((line for line in reversed(words) if line), "its log is empty")
