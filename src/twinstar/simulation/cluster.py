"""A simulated cluster: each member's agent (the real code), its guard's core (the real code), and its database."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from twinstar.agent.agent import Agent
from twinstar.agent.peers import PeerAddresses
from twinstar.agent.settings import AgentSettings
from twinstar.guard.core import (
    Ended,
    Event,
    GuardCore,
    Knock,
    Knocked,
    Look,
    Received,
    Seen,
    Send,
    Sweep,
    Swept,
    Tick,
    Watch,
)
from twinstar.guard.settings import GuardPeer, GuardSettings
from twinstar.model.address import Address
from twinstar.model.register import Durability, Register
from twinstar.model.timing import Timings
from twinstar.model.view import Settings
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports.network import Datagrams
from twinstar.simulation.database import Fleet, VirtualEngine
from twinstar.simulation.memory_store import MemoryServer, MemoryStore
from twinstar.simulation.network import VirtualNetwork, Wires
from twinstar.simulation.virtual_time import SeededRandomness, VirtualClock, VirtualLoop
from twinstar.store.base import root

_SECRET = b"simulated"
_CLUSTER = "simulated"


class VirtualGuard:
    """Drives a guard's core on virtual time."""

    def __init__(self, settings: GuardSettings, engine: VirtualEngine, clock: VirtualClock) -> None:
        self._settings, self._engine, self._clock = settings, engine, clock
        self._core = GuardCore(settings, clock.now_ms())
        self._sender = Sender(_CLUSTER, _SECRET, settings.member, Part.GUARD, clock.wall_ms() + 1)
        self._inbox = Inbox(_CLUSTER, _SECRET)
        self._datagrams: Datagrams | None = None
        self._woken = asyncio.Event()

    async def run(self, network: VirtualNetwork) -> None:
        self._datagrams = await network.open_datagrams(self._settings.bind, self._receive)
        try:
            while True:
                self._step(Tick())
                pause = max(0.5, self._core.next_wake_ms() - self._clock.now_ms())
                self._woken.clear()
                try:
                    async with self._clock.timeout_ms(pause):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            self._datagrams.close()

    def _receive(self, data: bytes, _: Address) -> None:
        envelope = self._inbox.open(data)
        if envelope is not None:
            self._step(Received(envelope))
            self._woken.set()

    def _step(self, first: Event) -> None:
        events = deque([first])
        while events:
            for effect in self._core.step(events.popleft(), self._clock.now_ms()):
                match effect:
                    case Send(heartbeat, guards):
                        self._send(self._sender.pack(heartbeat), guards)
                    case Look() if self._engine.run:
                        events.append(Seen(self._engine.run))
                    case Watch(run):
                        asyncio.ensure_future(self._watch(run))
                    case Sweep(_, kill):
                        if kill and self._engine.run:
                            asyncio.ensure_future(self._engine.crash())
                        events.append(Swept(0))
                    case Knock():
                        events.append(Knocked(not self._engine.hung))
                    case _:
                        pass

    async def _watch(self, run: str) -> None:
        if self._engine.run == run:
            await self._engine.ended()
        self._step(Ended(run))
        self._woken.set()

    def _send(self, data: bytes, guards: bool) -> None:
        assert self._datagrams is not None
        self._datagrams.send(self._settings.agent, data)
        for peer in self._settings.peers:
            self._datagrams.send(peer.agent, data)
            if guards:
                self._datagrams.send(peer.guard, data)


@dataclass(slots=True)
class Member:
    name: str
    engine: VirtualEngine
    agent: Agent | None = None
    tasks: tuple[asyncio.Task[None], ...] = ()


