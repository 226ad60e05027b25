"""`python -m twinstar.engine.postgresql.multiwriter SETTINGS.json`: applies one peer's stream, until it is ended.

The node's agent starts one for each peer. It ends between two transactions: at SIGTERM or SIGINT, or when the process
that its settings name has ended. Exit status 0 then; 2 for settings that cannot work; 3 when something of the peer's
log is missing here, so that reading on would skip it; 1 for anything else that a person must look at.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinstar.engine.postgresql.multiwriter.applier import run_applier
from twinstar.engine.postgresql.multiwriter.beginning import GapFound
from twinstar.engine.postgresql.multiwriter.link import Link
from twinstar.engine.postgresql.multiwriter.ruling import SqlRules
from twinstar.engine.postgresql.multiwriter.settings import ApplierSettings, load
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.clock import Clock, SystemClock
from twinstar.ports.processes import SystemProcesses
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.transports import stop_signals

log = logging.getLogger("twinstar.applier")

TELL_MS = 1_000.0
_OBJECTS = 50_000
_REST_MS = 2_000.0
"""A transaction that takes longer is given up, and comes again."""


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%F %T")
    try:
        if len(arguments) != 1:
            raise UsageError(
                "Name one file of settings: python -m twinstar.engine.postgresql.multiwriter SETTINGS.json"
            )
        # Rows make many tuples and no cycles: looking for these after every few hundred is a sixth of the work.
        gc.freeze()
        gc.set_threshold(_OBJECTS)
        asyncio.run(_run(load(Path(arguments[0]))))
    except TwinstarError as error:
        return _say(error)
    except OSError as error:
        log.critical("The disk refuses (%s): see to it, and this goes on where it was.", error)
        return 1
    except ExceptionGroup as group:
        known, other = group.split((TwinstarError, OSError))
        if other is not None or known is None:
            raise
        return max(_say(error) for error in _leaves(known))
    return 0


async def _run(settings: ApplierSettings) -> None:
    clock = SystemClock()
    processes = SystemProcesses(clock)
    link = Link(settings, SqlRules(), clock, SystemRandomness())
    with stop_signals() as stop:
        working = asyncio.create_task(_work(link, clock))
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
        if settings.parent is not None:
            ends.append(asyncio.create_task(processes.ended(settings.parent)))
        try:
            await asyncio.wait({working, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                with suppress(TimeoutError):
                    async with clock.timeout_ms(_REST_MS):
                        await link.rest()
        finally:
            for task in (working, *ends):
                task.cancel()
            _write(link, clock)
            with suppress(asyncio.CancelledError):
                await working


async def _work(link: Link, clock: Clock) -> None:
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(_tell(link, clock))
        await run_applier(link)
        telling.cancel()


async def _tell(link: Link, clock: Clock) -> None:
    while True:
        _write(link, clock)
        await clock.sleep_ms(TELL_MS)


def _write(link: Link, clock: Clock) -> None:
    """Whoever reads the file sees one state, or the one before."""
    state = link.progress.to_json(clock.now_ms(), clock.wall_ms())
    path = link.settings.state_file
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(json.dumps(state) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        # Applying is worth more than saying so.
        log.warning("%s cannot be written: %s", path, error)


def _leaves(group: ExceptionGroup[Any]) -> Iterator[TwinstarError | OSError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _say(error: TwinstarError | OSError) -> int:
    log.critical("%s", error)
    match error:
        case UsageError():
            return 2
        case GapFound():
            return 3
        case _:
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
