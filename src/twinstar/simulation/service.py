"""What stands between clients and databases: a router (the real code) on a machine of its own, and clients behind it.

The router may be killed, frozen, cut off and started again like everything else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import count

from twinstar.config.derive import addresses
from twinstar.config.schema import Config
from twinstar.histories.lists import Order, check_lists
from twinstar.histories.operation import Kind, Operation
from twinstar.histories.verdict import Refused
from twinstar.model.address import Address
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports.randomness import Randomness
from twinstar.router.base import Role
from twinstar.router.builtin import BuiltinRouter
from twinstar.router.watcher import REGISTER, Watcher
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.database.front import Front
from twinstar.simulation.files import CLUSTER, SECRET
from twinstar.simulation.member import Process
from twinstar.simulation.sessions import FIRST_NUMBER, SessionClient
from twinstar.simulation.stores.memory import MemoryStore
from twinstar.simulation.world.clocks import MachineClock
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.virtual_time import VirtualClock
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Store

ROUTER_HOST = "10.0.1.1"
_CLIENTS_HOST = "10.0.2.1"
_PORTS = {Role.WRITE: 6432, Role.READ: 6433}
_MAX_HOLD_MS = 5_000.0
_APPENDS = 0.6


class RouterMachine:
    """The router's process, or the lack of it."""

    def __init__(
        self,
        read: Callable[[], Config],
        wires: Wires,
        store_for: Callable[[Gate, str, MachineClock, MemoryStore | None], Store],
        clock: MachineClock,
        randomness: Randomness,
    ) -> None:
        """`read` gives the machine's file as it is when it is asked."""
        self._read, self._wires = read, wires
        self._store_for, self.clock, self._randomness = store_for, clock, randomness
        self.process: Process | None = None
        self.router: BuiltinRouter | None = None
        self.store: MemoryStore | None = None
        """Of the embedded kind, for its faults."""

    def start(self) -> None:
        if self.process is None:
            gate = Gate()
            self.process = Process(gate.spawn(self._run(gate)), gate)

    async def kill(self) -> None:
        """Its host stays: clients are told at once that nobody is there."""
        process, self.process, self.router = self.process, None, None
        if process is not None:
            await process.kill()

    async def _run(self, gate: Gate) -> None:
        """As `router/__main__.py` puts it together."""
        nodes = {each.name: addresses(each) for each in self._read().nodes}
        transports = VirtualTransports(self._wires, gate, ROUTER_HOST)
        router = self.router = BuiltinRouter(
            {name: own.database for name, own in nodes.items()},
            {role: (endpoint(role),) for role in _PORTS},
            transports,
            self.clock,
            max_hold_ms=_MAX_HOLD_MS,
            max_sessions=100,
        )
        await router.start()
        name = f"router-{self._randomness.token()}"
        watcher = Watcher(
            {name: own.agent for name, own in nodes.items()},
            Sender(CLUSTER, SECRET, name, Part.ROUTER, self.clock.wall_ms()),
            Inbox(CLUSTER, SECRET),
            self.clock,
            router.follow,
        )
        network = VirtualNetwork(self._wires, gate, self.clock)
        store = self._store_for(gate, ROUTER_HOST, self.clock, self.store)
        self.store = store if isinstance(store, MemoryStore) else None
        async with aclosing(store.watch(REGISTER)) as events:
            await watcher.run(network, Address(ROUTER_HOST, 7000), events)


def endpoint(role: Role) -> Address:
    return Address(ROUTER_HOST, _PORTS[role])


