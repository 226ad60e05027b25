"""What a store keeper keeps on its disk: etcd's data, and which life of the member they belong to."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble
from twinstar.store.managed.deciding import Here

_KEPT_ASIDE = 2
_LOG_BYTES = 16 * 1024 * 1024
FOUND = "found"
"""A file that orders the keeper to begin a new store over an empty folder (`twinstar store restore`)."""


class Folder:
    """Raises EnvironmentTrouble when something cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.log = path / "etcd.log"
        self._memory = path / "member.json"
        self._order = path / FOUND
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _trouble(error) from None

    def here(self) -> Here:
        """etcd renames its log's folder into place when the log is whole, so that what is there is one."""
        memory = self._recall()
        has_log = (self.data / "member" / "wal").is_dir()
        return Here(has_log, memory.get("member", ""), memory.get("joining", ""), self._order.exists())

    def joins_as(self, member: str) -> None:
        """Before etcd is begun under this id, durably."""
        self._keep({"joining": member})

    def runs_as(self, member: str) -> None:
        if self._recall().get("member") != member:
            self._keep({"member": member})

    def founds(self) -> None:
        """Before etcd is begun: an order that was carried out twice would put the first new store aside."""
        self._order.unlink(missing_ok=True)
        self._memory.unlink(missing_ok=True)
        _sync(self.path)

    def order_to_found(self) -> None:
        self._order.touch(mode=0o600)

    def set_aside(self, wall_ms: int) -> Path:
        """Moves data and memory away, so that the folder is empty; the last ones are kept. Returns where they are."""
        aside = self.path / f"removed-{wall_ms}"
        try:
            self.data.rename(aside)  # First: a memory without data is one of no life that could go on.
            self._memory.unlink(missing_ok=True)
            _sync(self.path)
        except OSError as error:
            raise _trouble(error) from None
        for old in sorted(self.path.glob("removed-*"))[:-_KEPT_ASIDE]:
            shutil.rmtree(old, ignore_errors=True)
        return aside

    def clear(self) -> None:
        """Removes what an etcd left that ended before it had a log."""
        if not self.here().has_log:
            shutil.rmtree(self.data, ignore_errors=True)

    def turn_log(self) -> None:
        """A log that has grown long begins anew; the last one is kept."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _recall(self) -> dict[str, str]:
        try:
            raw = json.loads(self._memory.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise EnvironmentTrouble(
                f"{self._memory} cannot be read ({error}): repair the disk, or remove {self.path} for a new member."
            ) from None
        return {str(key): str(value) for key, value in raw.items()}

    def _keep(self, memory: dict[str, str]) -> None:
        draft = self._memory.with_suffix(".new")
        try:
            with draft.open("w") as file:
                json.dump(memory, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._memory)
            _sync(self.path)
        except OSError as error:
            raise _trouble(error) from None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _trouble(error: OSError) -> EnvironmentTrouble:
    return EnvironmentTrouble(f"{error.filename} cannot be written ({error.strerror}): correct the disk or its owner.")
