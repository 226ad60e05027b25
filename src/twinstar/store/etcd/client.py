"""etcd as the agent sees it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence

from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import Applied, CasOutcome, Conflict, Versioned, WatchEvent, check_size, root
from twinstar.store.endpoints import DEFAULT_PATIENCE, Endpoints, Patience
from twinstar.store.etcd.endpoint import Endpoint, Login, Session
from twinstar.store.etcd.messages import Json, Keys
from twinstar.store.etcd.watch import Watch
from twinstar.store.race import Attempt


class EtcdStore:
    """Implements `store.base.Store`. Revisions are etcd's own, so they grow over all keys of all clusters."""

    def __init__(
        self,
        urls: Sequence[str],
        cluster: str,
        clock: Clock,
        network: Network,
        *,
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        """Connects to nothing yet. Raises UsageError when an endpoint is no URL."""
        session = Session(network, tls or _public_authorities(urls), login)
        self._keys = Keys(root(cluster))
        self._clock = clock
        self._silence_ms = patience.silence_ms
        self._endpoints = Endpoints("etcd", [Endpoint(url, session) for url in urls], clock, patience)

    async def read(self, key: str) -> Versioned | None:
        found = self._keys.listing(await self._ask("/kv/range", self._keys.range_one(key)))
        return found.values[0] if found.values else None

    async def read_all(self, prefix: str) -> list[Versioned]:
        return self._keys.listing(await self._ask("/kv/range", self._keys.range_all(prefix))).values

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)
        request = self._keys.compare_and_set(key, value, expected_revision)

        async def ask(endpoint: Endpoint, attempt: Attempt) -> Applied | Conflict:
            return self._keys.outcome(await endpoint.ask("/kv/txn", request, attempt))

        return await self._endpoints.compare_and_set(ask)

    async def delete(self, key: str) -> None:
        await self._ask("/kv/deleterange", self._keys.range_one(key))

    def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        return Watch(self._endpoints, self._keys, prefix, self._clock, self._silence_ms).events()

    async def close(self) -> None:
        """Ends the idle connections. A watch is ended by its consumer."""
        for endpoint in self._endpoints.all:
            await endpoint.close()

    async def _ask(self, path: str, request: Json) -> Json:
        return await self._endpoints.ask(lambda endpoint, attempt: endpoint.ask(path, request, attempt))


def _public_authorities(urls: Sequence[str]) -> ssl.SSLContext | None:
    """For ``https://`` without a configured authority: the ones that the machine trusts."""
    return ssl.create_default_context() if any(url.startswith("https:") for url in urls) else None
