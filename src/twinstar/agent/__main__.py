"""`python -m twinstar.agent --config twinstar.yaml --node n1`: one member's agent, until SIGTERM or SIGINT.

Ending the agent leaves the database running. Exit status 0 when asked to end, 2 for a configuration that cannot work,
1 for anything else that a person must look at.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinstar.config.derive import witness_named
from twinstar.config.load import load
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.transports import stop_signals

log = logging.getLogger("twinstar.agent")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m twinstar.agent", description="One member's agent.")
    parser.add_argument("--config", type=Path, required=True, help="twinstar.yaml")
    parser.add_argument("--node", required=True, help="this member's name in it")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%F %T")
    try:
        asyncio.run(_run(options.config, options.node))
    except TwinstarError as error:
        return _say(error)
    except ExceptionGroup as group:
        known, other = group.split(TwinstarError)
        if other is not None or known is None:
            raise
        return max(_say(error) for error in _leaves(known))
    return 0


async def _run(path: Path, member: str) -> None:
    config = load(path)
    witness = witness_named(config, member)
    # Only what is needed is loaded: an agent is small.
    if witness is not None:
        from twinstar.agent.witness import system_witness_agent

        await _until_asked(system_witness_agent(config, witness).run())
        return
    if config.strategy == "active-active":
        from twinstar.agent.active_active.assembly import Assembly as NodeAssembly

        parts = await NodeAssembly(path, config, member).build()
    else:
        from twinstar.agent.assembly import Assembly

        parts = await Assembly(path, config, member).build()
    try:
        await _until_asked(parts.serve())
    finally:
        await parts.close()


async def _until_asked(work: Coroutine[Any, Any, None]) -> None:
    with stop_signals() as stop:
        running = asyncio.create_task(work)
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def _leaves(group: ExceptionGroup[TwinstarError]) -> Iterator[TwinstarError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _say(error: TwinstarError) -> int:
    log.critical("%s", error)
    return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
