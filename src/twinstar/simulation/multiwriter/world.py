"""The world of one run: who goes on next, what is delivered, and what goes wrong.

At each step one process of one node goes on by one step, or something is delivered. Who it is is drawn, with weights
that change now and then, so that anybody is slow at times. Nothing else happens by itself: a run is what its seed
draws.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from twinstar.simulation.multiwriter.clients import Workload
from twinstar.simulation.multiwriter.dying import settling
from twinstar.simulation.multiwriter.node import Node
from twinstar.simulation.multiwriter.plan import Plan
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.stream import Sent
from twinstar.simulation.multiwriter.witness import Witness

_BEGIN_US = 10_000_000
_CLIENTS = 2
"""Sessions on each node."""
_SLOW = (1.0, 1.0, 1.0, 0.3, 0.05)
_CHANGE_EVERY = 200
_LOOK_EVERY = 40
_DAY = 20_000
_PEACE = 60_000
"""A day, and the peace after it, are over after so many steps at the latest."""
_STILL_FORGETTING = 1_500
"""So many steps of the peace tombstones are still collected."""

Process = Callable[[], Generator[None, None, None]]


@dataclass(slots=True)
class Actor:
    """A process of a node."""

    node: Node
    name: str
    begin: Process
    at: Generator[None, None, None]
    weight: float = 1.0


class World:
    def __init__(self, seed: int, plan: Plan, without: frozenset[Safeguard], tell: Callable[[str], None]) -> None:
        self.plan, self.without = plan, without
        self._tell = tell
        self._chance = Random(f"multiwriter world {seed}")
        self.now_us = _BEGIN_US
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self.witness = Witness(plan)
        self._digest = hashlib.sha256()
        self.nodes = [self._node(number) for number in range(1, plan.nodes + 1)]
        self.workload = Workload(plan, self._chance)
        self._down: dict[int, int] = {}
        """Number -> the step at which it is back."""
        self._cut: dict[tuple[int, int], int] = {}
        self._blocked: dict[tuple[int, str], int] = {}
        self.dead: Node | None = None
        self._forgetting = plan.forgets
        self._actors = [actor for node in self.nodes for actor in self._processes(node)]
        self._links = [(one, other) for one in self.nodes for other in self.nodes if one is not other]
        self._weights: list[float] = []

    def _node(self, number: int) -> Node:
        skew_us = self._chance.randint(-self.plan.skew_us, self.plan.skew_us)
        return Node(number, self.plan.table, self.without, lambda: self.now_us, self._sent, skew_us)

    def _processes(self, node: Node) -> list[Actor]:
        chance, plan = self._chance, self.plan
        named: list[tuple[str, Process]] = [
            (f"client {at}", lambda: self.workload.client(node)) for at in range(_CLIENTS)
        ]
        peers = [peer.number for peer in self.nodes if peer is not node]
        named += [(f"applier of {number}", self._applier(node, number)) for number in peers]
        named.append(("unsettled", node.settling))
        if plan.table.uniques:
            named.append(("removals", node.sending_removals))
        if plan.obstacles:
            named.append(("dead letters", node.retrying))
        if plan.forgets:
            named.append(("reports", lambda: node.reporting(chance)))
            named.append(("collector", lambda: node.collecting(lambda: self._others(node), chance)))
        return [Actor(node, name, begin, begin()) for name, begin in named]

    def _applier(self, node: Node, peer: int) -> Process:
        return lambda: node.applying(peer, self._chance, self.plan.repeats)

    def _others(self, node: Node) -> list[int]:
        """Whose reports a collector waits for: a dead member counts until its log is here."""
        dead = self.dead
        others = [each.number for each in self.nodes if each is not node]
        if dead is not None:
            over = dead.number in node.ends and node.effective(dead.number) >= node.ends[dead.number]
            if dead is not node and (over or Safeguard.DEAD_COUNT in self.without):
                others.remove(dead.number)
        return others

    def survivors(self) -> list[Node]:
        return [node for node in self.nodes if node is not self.dead]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def tell(self, what: str) -> None:
        line = f"{self.now_us - _BEGIN_US:8} us  {what}"
        self._digest.update(line.encode())
        self._tell(line)

    def _sent(self, node: Node, sent: Sent) -> None:
        self.tell(f"node {node.number} commits {sent.position}: {', '.join(map(str, sent.changes))}")
        self.witness.sent(sent)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """A day of faults, then peace. Raises AssertionError when something is broken."""
        dies_at = self._chance.randint(300, 3_000) if self.plan.dies else -1
        while self.steps < _DAY and (self.workload.left > 0 or self.steps < dies_at):
            if self.steps == dies_at:
                self._declare_dead()
            self._step()
            self._fault()
        self._heal()
        until = self.steps + _PEACE
        stop_forgetting = self.steps + _STILL_FORGETTING
        while self.steps < until:
            if self.steps == stop_forgetting:
                self._end(("reports", "collector"))
            if self.steps > stop_forgetting and self.steps % _LOOK_EVERY == 0 and self._quiet():
                break
            self._step()
        self.witness.check(self.survivors(), self.dead, quiet=self._quiet(), without_forgetting=not self.plan.forgets)

    def _step(self) -> None:
        if self.steps % _CHANGE_EVERY == 0:
            for actor in self._actors:
                actor.weight = self._chance.choice(_SLOW)
            self._weights = []
        if not self._weights:
            links = [0.5] * len(self._links)
            self._weights = list(accumulate([*(self._weight(actor) for actor in self._actors), *links]))
        self.steps += 1
        self.now_us += self._chance.randint(1, 3)
        everybody: list[Actor | tuple[Node, Node]] = [*self._actors, *self._links]
        (who,) = self._chance.choices(everybody, cum_weights=self._weights)
        if isinstance(who, Actor):
            next(who.at)
        else:
            self._deliver(*who)

    def _weight(self, actor: Actor) -> float:
        return 0.0 if actor.node.number in self._down else actor.weight

    def _deliver(self, sender: Node, receiver: Node) -> None:
        if receiver.number in self._down or (sender.number, receiver.number) in self._cut or receiver is self.dead:
            return
        if sender.number in receiver.stopped and Safeguard.STOP_FIRST not in self.without:
            return
        here = receiver.received.setdefault(sender.number, [])
        here += sender.log[len(here) : len(here) + self._chance.randint(1, 3)]

    def _quiet(self) -> bool:
        survivors = self.survivors()
        if any(node.database.open for node in survivors):
            return False
        return all(self._has_all(node) for node in survivors)

    def _has_all(self, node: Node) -> bool:
        view = node.database.read()
        waiting = {"letters": None, "removals": Safeguard.REMOVAL_SENT, "unsettled": Safeguard.UNSETTLED}
        if any(any(view.items(table)) and without not in self.without for table, without in waiting.items()):
            return False
        for peer in self.nodes:
            if peer is node:
                continue
            here = len(node.received.get(peer.number, []))
            if peer is self.dead:
                if peer.number not in node.ends or node.applied(peer.number) < here:
                    return False
            elif node.applied(peer.number) < len(peer.log):
                return False
        return True

    # -- faults --------------------------------------------------------------------------------------------------------

    def _fault(self) -> None:
        chance, plan = self._chance, self.plan
        for number in [number for number, at in self._down.items() if at <= self.steps]:
            self._back(number)
        for link in [link for link, at in self._cut.items() if at <= self.steps]:
            del self._cut[link]
        for number, key in [each for each, at in self._blocked.items() if at <= self.steps]:
            del self._blocked[number, key]
            self.nodes[number - 1].obstacles.discard(key)
        if chance.random() < plan.cuts:
            one, other = chance.choice(self._links)
            self._cut[one.number, other.number] = self.steps + chance.randint(50, 800)
            self._did("cut", f"the link from {one.number} to {other.number} is cut")
        if chance.random() < plan.crashes:
            self._crash(chance.choice(self.nodes))
        if chance.random() < plan.jumps:
            node = chance.choice(self.nodes)
            node.skew_us = chance.randint(-plan.skew_us, plan.skew_us)
            self._did("jump", f"the clock of node {node.number} is off by {node.skew_us} us from now on")
        if chance.random() < plan.obstacles:
            node, key = chance.choice(self.nodes), f"k{chance.randint(1, plan.keys)}"
            node.obstacles.add(key)
            self._blocked[node.number, key] = self.steps + chance.randint(50, 1_000)
            self._did("obstacle", f"node {node.number} cannot take in {key}")

    def _did(self, fault: str, what: str) -> None:
        self.faults[fault] += 1
        self.tell(what)

    def _crash(self, node: Node) -> None:
        if node.number in self._down:
            return
        node.database.crash()
        for actor in self._actors:
            if actor.node is node:
                actor.at.close()
                actor.at = actor.begin()
        self._down[node.number] = self.steps + self._chance.randint(1, 500)
        self._weights = []
        self._did("crash", f"node {node.number} crashes")

    def _back(self, number: int) -> None:
        del self._down[number]
        self._weights = []
        self.tell(f"node {number} is back")

    def _declare_dead(self) -> None:
        """It goes on, and is heard by some, until they have stopped listening."""
        self.dead = dead = self._chance.choice(self.nodes)
        self._did("death", f"node {dead.number} is declared dead")
        for node in self.survivors():
            begin = self._settler(node, dead.number)
            self._actors.append(Actor(node, f"settling {dead.number}", begin, begin()))
        self._weights = []

    def _settler(self, node: Node, dead: int) -> Process:
        return lambda: settling(node, dead, self.survivors, self._chance)

    def _heal(self) -> None:
        self.tell("peace")
        for number in list(self._down):
            self._back(number)
        self._cut.clear()
        for node in self.nodes:
            node.obstacles.clear()
        self.workload.left = 0
        if self.dead is not None:
            self._actors = [actor for actor in self._actors if actor.node is not self.dead]
            self._weights = []

    def _end(self, names: tuple[str, ...]) -> None:
        for actor in self._actors:
            if actor.name in names:
                actor.at.close()
        self._actors = [actor for actor in self._actors if actor.name not in names]
        self._weights = []
