"""The database started by a service manager that finds the agent's order, instead of by the agent itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.postgresql.bench import PostgresqlBench, postgresql_bench, template, versions
from twinstar.model.engine import EngineStatus
from twinstar.ports.processes import Account

pytestmark = pytest.mark.skipif(not versions(), reason="no PostgreSQL is installed")


@pytest.fixture
async def bench() -> AsyncIterator[PostgresqlBench]:
    version = versions()[0]
    async with template(version) as path, postgresql_bench(version, path) as prepared:
        yield prepared


async def carry_out(order: Path, account: Account | None) -> asyncio.subprocess.Process:
    """What the path unit and the database's unit do: use the order up, and become what it names."""
    while not order.exists():  # noqa: ASYNC110 - a path unit's view of it
        await asyncio.sleep(0.01)
    taken = order.rename(order.with_name("launched"))
    output = Path(json.loads(taken.read_text())["output"])
    become = "import os, sys; from pathlib import Path; from twinstar.cli.become import become_launched; "
    if account is not None:
        # Under systemd the agent is this user itself, and the log its own.
        os.chown(output, account.uid, account.gid)
        output.parent.chmod(0o755)
        become += f"os.setgroups([]); os.setgid({account.gid}); os.setuid({account.uid}); "
    become += f"become_launched(Path({str(taken)!r}))"
    return await asyncio.create_subprocess_exec(sys.executable, "-c", become, start_new_session=True)


async def test_an_order_starts_the_database_outside_of_the_agent(bench: PostgresqlBench) -> None:
    await bench.given_copy("a")
    server = bench.server("a")
    account = server.settings.account
    folder = server.paths.root / "orders"
    folder.mkdir()
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    order = folder / "launch"
    server.settings = replace(server.settings, launch_file=order)
    manager = asyncio.create_task(carry_out(order, account))
    await bench.engine("a").start()
    unit = await manager
    state = await bench.engine("a").inspect()
    assert state.status is EngineStatus.STANDBY
    assert state.pid == unit.pid
    assert not order.exists()
