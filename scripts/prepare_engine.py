"""Sees to the database's system user and to binaries that it can run, and says what there is. Used by the Makefile."""

from __future__ import annotations

import asyncio
import sys

from twinstar.engine.postgresql.binaries import find_binaries, reachable_copy
from twinstar.engine.postgresql.system_user import engine_user
from twinstar.model.errors import TwinstarError
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses


async def prepare() -> None:
    processes = SystemProcesses(SystemClock())
    user = await engine_user(processes)
    if user is not None:
        print(user.sentence)
    found = await find_binaries(processes)
    binaries = await reachable_copy(processes, found, user.account if user else None)
    print(f"PostgreSQL {binaries.version} runs from {binaries.bin_dir}.")


if __name__ == "__main__":
    try:
        asyncio.run(prepare())
    except TwinstarError as error:
        sys.exit(str(error))
