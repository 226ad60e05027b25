"""A simulated machine without a database: a guard's core and a witness's agent, the real code both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twinstar.agent.witness import witness_agent
from twinstar.config.derive import witness_named
from twinstar.config.schema import Config
from twinstar.config.schema import Witness as WitnessSettings
from twinstar.guard.core import Record
from twinstar.guard.settings import GuardSettings
from twinstar.model.address import Address
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.guard import VirtualGuard
from twinstar.simulation.member import Process
from twinstar.simulation.world.clocks import MachineClock
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires

NAME = "w1"
HOST = "10.0.5.1"


def settings(directory: Path) -> WitnessSettings:
    """What the file says of it."""
    raw = {"name": NAME, "host": HOST, "agent_port": 1, "guard_port": 2, "directory": directory / NAME}
    return WitnessSettings.model_validate(raw)


class WitnessNode:
    def __init__(
        self,
        read: Callable[[], Config],
        guard: Callable[[str], GuardSettings],
        secret: bytes,
        wires: Wires,
        fleet: Fleet,
        directory: Path,
        new_clock: Callable[[], MachineClock],
    ) -> None:
        """`read` gives its file, `guard` what its guard is started with."""
        self._read, self._guard, self._secret = read, guard, secret
        self._wires, self._new_clock = wires, new_clock
        self._state_file = directory / f"{NAME}.json"
        self._no_database = VirtualEngine(NAME, Address(HOST, 5432), fleet)
        self._clock = new_clock()
        self._record = Record()
        self._boot = 0
        self._running: VirtualGuard | None = None
        self.processes: list[Process] = []

    def start(self, spawn: Callable[..., Process]) -> None:
        """Unless it runs. `spawn` makes a process of a name, its work and its gate."""
        if self.processes:
            return
        if HOST in self._wires.down:
            self._wires.down.discard(HOST)
            self._clock = self._new_clock()
        gate = Gate()
        self._running = VirtualGuard(
            self._guard(NAME), self._secret, self._no_database, self._clock, self._record, self._boot
        )
        guard = spawn(NAME, self._running.run(VirtualNetwork(self._wires, gate, self._clock)), gate)
        gate, config = Gate(), self._read()
        own = witness_named(config, NAME)
        assert own is not None
        network = VirtualNetwork(self._wires, gate, self._clock, VirtualTransports(self._wires, gate, HOST))
        probe = self._no_database.peer_answers
        agent = witness_agent(config, own, self._secret, self._state_file, self._clock, network, probe)
        self.processes = [guard, spawn(NAME, agent.run(), gate)]

    async def kill(self) -> None:
        """The machine loses its power."""
        self._wires.down.add(HOST)
        processes, self.processes = self.processes, []
        for process in processes:
            await process.kill()
        if self._running is not None:
            self._record, self._boot = self._running.record, self._running.boot

    def freeze(self, agent_alone: bool) -> None:
        for process in self.processes[1:] if agent_alone else self.processes:
            process.gate.shut()

    def thaw(self) -> None:
        for process in self.processes:
            process.gate.open()
