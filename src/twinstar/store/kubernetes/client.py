"""The Kubernetes API as the agent sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import (
    ABSENT,
    Applied,
    CasOutcome,
    Conflict,
    Unknown,
    Versioned,
    WatchEvent,
    check_size,
)
from twinstar.store.kubernetes.access import Access
from twinstar.store.kubernetes.api import DEFAULT_PATIENCE, Api, Patience
from twinstar.store.kubernetes.records import Records, Strange, revision_of
from twinstar.store.kubernetes.watch import Watch
from twinstar.store.race import Failed


class KubernetesStore:
    """Implements `store.base.Store`. Revisions are resource versions, so they grow over all objects there are."""

    def __init__(
        self,
        access: Access,
        namespace: str,
        cluster: str,
        clock: Clock,
        network: Network,
        *,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        """Connects to nothing yet."""
        self._records = Records(cluster, namespace)
        self._clock = clock
        self._api = Api(access, self._records, clock, network, patience)

    async def read(self, key: str) -> Versioned | None:
        found = await self._api.get(key)
        if found is None:
            return None
        try:
            value = self._records.read(found)
        except Strange as error:
            raise self._api.strange(error) from None
        self._api.seen = max(self._api.seen, value.revision)
        return value

    async def read_all(self, prefix: str) -> list[Versioned]:
        return [value for value in (await self._api.list()).values if value.key.startswith(prefix)]

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)
        document = self._records.written(key, value, expected_revision, self._clock.wall_ms())
        method, path = (
            ("POST", self._records.collection) if expected_revision == ABSENT else ("PUT", self._records.path(key))
        )
        try:
            said = await self._api.change(method, path, document)
            if said.missing:
                return Conflict(None)
            if said.status != 409:
                outcome = Applied(revision_of(said.document))
                self._api.seen = max(self._api.seen, outcome.revision)
                return outcome
            current = await self.read(key)
            if current is not None and current.revision == expected_revision:
                return Unknown(f"refused, although nothing has changed: {said.document.get('message')}")
            return Conflict(current)
        except Strange as error:
            return Unknown(f"the API server answers strangely: {error}")
        except Failed as error:
            return Unknown(str(error))
        except StoreUnavailable as error:  # refused for certain, but by what stands there we cannot say
            return Unknown(str(error))

    async def delete(self, key: str) -> None:
        try:
            await self._api.change("DELETE", self._records.path(key), None)
        except Failed as error:
            raise StoreUnavailable(f"The Kubernetes API does not answer as it should: {error}.") from error

    def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        return Watch(self._api, prefix).events()

    async def close(self) -> None:
        """Ends the idle connections. A watch is ended by its consumer."""
        await self._api.close()
