"""The simulator's stores of several servers, asked by the real clients over simulated wires, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.store.conformance import StoreConformance
from twinstar.simulation.plan import StoreKind
from twinstar.simulation.stores.kinds import storage
from twinstar.simulation.stores.machines import StoreMachines
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Store
from twinstar.store.endpoints import Patience

CLIENT = "client"


class VirtualBackend:
    """As the conformance suite knows it, and what tests do to single servers."""

    PATIENCE = Patience(next_ms=50, deadline_ms=600, silence_ms=300)

    def __init__(self, kind: StoreKind, loop: VirtualLoop, seed: int) -> None:
        self.clock = VirtualClock(loop)
        self.wires = Wires(SeededRandomness(seed))
        store = storage(kind, self.wires, self.clock)
        assert isinstance(store, StoreMachines)
        self.storage: StoreMachines[Any] = store
        self._clients: list[Store] = []

    def open(self, cluster: str) -> Store:
        self._clients.append(self.storage.client(cluster, self.wires, Gate(), CLIENT, self.clock, self.PATIENCE))
        return self._clients[-1]

    def open_hasty(self, cluster: str) -> Store:
        """The same: to wait costs nothing."""
        return self.open(cluster)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.storage.close()

    async def hang(self) -> None:
        for number in range(3):
            self.storage.freeze(number)

    async def resume(self) -> None:
        self.storage.thaw()
        await self.elected()

    async def crash(self) -> None:
        self.storage.stop()

    async def restart(self) -> None:
        self.storage.start()
        await self.elected()

    async def elected(self) -> None:
        async with asyncio.timeout(20):
            while not self.storage.serves:  # noqa: ASYNC110 - the model has no such event
                await asyncio.sleep(0.01)

    def cut(self, host: str, *others: str) -> None:
        for other in others:
            self.wires.cut |= {(host, other), (other, host)}

    @property
    def leader(self) -> str:
        assert self.storage.majority.leader is not None
        host: str = self.storage.majority.leader.host
        return host

    def number_of(self, host: str) -> int:
        return self.storage.hosts.index(host)


Story = Callable[[VirtualBackend], Awaitable[None]]

PROMISES = sorted(name for name in vars(StoreConformance) if name.startswith("test_"))
"""What every store must do."""


def keeps(promise: str, kind: StoreKind) -> None:
    """One of them."""
    play(kind, getattr(StoreConformance(), promise))


def play(kind: StoreKind, story: Story, seed: int = 1, backend_of: type[VirtualBackend] = VirtualBackend) -> None:
    """A story about a store that serves."""
    loop = VirtualLoop()

    async def played() -> None:
        backend = backend_of(kind, loop, seed)
        await backend.restart()
        try:
            await story(backend)
        finally:
            await backend.close()

    run_virtually(played(), loop)
