"""What a member must remember across restarts: its promise first of all.

Kept in a file of ours beside, never inside, the data directory, so that it survives restart, rewind and rebuild.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from twinstar.model.errors import UnknownSchema

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Remembered:
    promise: int = 0
    """The highest epoch this member has bound itself to."""
    leads: int = 0
    """The epoch for which `run` of the database was made leader."""
    run: str = ""
    handing_over: bool = False
    """The promise is one ahead of the register, for a switchover."""
    heard: tuple[str, ...] = ()
    """Members from which something authentic has ever come."""
    boot: int = 0
    """The number of this agent's last start: the others refuse what seems to come from an earlier one."""
    schema: int = SCHEMA


class Memory:
    """The file, and its content. Every change is on disk before it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = self._read()

    def promise(self, epoch: int, handing_over: bool = False) -> None:
        """Binds this member to `epoch`: from now on it serves no lower one. Never goes back."""
        if epoch > self.now.promise or handing_over != self.now.handing_over:
            self._write(replace(self.now, promise=max(epoch, self.now.promise), handing_over=handing_over))

    def lead(self, epoch: int, run: str) -> None:
        """Notes, before it happens, that this run of the database is made leader of `epoch`."""
        promise = max(epoch, self.now.promise)
        self._write(replace(self.now, promise=promise, leads=epoch, run=run, handing_over=False))

    def heard(self, member: str) -> None:
        if member not in self.now.heard:
            self._write(replace(self.now, heard=(*self.now.heard, member)))

    def begin(self, wall_ms: int) -> int:
        """The number of this start: the wall clock, and more than the last one also when that was set back."""
        boot = max(wall_ms, self.now.boot + 1)
        self.start_as(boot)
        return boot

    def start_as(self, boot: int) -> None:
        """This start has another number."""
        self._write(replace(self.now, boot=boot))

    def _read(self) -> Remembered:
        if not self._path.exists():
            return Remembered()
        raw = json.loads(self._path.read_bytes())
        if raw.get("schema") != SCHEMA:
            raise UnknownSchema(f"member's state in {self._path}", raw.get("schema"), SCHEMA)
        return Remembered(**{**raw, "heard": tuple(raw["heard"])})

    def _write(self, new: Remembered) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        with beside.open("w") as file:
            json.dump(asdict(new), file)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.now = new
