"""What can be done to a simulated cluster. Each fault lasts until it is undone, at the latest by `heal`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from twinstar.guard.core import Record
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.member import Member
from twinstar.simulation.service import ROUTER_HOST, Service
from twinstar.simulation.stores.machines import StoreMachines
from twinstar.simulation.stores.memory import MemoryServer
from twinstar.simulation.witness import Witness
from twinstar.simulation.witness_node import HOST as WITNESS_HOST
from twinstar.simulation.witness_node import WitnessNode
from twinstar.simulation.world.virtual_time import VirtualClock
from twinstar.simulation.world.wires import Weather, Wires


class Breakable:
    """Members, wires and a store, and their faults. Members are called by name."""

    members: dict[str, Member]
    wires: Wires
    server: MemoryServer
    fleet: Fleet
    witness: Witness
    clock: VirtualClock
    directory: Path
    store_latency_ms: tuple[float, float]
    """Of a healthy store."""

    def __init__(self) -> None:
        self._flapping: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.service: Service | None = None
        self.witness_node: WitnessNode | None = None

    # -- death --------------------------------------------------------------------------------------------------------

    async def kill_agent(self, name: str) -> None:
        self.look()
        member = self.members[name]
        process, member.agent_process, member.agent = member.agent_process, None, None
        if process is not None:
            await process.kill()

    async def kill_guard(self, name: str) -> None:
        member = self.members[name]
        process, member.guard_process = member.guard_process, None
        if process is not None and member.guard is not None:
            await process.kill()
            member.record, member.guard_boot = member.guard.record, member.guard.boot

    async def kill_node(self, name: str) -> None:
        """The machine loses its power: agent, guard and database at once, and from then on it is silent. What the guard
        remembers has or has not reached the disk.
        """
        member = self.members[name]
        self.wires.down.add(member.host)
        member.engine.end_at_once()
        await self.kill_agent(name)
        await self.kill_guard(name)
        member.engine.end_at_once()
        member.engine.frozen = False
        if self.fleet.chance(0.5):
            member.record, member.guard_boot = Record(), 0

    async def lose_disk(self, name: str) -> None:
        """A node dies and comes back with nothing: neither data nor promise."""
        await self.kill_node(name)
        member = self.members[name]
        member.engine.lose_disk()
        member.record, member.guard_boot = Record(), 0
        (self.directory / f"{name}.json").unlink(missing_ok=True)
        self.witness.lost_disk(name)

    def kill_agent_between_steps(self, name: str, steps: int) -> None:
        """The agent is killed when it has taken so many further steps: between any two awaits."""
        process = self.members[name].agent_process
        if process is not None:
            process.gate.shut_after(steps, lambda: self.aside(self.kill_agent(name)))

    # -- standing still -----------------------------------------------------------------------------------------------

    def freeze(self, name: str) -> None:
        """Every process of the node is stopped (SIGSTOP): silent, and no connection is reset."""
        member = self.members[name]
        member.engine.frozen = True
        for process in member.processes:
            process.gate.shut()

    def freeze_between_steps(self, name: str, steps: int) -> None:
        """The node is frozen when its agent has taken so many further steps: right after an answer from the store, or
        right before an effect.
        """
        process = self.members[name].agent_process
        if process is not None:
            process.gate.shut_after(steps, lambda: self.freeze(name))

    def freeze_agent_between_steps(self, name: str, steps: int) -> None:
        """As `freeze_between_steps`, for the agent alone."""
        process = self.members[name].agent_process
        if process is not None:
            process.gate.shut_after(steps)

    def suspend(self, name: str) -> None:
        """The machine sleeps: as frozen, it is not even reached, and its timers stand still; its boot clock counts."""
        self.freeze(name)
        self.wires.asleep.add(self.members[name].host)
        self.members[name].clock.fall_asleep()

    def pause_machine(self, name: str) -> None:
        """A virtual machine is paused: as asleep, and to all its clocks no time passes. Durability `async` does not
        protect against it.
        """
        self.freeze(name)
        self.wires.asleep.add(self.members[name].host)
        self.members[name].clock.stand_still()

    def thaw(self, name: str) -> None:
        """Undoes every kind of standing still."""
        member = self.members[name]
        self.wires.asleep.discard(member.host)
        member.clock.wake_up()
        member.engine.frozen = False
        member.engine.tell()
        for process in member.processes:
            process.gate.open()

    # -- clocks -------------------------------------------------------------------------------------------------------

    def skew(self, name: str, by_ms: float) -> None:
        """Somebody sets the machine's time of day forward or back; it is never set right again."""
        self.members[name].clock.step_wall(by_ms)

    def rate(self, name: str, rate: float) -> None:
        """The machine's seconds in a true one from now on. Beyond a half per cent off, durability `async` does not
        protect against it; nothing in `quorum` rests on it.
        """
        self.members[name].clock.set_rate(rate)

    # -- the network --------------------------------------------------------------------------------------------------

    def isolate(self, name: str, store: bool = True) -> None:
        """Nothing passes between the node and the others, nor (`store`) between it and the store."""
        host = self.members[name].host
        self.wires.silent.add(host)
        if store:
            self.cut_store(name)
        else:
            self.wires.kept |= self._to_store(host)

    def rejoin(self, name: str) -> None:
        host = self.members[name].host
        self.wires.silent.discard(host)
        self.wires.kept -= self._to_store(host)
        self.cut_store(name, False)

    def cut_store(self, name: str, cut_off: bool = True) -> None:
        """Nothing passes between the node and the store; the members still hear it."""
        member = self.members[name]
        if member.store is not None:
            member.store.faults.cut_off = cut_off
        pairs = self._to_store(member.host)
        self.wires.cut = self.wires.cut | pairs if cut_off else self.wires.cut - pairs

    def _to_store(self, host: str) -> set[tuple[str, str]]:
        """Both ways, where the store is on machines of its own."""
        return {pair for each in self._store_hosts for pair in ((host, each), (each, host))}

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two nodes, in either direction."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def cut_one_way(self, source: str, target: str) -> None:
        """What the one sends does not reach the other; what the other sends arrives."""
        self.wires.cut.add((self.members[source].host, self.members[target].host))

    def deafen(self, name: str) -> None:
        """The node is heard by the other members and hears none of them."""
        for other in self.members.keys() - {name}:
            self.cut_one_way(other, name)

    def mute(self, name: str) -> None:
        """The node hears the other members, and none of them hears it."""
        for other in self.members.keys() - {name}:
            self.cut_one_way(name, other)

    def lossy(self, one: str, other: str, weather: Weather) -> None:
        """Bad weather between two nodes, in both directions."""
        a, b = self.members[one].host, self.members[other].host
        self.wires.between[a, b] = self.wires.between[b, a] = weather

    def flap(self, one: str, other: str, up_ms: float, down_ms: float) -> None:
        """The link between two nodes is cut and whole again, over and over."""
        pair = (self.members[one].host, self.members[other].host)
        if pair not in self._flapping:
            self._flapping[pair] = asyncio.create_task(self._flap(*pair, up_ms, down_ms))

    async def _flap(self, a: str, b: str, up_ms: float, down_ms: float) -> None:
        while True:
            self.wires.cut |= {(a, b), (b, a)}
            await self.clock.sleep_ms(down_ms)
            self.wires.cut -= {(a, b), (b, a)}
            await self.clock.sleep_ms(up_ms)

    # -- the router, if there is one ----------------------------------------------------------------------------------

    async def kill_router(self) -> None:
        """Its sessions are reset; new ones are refused until `start_router`."""
        if self.service is not None:
            await self.service.router.kill()

    def start_router(self) -> None:
        if self.service is not None:
            self.service.router.start()

    def freeze_router(self) -> None:
        """Its process is stopped: whoever connects is let in by its kernel, and nothing more happens."""
        process = self.service.router.process if self.service else None
        if process is not None:
            process.gate.shut()

    def freeze_router_between_steps(self, steps: int) -> None:
        process = self.service.router.process if self.service else None
        if process is not None:
            process.gate.shut_after(steps)

    def thaw_router(self) -> None:
        process = self.service.router.process if self.service else None
        if process is not None:
            process.gate.open()

    def cut_router(self, name: str) -> None:
        """Nothing passes between the router and a node."""
        host = self.members[name].host
        self.wires.cut |= {(ROUTER_HOST, host), (host, ROUTER_HOST)}

    def cut_router_from_store(self, cut_off: bool = True) -> None:
        store, pairs = self.service.router.store if self.service else None, self._to_store(ROUTER_HOST)
        if store is not None:
            store.faults.cut_off = cut_off
        self.wires.cut = self.wires.cut | pairs if cut_off else self.wires.cut - pairs

    # -- the store ----------------------------------------------------------------------------------------------------

    def slow_store(self, latency_ms: tuple[float, float]) -> None:
        """One way, from and to, for everybody."""
        for member in self.members.values():
            for pair in self._to_store(member.host):
                self.wires.between[pair] = Weather(latency_ms)
            if member.store is not None:
                member.store.faults.latency_ms = latency_ms

    def elect_store_leader(self) -> None:
        """The store refuses nothing and does nothing for a second or two. Of servers alone, as all below."""
        if isinstance(self.server, StoreMachines):
            self.server.elect()

    def kill_store_server(self, number: int) -> None:
        """One of three; `heal` and `server.start` bring it back."""
        if isinstance(self.server, StoreMachines):
            self.server.kill(number)

    def cut_store_server(self, number: int) -> None:
        """One of three is cut off from the other two; clients reach it."""
        hosts = self._store_hosts
        for host in hosts[number : number + 1]:
            for other in set(hosts) - {host}:
                self.wires.cut |= {(host, other), (other, host)}

    def freeze_store_server(self, number: int) -> None:
        if isinstance(self.server, StoreMachines):
            self.server.freeze(number)

    def thaw_store(self) -> None:
        if isinstance(self.server, StoreMachines):
            self.server.thaw()

    def compact_store(self) -> None:
        """What has changed so far is forgotten; what stands is not."""
        if isinstance(self.server, StoreMachines):
            self.server.compact()

    @property
    def _store_hosts(self) -> Sequence[str]:
        """Where the store is on machines of its own."""
        return self.server.hosts if isinstance(self.server, StoreMachines) else ()

    # -- the end of it ------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Every network is whole, every store answers, every process goes on, every clock runs as it should."""
        for flapping in self._flapping.values():
            flapping.cancel()
        self._flapping.clear()
        self.wires.cut.clear()
        self.wires.between.clear()
        self.server.start()
        self.thaw_store()
        self.thaw_router()
        self.start_router()
        if self.witness_node is not None:
            self.wires.silent.discard(WITNESS_HOST)
            self.witness_node.thaw()
        self.cut_router_from_store(False)
        self.slow_store(self.store_latency_ms)
        for name, member in self.members.items():
            self.rejoin(name)
            self.rate(name, 1.0)
            self.thaw(name)
            member.engine.mend()
            if member.engine.starting:  # people end that: nobody can tell it from a long recovery
                member.engine.hung = False
            if member.doubts is not None:
                member.doubts.end()

    def look(self) -> None:
        """Tells the witness what is promised and open now."""
        raise NotImplementedError

    def aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that goes on beside the story."""
        raise NotImplementedError
