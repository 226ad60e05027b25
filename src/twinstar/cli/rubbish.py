"""Folders that are removed meanwhile: a file system that tells its disk of every file that goes takes its time."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Rubbish:
    """A context that is left when everything is gone."""

    def __init__(self) -> None:
        self._removing: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def take(self, folder: Path) -> None:
        """Begins to remove it."""
        thread = threading.Thread(target=shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True})
        thread.start()
        self._removing.append(thread)

    def wait(self) -> None:
        """Until all that was taken is gone."""
        while self._removing:
            self._removing[-1].join()
            self._removing.pop()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.wait()
