"""A model of Kubernetes as a store: three machines, each with an API server in front of the etcd server beside it.

What a client of the real one meets:

* Objects are what its etcd holds (`etcd.py`), and a resource version is etcd's revision; it grows with everything that
  anybody changes. Who changes an object names the version that it read, or is refused (409). An update that changes
  nothing is none. **Other people** edit objects too: an annotation, and the version has moved though nothing of ours
  has.
* Changes, and reads that name no version, go through to etcd: not without its majority. An API server that gives up
  waiting says so (504, 500), and what it had passed on is made later, or never.
* **Watches are told from a cache**, each server's own, behind by what its own watch on etcd is behind. It holds no
  history of before its server was started or lost its etcd: who asks for older changes is told that they are gone
  (410), and so after a compaction. A read that names the version 0 is answered from it, however old it is.
* A server that has just been started refuses for a moment: it does not know the kind, or whose rights are which.
* All have **one address**. A balancer sends each new connection to one of them that it takes for well, which it looks
  for now and then; a connection stays where it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from twinstar.ports.clock import Clock
from twinstar.simulation.stores.etcd import Etcd, EtcdServer
from twinstar.simulation.stores.memory import Change, MemoryServer
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import ABSENT, Applied, Versioned

Json = dict[str, Any]

_STARTS_MS = (200.0, 2_000.0)
"""After so long a server answers as it should."""
_LAG_MS = (0.2, 3.0)
_LONG_LAG_MS = (50.0, 1_000.0)
_LONG_LAG = 0.01
_FRESH_WITHIN_MS = 3_000.0
"""So long a listing waits for the cache, then it is made from etcd."""
_BALANCER_LOOKS_MS = (500.0, 5_000.0)
_OTHERS_PAUSE_MS = (300.0, 3_000.0)
_OTHERS_PATH = "/others"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    document: Json


def failure(status: int, reason: str, message: str, **details: str) -> Answer:
    """As a `Status` object says it."""
    document = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return Answer(status, {**document, "details": details})


class Objects(MemoryServer):
    """What etcd holds: objects as JSON, by their paths. Each method is one transaction of etcd's."""

    def create(self, path: str, document: Json) -> Answer:
        outcome = self.compare_and_set(path, _stored(document), ABSENT)
        if isinstance(outcome, Applied):
            return Answer(201, self._served(path))
        return failure(409, "AlreadyExists", f"{_name(path)} already exists", **_details(path))

    def update(self, path: str, document: Json) -> Answer:
        new, expected = _stored(document), int(document["metadata"]["resourceVersion"])
        current = self.read(path)
        if current is not None and (current.value, current.revision) == (new, expected):
            return Answer(200, served(current))
        outcome = self.compare_and_set(path, new, expected)
        if isinstance(outcome, Applied):
            return Answer(200, self._served(path))
        if outcome.current is None:
            return not_found(path)
        return failure(409, "Conflict", "the object has been modified; please apply your changes", **_details(path))

    def remove(self, path: str) -> Answer:
        current = self.read(path)
        if current is None:
            return not_found(path)
        self.delete(path)
        return Answer(200, served(current))

    def annotate(self, path: str, text: str) -> None:
        """Somebody writes something beside what is ours."""
        current = self.read(path)
        if current is not None:
            document = json.loads(current.value)
            document["metadata"]["annotations"] = {"note": text}
            self.compare_and_set(path, _stored(document), current.revision)

    def _served(self, path: str) -> Json:
        standing = self.read(path)
        assert standing is not None
        return served(standing)


def served(value: Versioned) -> Json:
    """An object as it is answered and told."""
    document: Json = json.loads(value.value)
    document["metadata"]["resourceVersion"] = str(value.revision)
    return document


def not_found(path: str) -> Answer:
    return failure(404, "NotFound", f"{_name(path)} not found", **_details(path))


def _stored(document: Json) -> bytes:
    metadata = {name: value for name, value in document["metadata"].items() if name != "resourceVersion"}
    return json.dumps({**document, "metadata": metadata}).encode()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _details(path: str) -> dict[str, str]:
    return {"name": _name(path), "kind": path.split("/")[-2]}


@dataclass(frozen=True, slots=True)
class Event:
    """A change as watches tell it; `value` is what stands, or what stood and is deleted now."""

    kind: str
    value: Versioned


