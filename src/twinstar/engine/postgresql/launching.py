"""How the main process comes to life: as a detached child of ours, or by a service manager that we leave an order with.

Under systemd the database must have a control group of its own, or it would die with the agent. Starting a unit needs a
right that an ordinary user lacks, so the agent leaves a *launch file*: a path unit sees it, and the database's unit
becomes the command that it names (`docs/decisions/process-user.md`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.server import Server
from twinstar.model.errors import EngineError

_ORDER_POLL_MS = 10.0
_ORDER_PATIENCE_MS = 30_000.0


async def begin(server: Server, command: Sequence[str]) -> int:
    """Starts the main process and returns its pid. Raises EngineError, EnvironmentTrouble."""
    order = server.settings.launch_file
    if order is None:
        return server.processes.spawn(
            command,
            account=server.settings.account,
            environment=server.environment(),
            output=server.paths.server_log,
        )
    text = json.dumps(
        {"argv": list(command), "environment": server.environment(), "output": str(server.paths.server_log)}
    )
    files.keep_durably(order, text, account=server.settings.account)
    return await _ordered(server)


async def _ordered(server: Server) -> int:
    """The pid of the main process that the service manager has started."""
    order = server.settings.launch_file
    try:
        async with server.clock.timeout_ms(_ORDER_PATIENCE_MS):
            while (pid := server.postmaster()) is None:
                await server.clock.sleep_ms(_ORDER_POLL_MS)
            return pid
    except TimeoutError:
        raise EngineError(
            f"The service manager has not started the database by {order} in {_ORDER_PATIENCE_MS / 1000:.0f} s: see "
            f"`systemctl status 'twinstar-engine@{server.settings.member}.*'` and {server.paths.server_log}."
        ) from None
