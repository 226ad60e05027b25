"""The database's system user, with the real useradd."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstar.engine.postgresql.system_user import HOME, engine_user
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the database as somebody else")


@pytest.fixture
def processes() -> SystemProcesses:
    return SystemProcesses(SystemClock())


@pytest.fixture
def new_name() -> Iterator[str]:
    name = f"twinstar-{secrets.token_hex(4)}"
    yield name
    subprocess.run(["userdel", name], capture_output=True)


async def test_an_ordinary_user_runs_the_database_as_itself(processes: SystemProcesses) -> None:
    was = os.geteuid()
    try:
        if was == 0:
            os.seteuid(pwd.getpwnam("nobody").pw_uid)
        assert await engine_user(processes) is None
    finally:
        os.seteuid(was)


@needs_root
async def test_the_default_user_is_there_afterwards_and_its_home_can_be_entered(processes: SystemProcesses) -> None:
    user = await engine_user(processes)
    assert user and user.account.name == "twinstar" and user.account.uid > 0
    assert pwd.getpwnam("twinstar").pw_shell.endswith("nologin")
    result = await processes.run(["ls", str(HOME)], account=user.account, environment={"PATH": os.environ["PATH"]})
    assert result.code == 0, result.err


@needs_root
async def test_a_missing_user_is_made_once_by_agents_that_start_together(
    processes: SystemProcesses, new_name: str
) -> None:
    users = await asyncio.gather(*(engine_user(processes, new_name) for _ in range(3)))
    assert [entry.pw_name for entry in pwd.getpwall()].count(new_name) == 1
    entry = pwd.getpwnam(new_name)
    assert {user.account.uid for user in users if user} == {entry.pw_uid}
    assert any(user.created and f"runs as {new_name}" in user.sentence for user in users if user)
    assert Path(entry.pw_dir) == HOME

    again = await engine_user(processes, new_name)
    assert again and not again.created


@needs_root
async def test_root_is_refused(processes: SystemProcesses) -> None:
    with pytest.raises(UsageError, match=r"postgresql\.system_user"):
        await engine_user(processes, "root")


@needs_root
async def test_a_user_that_cannot_be_made_is_said_with_the_reason(processes: SystemProcesses) -> None:
    with pytest.raises(EnvironmentTrouble, match=r"no such: user.*make it by hand"):
        await engine_user(processes, "no such: user")
