"""`python -m twinstar.store.embedded --socket PATH --file PATH [--cluster NAME]`: runs the store until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import Signal
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.embedded.server import Server
from twinstar.store.embedded.table import Table


async def _run(socket: Path, table: Table) -> None:
    server = Server(table)
    loop = asyncio.get_running_loop()
    for ending in (Signal.TERMINATE, Signal.INTERRUPT):
        loop.add_signal_handler(ending, server.ending.set)
    listener = await SystemNetwork().listen_unix(socket, server.handle)
    print(f"serving {socket}", flush=True)  # noqa: T201 - whoever started this may wait for the line
    await server.ending.wait()
    listener.close()
    socket.unlink(missing_ok=True)
    await server.close()
    if server.trouble:
        raise server.trouble


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 after SIGTERM or SIGINT, 1 after trouble that is told in a sentence."""
    parser = argparse.ArgumentParser(prog="python -m twinstar.store.embedded", description="Twinstar's embedded store.")
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to serve")
    parser.add_argument("--file", type=Path, required=True, help="the SQLite file; made when missing")
    parser.add_argument("--cluster", default="", help="refuse the file of any other cluster")
    options = parser.parse_args(arguments)
    os.umask(0o077)  # the file, its log and the socket belong to one user
    try:
        table = Table(options.file, options.cluster, first_revision=SystemClock().wall_ms())
        try:
            asyncio.run(_run(options.socket, table))
        finally:
            table.close()
    except EnvironmentTrouble as trouble:
        print(trouble, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
