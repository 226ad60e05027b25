"""A simulated cluster: each member's agent (the real code), its guard's core (the real code), and its database; and
what can be done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from twinstar.config.derive import addresses
from twinstar.model.register import Register
from twinstar.simulation.agent import VirtualAgent
from twinstar.simulation.chronicle import Chronicle, speaker
from twinstar.simulation.client import Client
from twinstar.simulation.coverage import Scout
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.database.fleet import Fleet
from twinstar.simulation.faults.breaking import Breakable
from twinstar.simulation.files import CLUSTER, ROUTER, SECRET, Files, first_config, node
from twinstar.simulation.guard import VirtualGuard
from twinstar.simulation.member import Member, Process
from twinstar.simulation.people import People
from twinstar.simulation.plan import Plan
from twinstar.simulation.service import RouterMachine, Service
from twinstar.simulation.stores.attested import AttestedStore
from twinstar.simulation.stores.kinds import latency_ms, storage
from twinstar.simulation.stores.machines import StoreMachines
from twinstar.simulation.stores.memory import Faults, MemoryStore
from twinstar.simulation.witness import Witness
from twinstar.simulation.witness_node import WitnessNode
from twinstar.simulation.world.clocks import MachineClock, switched_on
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Store, root

_WATCH_MS = 5.0
_LOOK_MS = 50.0
"""Besides the moments at which it matters: when a leader begins, and before an agent is killed."""


class Cluster(Breakable):
    """Everything is decided by `seed`. Must be made inside the virtual loop."""

    def __init__(self, loop: VirtualLoop, seed: int, directory: Path, plan: Plan) -> None:
        super().__init__()
        self.seed, self.plan = seed, plan
        self.clock = VirtualClock(loop)
        self.chronicle = Chronicle(self.clock)
        self.randomness = SeededRandomness(seed)
        self.wires = Wires(self.randomness)
        self.server = storage(plan.store, self.wires, self.clock)
        self.store_latency_ms = latency_ms(self.server)
        self.witness = Witness(plan.maximum_lag_bytes, self.chronicle.tell, self.look, self._held_by)
        self._scout = Scout(self.witness.sometimes, self.chronicle.tell)
        self.server.noticed = self._noticed
        self.server.reached = lambda what: self.witness.sometimes.update([what])
        self.changed = asyncio.Event()
        """Set, and replaced, when the register has changed."""
        self.fleet = Fleet(self.clock, self.randomness, self.wires.passes, self.witness)
        self.directory = directory
        self.files = Files(first_config(plan, directory))
        self.names = tuple(each.name for each in self.files.wanted.nodes)
        """The members, as people see it."""
        self.members: dict[str, Member] = {}
        """Whoever is, or once was, a member."""
        for name in self.names:
            self.install(name)
        self.witness_node = self._witness_node() if plan.witness else None
        self.people = People(self, seed)
        self._decoded: tuple[int, Register | None] = (-1, None)
        self.registers: list[Register] = []
        """Every version that there ever was."""
        self._numbers = count(1)
        self._background: list[asyncio.Task[Any]] = []

    # -- life ---------------------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        self.server.start()
        for name in self.names:
            self.start(name)
        self.start_witness()
        self.aside(self._look_for_ever())

    def start(self, name: str) -> None:
        """Starts what is missing of a member's guard and agent."""
        member = self.members[name]
        if member.guard_process is None:
            self.start_guard(name)
        if member.agent_process is None:
            self.start_agent(name)

    def _witness_node(self) -> WitnessNode:
        files, wires = self.files, self.wires
        return WitnessNode(
            lambda: files.wanted, files.guard, SECRET, wires, self.fleet, self.directory, self._new_clock
        )

    def start_witness(self) -> None:
        """Unless it runs, or there is none."""
        if self.witness_node is not None:
            self.witness_node.start(self._process)

    def install(self, name: str) -> None:
        """A machine of its own for a new member, on which nothing runs yet."""
        address = addresses(node(name, self.directory)).database
        engine = VirtualEngine(name, address, self.fleet)
        self.members[name] = Member(name, address.host, engine, self._new_clock())
        if self.service is not None:
            self.service.add_front(engine)

    def start_guard(self, name: str) -> None:
        member, gate = self._switched_on(name), Gate()
        settings = self.files.guard(name)
        member.guard = VirtualGuard(settings, SECRET, member.engine, member.clock, member.record, member.guard_boot)
        network = VirtualNetwork(self.wires, gate, member.clock)
        member.guard_process = self._process(name, member.guard.run(network), gate)

    def start_agent(self, name: str) -> None:
        member, gate = self._switched_on(name), Gate()
        settings = self.files.agent(name, self.directory / f"{name}.json")
        store = self._store_for(gate, member.host, member.clock, member.store)
        member.store = store if isinstance(store, MemoryStore) else None
        member.doubts = member.store.faults if member.store else self.server.doubts_of(member.host)
        network = VirtualNetwork(self.wires, gate, member.clock, VirtualTransports(self.wires, gate, member.host))
        started = VirtualAgent.assembled(
            settings, lambda: self.files.of(name), store, member.engine, member.clock, self.randomness, network
        )
        member.agent = started.agent
        member.agent_process = self._process(name, started.run(), gate)

    def _store_for(self, gate: Gate, host: str, clock: MachineClock, before: MemoryStore | None) -> Store:
        """A new process's client of the store; what was wrong between the last one's host and the store still is."""
        if isinstance(self.server, StoreMachines):
            client, server = self.server.client(CLUSTER, self.wires, gate, host, clock), self.server
            return AttestedStore(client, lambda key: server.read(root(CLUSTER) + key), self.witness.breaches.append)
        store = MemoryStore(self.server, CLUSTER, clock, self.randomness)
        store.faults = before.faults if before else Faults(latency_ms=self.store_latency_ms)
        return store

    @staticmethod
    def _process(name: str, work: Coroutine[Any, Any, None], gate: Gate) -> Process:
        token = speaker.set(name)
        try:
            return Process(gate.spawn(work), gate)
        finally:
            speaker.reset(token)

    def _switched_on(self, name: str) -> Member:
        """The member, whose machine begins anew if it was off."""
        member = self.members[name]
        if member.host in self.wires.down:
            self.wires.down.discard(member.host)
            member.clock = self._new_clock()
        return member

    def _new_clock(self) -> MachineClock:
        return switched_on(self.clock.now_ms(), self.randomness)

    def client(self, choose: Callable[[], VirtualEngine | None] | None = None, pause_ms: float = 10.0) -> Client:
        """A client that writes from now on; to the leader by its own word, unless `choose` says otherwise."""
        client = Client(self.clock, choose or self._leading_engine, pause_ms, self._numbers)
        self.aside(client.write_for_ever())
        return client

    def aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that goes on beside the story."""
        self._background.append(asyncio.create_task(work))

    def open_service(self, pause_ms: float) -> Service:
        """A router, and clients that come through it from now on."""
        router = RouterMachine(
            lambda: self.files.of(ROUTER), self.wires, self._store_for, self._new_clock(), self.randomness
        )
        self.service = Service(router, self.wires, self.clock, self.seed)
        for member in self.members.values():
            self.service.add_front(member.engine)
        self.service.start(pause_ms)
        return self.service

    def _leading_engine(self) -> VirtualEngine | None:
        leader = self.leader()
        return leader.engine if leader else None

    def any_primary(self) -> VirtualEngine | None:
        """Any database that takes writes: the choice of a client that no router leads."""
        primaries = [m.engine for m in self.members.values() if m.engine.primary_run and m.engine.run]
        return primaries[int(self.randomness.between(0, len(primaries) - 0.001))] if primaries else None

    def end(self) -> None:
        """Kills everything: nothing is left to be tidied up."""
        processes = [process for member in self.members.values() for process in member.processes]
        processes += self.witness_node.processes if self.witness_node else []
        if self.service is not None and self.service.router.process is not None:
            processes.append(self.service.router.process)
        for process in processes:
            process.gate.kill()
        self.server.stop()

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _noticed(self, key: str, value: bytes, applied: bool) -> None:
        """The store was asked to change something."""
        if not key.endswith("/register"):
            return
        register = Register.decode(value)
        if not applied:
            self._scout.refused(register)
            return
        self.registers.append(register)
        self.witness.register(register)
        self._scout.changed(register)
        self.changed.set()
        self.changed = asyncio.Event()

    def look(self) -> None:
        """Tells the witness what is promised and open now."""
        for member in self.members.values():
            if member.agent is not None:
                self.witness.promised(member.name, member.agent.memory.now.promise)
                self.witness.opened(member.agent.body.opened)

    def _held_by(self, name: str) -> frozenset[int]:
        return self.members[name].engine.disk.safe_numbers()

    async def _look_for_ever(self) -> None:
        while True:
            self.look()
            await self.clock.sleep_ms(_LOOK_MS)

    @property
    def register(self) -> Register:
        """The register as the store has it now."""
        value = self.server.read(root(CLUSTER) + "register")
        assert value is not None, "there is no register yet"
        if value.revision != self._decoded[0]:
            self._decoded = value.revision, Register.decode(value.value)
        register = self._decoded[1]
        assert register is not None
        return register

    def leader(self) -> Member | None:
        """The member whose epoch is open by its own word."""
        if not self.registers_exist():
            return None
        register = self.register
        member = self.members.get(register.leader)
        if member is None or member.agent is None or not member.engine.primary_run or member.engine.stuck:
            return None
        return member if member.engine.run and member.agent.body.opened == register.epoch else None

    def registers_exist(self) -> bool:
        return self.server.read(root(CLUSTER) + "register") is not None

    def whole(self) -> bool:
        """An open leader, every member a copy that streams from it for its epoch, and everything as it is written."""
        leader, settings = self.leader(), self.files.settings
        if leader is None or not self.people.has_finished or self.register.durability is not settings.durability:
            return False
        register, members = self.register, set(self.names)
        copies = members - settings.nofailover | {register.leader}
        if register.copies != copies or register.required != min(settings.required, len(copies) - 1):
            return False
        there = {each.member for each in leader.engine.senders if each.streaming and each.epoch == register.epoch}
        return there >= members - {leader.name}

    def check(self) -> None:
        """Raises AssertionError when an invariant is broken, or an agent or guard has ended by itself."""
        if self.service is not None:
            self.service.check()
        self.people.check()
        for member in self.members.values():
            for process in member.processes:
                if process.task.done():
                    self.witness.breaches.append(f"a process of {member.name} ended: {process.task!r}")
        for process in self.witness_node.processes if self.witness_node else ():
            if process.task.done():
                self.witness.breaches.append(f"a process of the witness ended: {process.task!r}")
        self.witness.check()

    async def until(self, what: str, condition: Callable[[], object], within_ms: float = 30_000) -> float:
        """Waits on virtual time; how long it took, in ms. Raises AssertionError, with the state, if too long."""
        began = self.clock.now_ms()
        while not condition():
            if self.witness.breaches or self.clock.now_ms() - began > within_ms:
                self.check()
                raise AssertionError(f"not {what} after {within_ms:.0f} ms: {self.describe()}")
            await self.clock.sleep_ms(_WATCH_MS)
        return self.clock.now_ms() - began

    def describe(self) -> str:
        lines = [f"register {self.register if self.registers_exist() else 'absent'}"]
        for member in self.members.values():
            agent, engine = member.agent, member.engine
            said = f"{agent.plan.state} {agent.plan.note} {agent.lane.effect} {agent.lane.trouble}" if agent else "dead"
            promise = agent.memory.now.promise if agent else "?"
            lines.append(
                f"{member.name}: run {engine.run!r} primary {engine.primary_run} at {engine.disk.position} "
                f"follows {engine.disk.upstream and engine.disk.upstream.member} promise {promise}: {said}"
            )
        return "\n".join(lines)
