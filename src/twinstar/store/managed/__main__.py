"""`python -m twinstar.store.managed SETTINGS.json`: keeps one member of the store until SIGTERM or SIGINT, which end
its etcd as well; a keeper that is killed leaves it running. Exit status 2: settings; 1: environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses
from twinstar.ports.system_network import SystemNetwork
from twinstar.ports.transports import stop_signals
from twinstar.store.managed.keeper import Keeper
from twinstar.store.managed.settings import KeeperSettings

log = logging.getLogger("twinstar.store")


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%F %T")
    try:
        if len(arguments) != 1:
            raise UsageError("Name one file of settings: python -m twinstar.store.managed SETTINGS.json")
        asyncio.run(_run(KeeperSettings.from_json(_text(Path(arguments[0]), "write it again"))))
    except TwinstarError as error:
        log.critical("%s", error)
        return 2 if isinstance(error, UsageError) else 1
    return 0


async def _run(settings: KeeperSettings) -> None:
    secret = _text(Path(settings.secret_file), "run `twinstar init` to make it, or copy it from another node").strip()
    clock = SystemClock()
    keeper = Keeper(settings, secret.encode(), clock, SystemNetwork(), SystemProcesses(clock), dict(os.environ))
    with stop_signals() as stop:
        keeping = asyncio.create_task(keeper.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            ended_by_itself = keeping.done()
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            if not ended_by_itself:
                await keeper.end()


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): {remedy}.") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