class WatchCache:
    """What one run of an API server knows from its own watch on etcd: everything up to `revision`, and the changes from
    `first` on.
    """

    def __init__(self, below: EtcdServer, wires: Wires, clock: Clock) -> None:
        self._below, self._wires, self._clock = below, wires, clock
        self.first = self.revision = 0
        self.values: dict[str, Versioned] = {}
        self.events: list[Event] = []
        """In their order."""
        self.fillings = 0
        """How often it was begun."""
        self.filled = False
        self.extra_lag_ms = 0.0
        self.news = asyncio.Event()
        """Set, and replaced, when something has come or is over."""

    async def run(self) -> None:
        while True:
            await self._below.linearizable()
            self.first = self.revision = self._below.applied
            self.values, self.events = dict(self._below.values), []
            self.filled, self.fillings = True, self.fillings + 1
            self.tell()
            await self._follow(self._below.gate)
            self.filled = False
            self.tell()

    async def _follow(self, process: Gate | None) -> None:
        """Until etcd's server has died or says that it has lost its leader; one that stands still says nothing."""
        below = self._below
        while below.gate is process and (below.is_led or not below.runs):
            news, applied = below.news, below.applied
            if applied == self.revision:
                await news.wait()
                continue
            lag_ms = _LONG_LAG_MS if self._wires.happens(_LONG_LAG) else _LAG_MS
            await self._clock.sleep_ms(self._wires.randomness.between(*lag_ms) + self.extra_lag_ms)
            for change in below.etcd.committed.history[self.revision : applied]:
                self._take(change)
            self.revision = applied
            self.tell()

    def _take(self, change: Change) -> None:
        if change.value is not None:
            self.events.append(Event("MODIFIED" if change.key in self.values else "ADDED", change.value))
            self.values[change.key] = change.value
        else:
            last = self.values.pop(change.key)
            self.events.append(Event("DELETED", Versioned(change.key, last.value, change.revision)))

    def after(self, revision: int) -> list[Event]:
        """What has come after that one."""
        found = list(takewhile(lambda event: event.value.revision > revision, reversed(self.events)))
        return found[::-1]

    async def fresh(self, revision: int) -> bool:
        """Waits until it is not older than that; False: it takes too long."""
        try:
            async with self._clock.timeout_ms(_FRESH_WITHIN_MS):
                while self.filled and self.revision < revision:
                    await self.news.wait()
        except TimeoutError:
            return False
        return self.filled

    def is_filled(self, since: int) -> bool:
        """Whether it goes on since that beginning."""
        return self.filled and self.fillings == since

    def forget(self) -> None:
        """The history of before now."""
        self.first = self.revision

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class ApiServer:
    """One machine's: its process, if it runs, and the etcd server that it asks, which is a process of its own."""

    def __init__(self, kubernetes: Kubernetes, below: EtcdServer) -> None:
        self.kubernetes, self.below = kubernetes, below
        self.host = below.host
        self.gate: Gate | None = None
        self.cache = WatchCache(below, kubernetes.wires, kubernetes.clock)
        self._ready_at_ms = 0.0

    def begin(self, gate: Gate) -> None:
        """A new process, which knows nothing yet."""
        self.gate = gate
        self.cache = WatchCache(self.below, self.kubernetes.wires, self.kubernetes.clock)
        self._ready_at_ms = self.kubernetes.clock.now_ms() + self.kubernetes.wires.randomness.between(*_STARTS_MS)
        gate.spawn(self.cache.run())

    @property
    def runs(self) -> bool:
        return self.gate is not None and self.gate.is_open and self.host not in self.kubernetes.wires.down

    @property
    def is_ready(self) -> bool:
        return self.runs and self.kubernetes.clock.now_ms() >= self._ready_at_ms

    async def get(self, path: str) -> Versioned | None:
        await self.below.linearizable()
        return self.below.values.get(path)

    async def list(self, collection: str, oldest: int | None) -> tuple[list[Versioned], int]:
        """Everything there, as of the revision beside it. `oldest`: the answer may be that old, and is the cache's."""
        if oldest is None:
            await self.below.linearizable()
            if not (self.kubernetes.lists_from_cache and await self.cache.fresh(self.below.applied)):
                return _inside(self.below.values, collection), self.below.applied
        elif not await self.cache.fresh(oldest):
            return await self.list(collection, None)
        return _inside(self.cache.values, collection), self.cache.revision

    async def change(self, make: Callable[[], Answer]) -> Answer:
        answers: list[Answer] = []
        await self.below.change(lambda: answers.append(make()))
        return answers[0]


def _inside(values: dict[str, Versioned], collection: str) -> list[Versioned]:
    return [values[path] for path in sorted(values) if path.startswith(collection + "/")]


class Kubernetes:
    """All machines. What is drawn once: how its balancer looks after the servers, and what version they are of."""

    def __init__(self, hosts: Sequence[str], wires: Wires, clock: Clock) -> None:
        self.wires, self.clock = wires, clock
        self.objects = Objects()
        self.etcd = Etcd(hosts, wires, clock, self.objects)
        self.servers = [ApiServer(self, below) for below in self.etcd.servers]
        self.lists_from_cache = wires.happens(0.5)
        """Since 1.31: when the cache is known not to be too old."""
        self.balancer_asks = wires.happens(0.5)
        """Whether the servers are ready, or whether they take connections alone."""
        self._balancer_looks_ms = wires.randomness.between(*_BALANCER_LOOKS_MS)
        self._well = list(self.servers)

    async def run(self) -> None:
        """The balancer, and whoever else uses this Kubernetes, for ever."""
        await asyncio.gather(self._balance(), self._others())

    def server_for_connection(self) -> ApiServer:
        return self._well[int(self.wires.randomness.between(0, len(self._well) - 0.001))]

    def pass_on(self, make: Callable[[], object]) -> None:
        """To etcd, and nobody waits for what comes of it."""

        def act() -> None:
            make()

        self.etcd.propose(act)

    def compact(self) -> None:
        self.etcd.compact()
        for server in self.servers:
            server.cache.forget()

    async def _balance(self) -> None:
        while True:
            self._well = [server for server in self.servers if self._seems_well(server)] or list(self.servers)
            await self.clock.sleep_ms(self._balancer_looks_ms)

    def _seems_well(self, server: ApiServer) -> bool:
        if self.balancer_asks:
            return server.is_ready and server.below.runs and self.etcd.serves(server.below)
        return server.runs

    async def _others(self) -> None:
        """Everything else that is in this Kubernetes: revisions are everybody's."""
        while True:
            self.pass_on(self._touch)
            await self.clock.sleep_ms(self.wires.randomness.between(*_OTHERS_PAUSE_MS))

    def _touch(self) -> None:
        standing = self.objects.read(_OTHERS_PATH)
        self.objects.compare_and_set(_OTHERS_PATH, b"{}", standing.revision if standing else ABSENT)
