"""The user that runs the tests' databases: the one that Twinstar itself would choose, or make."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from twinstar.engine.postgresql.system_user import engine_user
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import Account, SystemProcesses


@cache
def database_user() -> Account | None:
    """None when this process is not root. Also for tests that run in a loop."""
    with ThreadPoolExecutor(1) as beside:
        user = beside.submit(lambda: asyncio.run(engine_user(SystemProcesses(SystemClock())))).result()
    return user.account if user else None
