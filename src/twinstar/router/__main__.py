"""`python -m twinstar.router --config twinstar.yaml`: runs the built-in router until SIGTERM or SIGINT.

The exit statuses stand in `router/base.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

from twinstar.config.derive import endpoints
from twinstar.config.hosts import is_loopback
from twinstar.config.load import load
from twinstar.config.schema import Config, Router
from twinstar.config.secrets import Secrets
from twinstar.model.address import Address
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports.clock import SystemClock
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.system_network import SystemNetwork
from twinstar.ports.transports import SystemTransports, allow_many_connections, stop_signals
from twinstar.router.base import Role
from twinstar.router.builtin import ANY_DIAL_MS, DIAL_MS, BuiltinRouter
from twinstar.router.node_watcher import NodeWatcher
from twinstar.router.status import status_handler
from twinstar.router.watcher import REGISTER, Watcher
from twinstar.store.factory import store_of

FILES_KEPT = 64
"""Open files that are no session's; a session has two."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m twinstar.router", description="Twinstar's built-in router.")
    parser.add_argument("--config", type=Path, required=True, help="twinstar.yaml")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(load(options.config)))
    except TwinstarError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, UsageError) else 1
    return 0


async def _run(config: Config) -> None:
    if config.router is None:
        raise UsageError("There is no `router` in the configuration: add the section that `twinstar init` writes.")
    secrets = Secrets(config.secrets)
    key = secrets.wire_key()
    clock, network = SystemClock(), SystemNetwork()
    async with AsyncExitStack() as ending:
        stop = ending.enter_context(stop_signals())
        router = _router(config, config.router, clock)
        ending.push_async_callback(router.stop)
        await router.start()
        if config.strategy == "active-passive":
            store = store_of(config, clock, network, secrets, "router")
            ending.push_async_callback(store.close)
            events = await ending.enter_async_context(aclosing(store.watch(REGISTER)))
            watcher = _watcher(config, key, clock, router)
            work, news = watcher.run(network, _notices(config, config.router), events), watcher.status
        else:
            nodes = _node_watcher(config, config.router, key, clock, router)
            work, news = nodes.run(network, _notices(config, config.router)), nodes.status
        if config.router.status_port is not None:
            at = Address(config.router.bind[0], config.router.status_port)
            handler = status_handler(lambda: news(router.status()), clock)
            ending.callback((await network.listen(at, handler)).close)
        await _until(stop, work)


def _router(config: Config, own: Router, clock: SystemClock) -> BuiltinRouter:
    most = (allow_many_connections() - FILES_KEPT) // 2
    return BuiltinRouter(
        {node.name: Address(node.host, node.port) for node in config.nodes},
        {Role(name): tuple(Address(host, port) for host in own.bind) for name, port in endpoints(config).items()},
        SystemTransports(),
        clock,
        max_hold_ms=own.max_hold_ms,
        max_sessions=min(own.max_sessions, most),
        dial_ms=DIAL_MS if config.strategy == "active-passive" else ANY_DIAL_MS,
    )


def _watcher(config: Config, key: bytes, clock: SystemClock, router: BuiltinRouter) -> Watcher:
    sender, inbox = _sender(config, key, clock), Inbox(config.cluster, key)
    return Watcher(_agents(config), sender, inbox, clock, router.follow)


def _node_watcher(config: Config, own: Router, key: bytes, clock: SystemClock, router: BuiltinRouter) -> NodeWatcher:
    sender, inbox = _sender(config, key, clock), Inbox(config.cluster, key)
    return NodeWatcher(_agents(config), sender, inbox, clock, router.follow, max_lag_ms=own.max_read_lag_ms)


def _sender(config: Config, key: bytes, clock: SystemClock) -> Sender:
    """Under a name that no other router has: agents refuse what seems to come from the same sender in the wrong
    order."""
    return Sender(config.cluster, key, f"router-{SystemRandomness().token()}", Part.ROUTER, clock.wall_ms())


def _agents(config: Config) -> dict[str, Address]:
    return {node.name: Address(node.host, node.agent_port) for node in config.nodes}


def _notices(config: Config, own: Router) -> Address:
    """One socket must reach every agent: one on the loopback only reaches this machine's."""
    hosts = [node.host for node in config.nodes]
    if len(own.bind) == 1 and (not is_loopback(own.bind[0]) or all(map(is_loopback, hosts))):
        return Address(own.bind[0], own.notice_port)
    return Address("::" if any(":" in host for host in (*own.bind, *hosts)) else "0.0.0.0", own.notice_port)  # noqa: S104


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Works until told to stop. Raises what the work raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


if __name__ == "__main__":
    sys.exit(main())
