"""Files: written durably, and what PostgreSQL's own say while (or although) no server answers."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from twinstar.engine.postgresql.settings import Paths
from twinstar.engine.postgresql.shared_memory import release_of
from twinstar.model.errors import EngineError
from twinstar.model.position import Position
from twinstar.ports.processes import Account

_CONTROL_HEAD = struct.Struct("=QIIi4xqQQIi")
"""The head of pg_control, the same from 15 to 18: system identifier, two versions, state, time, checkpoint,
redo, its timeline, the previous one (src/include/catalog/pg_control.h)."""
_KNOWN_CONTROL_VERSIONS = range(1300, 1900)
_HISTORY_NAME_LENGTH = len("00000001.history")


def write_durably(path: Path, text: str, *, account: Account | None = None, mode: int = 0o600) -> None:
    """Replaces a file so that after a crash it holds the old text or the new one. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        if account and os.geteuid() == 0:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def keep_durably(path: Path, text: str, *, account: Account | None = None) -> None:
    """Like `write_durably`, but leaves a file alone that says it already: each write waits for the disk."""
    if not path.exists() or read_text(path) != text:
        write_durably(path, text, account=account)


def remove_durably(path: Path) -> None:
    """Removes a file, so that a crash does not bring it back."""
    if path.exists():
        path.unlink()
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path) -> str:
    """The text of a file, empty when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def make_empty(path: Path, account: Account | None) -> None:
    """Makes an empty file that is the database's user's from its first instant: a running server may look at once, and
    ends when it finds one that it may not read. The caller syncs the directory.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if account and os.geteuid() == 0:
            os.fchown(handle, account.uid, account.gid)
    finally:
        os.close(handle)
    draft.replace(path)


def make_directory(path: Path, account: Account | None, *, ours: bool = False) -> None:
    """Makes a directory that the database's user owns (`ours`: may only enter and read), if it is missing."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account and os.geteuid() == 0:
        os.chown(path, 0 if ours else account.uid, account.gid)
        path.chmod(0o750 if ours else 0o700)


def prepare_directories(paths: Paths, account: Account | None) -> None:
    """Makes what is missing of the layout.

    Where root writes, the database's user must not be able to put a link: the node's directory, `conf/` and `log/`
    stay root's.
    """
    paths.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path in (paths.data, paths.run, paths.forks):
        make_directory(path, account)
    for path in (paths.conf, paths.log):
        make_directory(path, account, ours=True)
    paths.state.mkdir(mode=0o700, exist_ok=True)


# -- marks beside the data directory ----------------------------------------------------------------------------------


def nonce(paths: Paths) -> str:
    """Of the bootstrap that is not known to be finished, empty when there is none."""
    return read_text(paths.state / "nonce").strip()


def write_nonce(paths: Paths, nonce: str) -> None:
    write_durably(paths.state / "nonce", nonce + "\n")


def forget_nonce(paths: Paths) -> None:
    remove_durably(paths.state / "nonce")


def incomplete(paths: Paths) -> str:
    """What left the data directory half done (``bootstrap``, ``clone``, ``rewind``), empty when nothing did."""
    return read_text(paths.state / "incomplete").strip()


def mark_incomplete(paths: Paths, what: str) -> None:
    """From now until `mark_complete`, also after a crash, the data directory is never started as a member."""
    write_durably(paths.state / "incomplete", what + "\n")


def mark_complete(paths: Paths) -> None:
    remove_durably(paths.state / "incomplete")


# -- PostgreSQL's own -------------------------------------------------------------------------------------------------


def is_empty(directory: Path) -> bool:
    return not directory.is_dir() or not any(directory.iterdir())


def wipe(directory: Path) -> None:
    """Removes a data directory, if it is there, with what a killed server of it left in shared memory."""
    if directory.exists():
        release_of(directory)
        shutil.rmtree(directory)
        sync_directory(directory.parent)


@dataclass(frozen=True, slots=True)
class PidFile:
    pid: int
    status: str
    """``starting``, ``stopping``, ``ready`` (accepts connections) or ``standby`` (up, not yet consistent)."""


def pid_file(data: Path) -> PidFile | None:
    """What ``postmaster.pid`` says, None when it is missing, half written, or a single-user server's."""
    lines = read_text(data / "postmaster.pid").splitlines()
    if not lines or not lines[0].strip().isdecimal():
        return None
    return PidFile(int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting")


class ControlState(IntEnum):
    """DBState of pg_control.h."""

    STARTUP = 0
    SHUT_DOWN = 1
    SHUT_DOWN_IN_RECOVERY = 2
    SHUTTING_DOWN = 3
    CRASH_RECOVERY = 4
    ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


@dataclass(frozen=True, slots=True)
class Control:
    system_identifier: str
    state: ControlState
    checkpoint: Position
    """Where the last checkpoint record begins."""


def control(data: Path) -> Control | None:
    """What ``pg_control`` says, None when it is missing. Raises EngineError when it is of an unknown kind."""
    try:
        with (data / "global" / "pg_control").open("rb") as file:
            head = file.read(_CONTROL_HEAD.size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(head) < _CONTROL_HEAD.size:
        return None
    identifier, version, _, state, _, checkpoint, _, timeline, _ = _CONTROL_HEAD.unpack(head)
    if version not in _KNOWN_CONTROL_VERSIONS or state > ControlState.IN_PRODUCTION:
        raise EngineError(
            f"{data} was made by an unknown version of PostgreSQL (pg_control version {version}): use 15 to 18."
        )
    return Control(str(identifier), ControlState(state), Position(timeline, checkpoint))


def version_of(data: Path) -> int | None:
    """The major version that made a data directory, None when it is none."""
    text = read_text(data / "PG_VERSION").strip()
    return int(text) if text.isdecimal() else None


def history_entries(text: str) -> list[str]:
    """The lines of a timeline history file that say something; a placeholder has none."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def remove_placeholders(data: Path) -> tuple[int, ...]:
    """Removes placeholder history files above the newest real one; returns their timelines.

    A promotion that did not take place leaves them, and a server that finds them at start takes the newest for its
    target. Being empty it has no parents, so the server waits for ever for its own checkpoint to appear there.
    """
    wal = data / "pg_wal"
    names = [path for path in wal.glob("*.history") if len(path.name) == _HISTORY_NAME_LENGTH]
    real = [int(path.stem, 16) for path in names if history_entries(read_text(path))]
    newest = max(real, default=1)
    stale = sorted(int(path.stem, 16) for path in names if int(path.stem, 16) > newest)
    for timeline in stale:
        (wal / f"{timeline:08X}.history").unlink()
    if stale:
        sync_directory(wal)
    return tuple(stale)


def scrub_auto_conf(data: Path, names: Iterable[str], account: Account | None) -> tuple[str, ...]:
    """Removes settings from ``postgresql.auto.conf``, which would override ours; returns those that were there."""
    path = data / "postgresql.auto.conf"
    ours = frozenset(names)
    lines = read_text(path).splitlines()
    found = tuple(sorted({_setting(line) for line in lines} & ours))
    if found:
        write_durably(path, "".join(f"{line}\n" for line in lines if _setting(line) not in ours), account=account)
    return found


def settings_in_auto_conf(data: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Which of these settings stand in ``postgresql.auto.conf``."""
    lines = read_text(data / "postgresql.auto.conf").splitlines()
    return tuple(sorted({_setting(line) for line in lines} & frozenset(names)))


def _setting(line: str) -> str:
    return line.partition("=")[0].strip().lower()