class Cluster:
    """`size` members, `durability`, everything decided by `seed`. Must be made inside the virtual loop."""

    def __init__(self, loop: VirtualLoop, seed: int, size: int, directory: Path, durability: Durability) -> None:
        self.clock = VirtualClock(loop)
        self.randomness = SeededRandomness(seed)
        self.wires = Wires(self.randomness)
        self.server = MemoryServer()
        self.fleet = Fleet(self.clock, self.randomness, self.wires.passes)
        self._directory, self._durability = directory, durability
        self._names = tuple(f"n{i}" for i in range(1, size + 1))
        self._addresses = {
            m: PeerAddresses(Address(f"10.0.0.{i}", 1), Address(f"10.0.0.{i}", 2), Address(f"10.0.0.{i}", 5432))
            for i, m in enumerate(self._names, 1)
        }
        self.members = {m: Member(m, VirtualEngine(m, a.database, self.fleet)) for m, a in self._addresses.items()}

    def start(self, name: str) -> None:
        """Starts a member's guard and agent."""
        member, timings = self.members[name], Timings.preset("fast")
        network = VirtualNetwork(self.wires)
        guard = VirtualGuard(self._guard_settings(name, timings), member.engine, self.clock)
        rules = Settings(
            self._names, self._durability, len(self._names) // 2, "block",
            election_timeout_ms=timings.election_timeout_ms, lease_ms=2_000,
        )  # fmt: skip
        settings = AgentSettings(
            _CLUSTER, name, _SECRET, rules, timings, self._addresses, self._directory / f"{name}.json"
        )
        store = MemoryStore(self.server, _CLUSTER, self.clock, self.randomness)
        engine = member.engine
        agent = Agent(settings, store, engine, self.clock, self.randomness, network, engine.peer_answers)
        member.agent = agent
        member.tasks = (asyncio.create_task(guard.run(network)), asyncio.create_task(agent.run()))

    def start_all(self) -> None:
        for name in self._names:
            self.start(name)

    async def kill_node(self, name: str) -> None:
        """Agent, guard and database at once."""
        member = self.members[name]
        for task in member.tasks:
            task.cancel()
        await member.engine.crash()
        await asyncio.gather(*member.tasks, return_exceptions=True)
        member.agent = None

    def freeze(self, name: str) -> None:
        """The member neither sends nor receives any more; its processes live on."""
        self.wires.silent.add(self._addresses[name].agent.host)

    def thaw(self, name: str) -> None:
        self.wires.silent.discard(self._addresses[name].agent.host)

    @property
    def register(self) -> Register | None:
        """The register as the store has it now."""
        value = self.server.read(root(_CLUSTER) + "register")
        return Register.decode(value.value) if value else None

    def leader(self) -> Member | None:
        """The member whose epoch is open by its own word."""
        register = self.register
        if register is None or not register.leader:
            return None
        member = self.members[register.leader]
        opened = member.agent is not None and member.agent.body.opened == register.epoch
        return member if opened and member.engine.primary_run else None

    async def until(self, what: str, condition: object, within_ms: float = 30_000) -> float:
        """Waits on virtual time; how long it took, in ms. Raises AssertionError with the state when it does not come."""
        began = self.clock.now_ms()
        assert callable(condition)
        while not condition():
            if self.clock.now_ms() - began > within_ms:
                raise AssertionError(f"not {what} after {within_ms:.0f} ms: {self.describe()}")
            await self.clock.sleep_ms(5)
        return self.clock.now_ms() - began

    def describe(self) -> str:
        lines = [f"register {self.register}"]
        for member in self.members.values():
            agent = member.agent
            said = f"{agent.plan.state} {agent.plan.note} {agent.lane.effect} {agent.lane.trouble}" if agent else "dead"
            lines.append(f"{member.name}: run {member.engine.run!r} primary {member.engine.primary_run} {said}")
        return "\n".join(lines)

    def _guard_settings(self, name: str, timings: Timings) -> GuardSettings:
        own = self._addresses[name]
        return GuardSettings(
            cluster=_CLUSTER, member=name, secret_file="/none", bind=own.guard, agent=own.agent,
            data_directory="/none", state_file="/none",
            peers=tuple(GuardPeer(m, a.agent, a.guard) for m, a in self._addresses.items() if m != name),
            durability=self._durability.value, lease_ms=2_000, heartbeat_ms=timings.heartbeat_ms,
            stall_ms=timings.stall_ms, agent_silent_ms=timings.agent_silent_ms,
        )  # fmt: skip