class Service:
    """Fronts of all databases, the router, two clients that write and read, and two that read: on the leader, and on
    standbys.
    """

    def __init__(self, router: RouterMachine, wires: Wires, clock: VirtualClock, seed: int) -> None:
        self.router = router
        self.history: list[Operation] = []
        self._wires, self._clock = wires, clock
        self._fronts: list[Front] = []
        self._chance = random.Random(f"clients {seed}")
        self._numbers = count(FIRST_NUMBER)
        self._tasks: list[asyncio.Task[None]] = []
        self.clients: list[SessionClient] = []

    def start(self, pause_ms: float) -> None:
        self.router.start()
        for name in ("w1", "w2"):
            self.add_client(name, Role.WRITE, pause_ms)
        for name, role in (("q1", Role.WRITE), ("r1", Role.READ)):
            self.add_client(name, role, pause_ms, appends=0.0)

    def add_front(self, engine: VirtualEngine) -> None:
        front = Front(engine, self._wires)
        self._fronts.append(front)
        self._tasks.append(asyncio.create_task(front.run()))

    def add_client(self, name: str, role: Role, pause_ms: float, appends: float = _APPENDS) -> SessionClient:
        client = SessionClient(
            name, role, endpoint(role), VirtualTransports(self._wires, Gate(), _CLIENTS_HOST), self._clock,
            self._chance, self._numbers, self.history, pause_ms, appends,
        )  # fmt: skip
        self.clients.append(client)
        self._tasks.append(asyncio.create_task(client.run()))
        return client

    def served_all_since(self, answered: list[int]) -> bool:
        """Whether each client has had an answer to a read since it had so many."""
        return all(client.answered > before for client, before in zip(self.clients, answered, strict=True))

    def breaches(self, leader: VirtualEngine, given_up: Callable[[int], bool], *, standbys_last: bool) -> list[str]:
        """What clients were told and is not so, now that `leader` leads and everybody has been served. What was
        lawfully `given_up` is left out of what they were told.

        Through the `write` endpoint of one router every list is linearizable. Through `read` a standby shows what it
        has replayed, which may be old; where one confirmation is required it is not taken back (`standbys_last`).
        """
        reads, lasting = (Order.REAL_TIME, self._of(Role.WRITE)), (Order.SESSION, self._of(Role.READ))
        appends = [each for each in self.history if each.kind is Kind.APPEND]
        appends += [client.under_way for client in self.clients if client.under_way is not None]
        ends = [self._end_of(key, leader) for key in dict.fromkeys(each.key for each in appends)]
        found = []
        for order, shown in (reads, lasting) if standbys_last else (reads,):
            verdict = check_lists(_left_of([*appends, *shown, *ends], given_up), order)
            if isinstance(verdict, Refused):
                found += [str(anomaly) for anomaly in verdict.anomalies]
        return found

    def _of(self, role: Role) -> list[Operation]:
        """The reads of an endpoint. Those of standbys need not even agree with one's own earlier ones."""
        reads = [each for each in self.history if each.kind is Kind.READ and each.via == role]
        if role is Role.WRITE:
            return reads
        return [replace(each, client=f"{each.client}, {number}") for number, each in enumerate(reads)]

    def _end_of(self, key: Hashable, leader: VirtualEngine) -> Operation:
        """What a reader finds who asks the leader itself, after all others."""
        assert isinstance(key, int)
        now_ms = self._clock.now_ms() + 1
        there = next(front for front in self._fronts if front.engine is leader).visible(key)
        return Operation("the end", Kind.READ, key, now_ms, now_ms, value=there)

    def check(self) -> None:
        """Raises what a client, a front or the router has ended with: they never should."""
        for task in self._tasks:
            if task.done():
                task.result()
        for front in self._fronts:
            for trouble in front.troubles:
                raise trouble
        process = self.router.process
        if process is not None and process.task.done():
            raise AssertionError(f"the router has ended: {process.task!r}")


def _left_of(operations: list[Operation], given_up: Callable[[int], bool]) -> Iterator[Operation]:
    """What they say of the values that nobody gave up."""
    for each in operations:
        if isinstance(each.value, tuple):
            yield replace(each, value=tuple(value for value in each.value if not given_up(value)))
        elif not isinstance(each.value, int) or not given_up(each.value):
            yield each
