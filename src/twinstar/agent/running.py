"""One member's parts, put together and ready to run, whatever the strategy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twinstar.api.server import Server
from twinstar.store.base import Store


@dataclass(frozen=True, slots=True)
class Running:
    api: Server
    store: Store
    start_api: Callable[[], Awaitable[None]]
    work: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
    """What runs for ever."""

    async def serve(self) -> None:
        """Runs until cancelled. Raises EnvironmentTrouble when it cannot begin, and what its parts raise."""
        await self.start_api()
        async with asyncio.TaskGroup() as tasks:
            for each in self.work:
                tasks.create_task(each())

    async def close(self) -> None:
        await self.api.close()
        await self.store.close()
