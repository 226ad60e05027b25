"""Members of a store that fail one at a time, and what an agent does meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from tests.store.conformance import settled
from tests.store.servers import Process
from twinstar.model.errors import StoreUnavailable
from twinstar.store.base import Applied, Store, Unknown


class Members(Protocol):
    async def serves(self) -> None:
        """Returns when all do."""
        ...


@asynccontextmanager
async def opened(*stores: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def stopped(cluster: Members, member: Process) -> AsyncIterator[None]:
    member.stop()
    try:
        yield
    finally:
        member.signal(signal.SIGCONT)
        await cluster.serves()


@asynccontextmanager
async def killed(cluster: Members, member: Process, *, last: bool = True) -> AsyncIterator[None]:
    member.kill()
    try:
        yield
    finally:
        member.start()
        if last:
            await cluster.serves()


async def set_for_certain(store: Store, key: str, value: bytes) -> int:
    """As an agent does it while the store elects a leader: settles each doubt and tries again."""
    async with asyncio.timeout(30):
        while True:
            try:
                current = await store.read(key)
            except StoreUnavailable:
                continue
            expected = current.revision if current else 0
            outcome = await store.compare_and_set(key, value, expected)
            if isinstance(outcome, Applied):
                return outcome.revision
            if isinstance(outcome, Unknown) and current:
                await settled(store, key, expected)
