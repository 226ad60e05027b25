"""What a member must remember across restarts: its promise first of all.

Kept in a file of ours beside, never inside, the data directory, so that it survives restart, rewind and rebuild.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble, UnknownSchema

SCHEMA = 1

log = logging.getLogger(__name__)


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
    """The file, and its content. Every change is on disk before it returns; one that cannot be written down raises
    EnvironmentTrouble and is not made, since a promise like that must not be given. (Who was heard is no promise.)
    """

    def __init__(self, path: Path) -> None:
        """Raises UnknownSchema, and EnvironmentTrouble when the file cannot be read: no promise is guessed."""
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
        """What cannot be written down now is with the next change. Lost, it makes the next start more patient."""
        if member in self.now.heard:
            return
        known = replace(self.now, heard=(*self.now.heard, member))
        try:
            self._write(known)
        except EnvironmentTrouble as error:
            log.error("that %s was heard is not kept: %s", member, error)
            self.now = known

    def begin(self, wall_ms: int) -> int:
        """The number of this start: the wall clock, and more than the last one also when that was set back."""
        boot = max(wall_ms, self.now.boot + 1)
        self.start_as(boot)
        return boot

    def keeps_start(self, boot: int) -> bool:
        """`start_as`; False, and it is said, when that cannot be written down."""
        try:
            self.start_as(boot)
        except EnvironmentTrouble as error:
            log.error("others refuse what comes from here until start number %d can be written down: %s", boot, error)
            return False
        return True

    def start_as(self, boot: int) -> None:
        """This start has another number."""
        self._write(replace(self.now, boot=boot))

    def _read(self) -> Remembered:
        try:
            raw = json.loads(self._path.read_bytes())
            if raw["schema"] != SCHEMA:
                raise UnknownSchema(f"member's state in {self._path}", raw["schema"], SCHEMA)
            return Remembered(**{**raw, "heard": tuple(raw["heard"])})
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentTrouble(
                f"This member's state in {self._path} cannot be read ({error}): let the agent's user read it; if it "
                "is damaged, treat this member's disk as lost, and remove its `data` and `state`."
            ) from error

    def _write(self, new: Remembered) -> None:
        try:
            self._replace(new)
        except OSError as error:
            raise EnvironmentTrouble(
                f"This member's state cannot be written to {self._path} ({error.strerror}): make room there, and let "
                "the agent's user write."
            ) from error
        self.now = new

    def _replace(self, new: Remembered) -> None:
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
