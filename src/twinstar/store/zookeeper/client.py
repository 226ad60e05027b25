"""ZooKeeper as the agent sees it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import Applied, CasOutcome, Conflict, Versioned, WatchEvent, check_size
from twinstar.store.endpoints import DEFAULT_PATIENCE, Endpoints, Patience
from twinstar.store.race import Attempt, T
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Access, Login, Server
from twinstar.store.zookeeper.watch import Watch
from twinstar.store.zookeeper.znodes import Znodes


class ZooKeeperStore:
    """Implements `store.base.Store`. Revisions are the ensemble's transactions, so they grow over all keys."""

    def __init__(
        self,
        hosts: Sequence[str],
        cluster: str,
        clock: Clock,
        network: Network,
        *,
        chroot: str = "",
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        """Connects to nothing yet. `hosts`: ``host:port`` of each server. Raises UsageError when one is not."""
        access = Access(network, clock, tls, login, patience)
        self._znodes = Znodes(chroot, cluster, login)
        self._clock = clock
        self._silence_ms = patience.silence_ms
        self._endpoints = Endpoints("ZooKeeper", [Server(host, access) for host in hosts], clock, patience)

    async def read(self, key: str) -> Versioned | None:
        return await self._ask(lambda connection: self._znodes.read(connection, key))

    async def read_all(self, prefix: str) -> list[Versioned]:
        return (await self._ask(lambda connection: self._znodes.listing(connection, prefix))).values

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)

        def change(connection: Connection, attempt: Attempt) -> Coroutine[Any, Any, Applied | Conflict]:
            return self._znodes.compare_and_set(connection, key, value, expected_revision, attempt)

        return await self._endpoints.compare_and_set(lambda server, attempt: server.ask(change, attempt))

    async def delete(self, key: str) -> None:
        await self._ask(lambda connection: self._znodes.delete(connection, key))

    def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        return Watch(self._endpoints, self._znodes, prefix, self._clock, self._silence_ms).events()

    async def close(self) -> None:
        """Ends the sessions. A watch is ended by its consumer."""
        for server in self._endpoints.all:
            await server.close()

    async def _ask(self, request: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        return await self._endpoints.ask(
            lambda server, attempt: server.ask(lambda connection, _: request(connection), attempt)
        )
