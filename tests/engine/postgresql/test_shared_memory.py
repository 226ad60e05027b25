"""Nothing of a killed server stays on the machine when its directory is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinstar.engine.postgresql.files import wipe
from twinstar.engine.postgresql.shared_memory import abandoned, release_of
from twinstar.ports.system_v import segments

from .lab import Lab, Server

FILES = Path("/dev/shm")


def segment_of(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[6].split()[1])


def files_of(server: Server) -> set[Path]:
    """The dynamic shared memory that the server has mapped."""
    maps = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
    return {Path(line.split()[5]) for line in maps if f"{FILES}/PostgreSQL." in line}


@pytest.fixture
def server(lab: Lab) -> Server:
    (only,) = lab.cluster("a")
    return only


def test_what_a_killed_server_leaves_goes_with_its_directory(server: Server) -> None:
    segment, files = segment_of(server), files_of(server)
    assert files, "this PostgreSQL keeps its control segment elsewhere"
    server.kill()
    assert segment in {each.id for each in abandoned()}
    assert all(file.exists() for file in files)
    wipe(server.data)
    assert segment not in {each.id for each in segments()}
    assert not any(file.exists() for file in files)


def test_a_running_server_keeps_its_memory(server: Server) -> None:
    segment = segment_of(server)
    assert segment not in {each.id for each in abandoned()}
    release_of(server.data)
    assert segment in {each.id for each in segments()}
    assert server.ask("select 1") == 1


def test_a_killed_server_starts_again_after_its_memory_was_released(server: Server) -> None:
    server.kill()
    server.forget_connections()
    release_of(server.data)
    server.start()
    assert server.ask("select 1") == 1


def test_the_number_of_another_directorys_memory_changes_nothing(server: Server) -> None:
    """A machine that was started anew gives the old number to somebody else."""
    segment = segment_of(server)
    other = server.root / "other"
    other.mkdir()
    own = (server.data / "postmaster.pid").read_text().splitlines()
    own[6] = f"1 {segment}"
    (other / "postmaster.pid").write_text("\n".join(own))
    server.kill()
    release_of(other)
    assert segment in {each.id for each in segments()}
