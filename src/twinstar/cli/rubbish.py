"""Folders that are removed meanwhile: a file system that tells its disk of every file that goes takes its time."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Rubbish:
    """A context that is left when everything is gone. Who is interrupted there ends only when it is, all the same."""

    def __init__(self) -> None:
        self._removing: list[threading.Event] = []

    def __enter__(self) -> Self:
        return self

    def take(self, folder: Path) -> None:
        """Begins to remove it."""
        gone = threading.Event()
        self._removing.append(gone)
        threading.Thread(target=_remove, args=(folder, gone)).start()

    def wait(self) -> None:
        """Until all that was taken is gone."""
        # Not by join: interrupted, it has Python 3.11 take the thread for ended, and not wait for it at its own end.
        while self._removing:
            self._removing[-1].wait()
            self._removing.pop()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.wait()


def _remove(folder: Path, gone: threading.Event) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    gone.set()
