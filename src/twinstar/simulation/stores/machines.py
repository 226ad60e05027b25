"""A store on machines of its own, of whatever kind: the processes of its servers, and what is done to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.simulation.stores.majority import Majority, S
from twinstar.simulation.stores.memory import MemoryServer
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import Ear
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Store
from twinstar.store.endpoints import DEFAULT_PATIENCE, Patience

HOSTS = ("10.0.3.1", "10.0.3.2", "10.0.3.3")


class StoreMachines(MemoryServer, ABC, Generic[S]):
    """What such a store holds in all, and the processes of its servers: started, killed, frozen. They begin stopped."""

    LATENCY_MS: ClassVar[tuple[float, float]]
    """Of its network, one way."""
    PORT: ClassVar[int]

    def __init__(self, majority: Majority[S, Any], serve: Callable[[S, Gate], asyncio.Protocol]) -> None:
        """`serve`: a connection that a client has made."""
        super().__init__()
        self.running = False
        self.majority, self._serve = majority, serve
        self._elections = asyncio.create_task(majority.run())

    @abstractmethod
    def client(
        self, cluster: str, wires: Wires, gate: Gate, host: str, clock: Clock, patience: Patience = DEFAULT_PATIENCE
    ) -> Store:
        """The real client, for a process on `host`."""

    @property
    def hosts(self) -> list[str]:
        """Which machines clients reach."""
        return [server.host for server in self.majority.servers]

    @property
    def serves(self) -> bool:
        """Whether each of them answers as it should."""
        return all(map(self.majority.serves, self.majority.servers))

    @property
    def addresses(self) -> list[str]:
        return [str(Address(host, self.PORT)) for host in self.hosts]

    def start(self) -> None:
        """Of each server that does not run: what its disk holds it serves."""
        self.running = True
        for server in self.majority.servers:
            if server.gate is None:
                self._start(server)

    def stop(self) -> None:
        self.running = False
        for number in range(len(self.majority.servers)):
            self.kill(number)

    async def close(self) -> None:
        self.stop()
        self._elections.cancel()
        await asyncio.gather(self._elections, super().close(), return_exceptions=True)

    def elect(self) -> None:
        """The servers lose their leader, and are without one for some seconds."""
        self.majority.elect()

    def kill(self, number: int) -> None:
        """One of the servers, until `start`."""
        server = self.majority.servers[number]
        gate, server.gate = server.gate, None
        if gate is not None:
            gate.kill()

    def freeze(self, number: int) -> None:
        gate = self.majority.servers[number].gate
        if gate is not None:
            gate.shut()

    def thaw(self) -> None:
        """All that were frozen."""
        for server in self.majority.servers:
            if server.gate is not None:
                server.gate.open()

    def compact(self) -> None:
        """What has changed so far is forgotten; what stands is not. Nothing, unless a kind has it."""

    def _start(self, server: S) -> None:
        server.gate = gate = Gate()
        server.begin()
        Ear(self.majority.wires, Address(server.host, self.PORT), lambda: self._serve(server, gate), gate)
