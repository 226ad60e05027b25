"""What a trap is set with: roles instead of names, moments instead of pauses, and what must not happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twinstar.model.register import Register
from twinstar.rules.election import majority
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.scene import Scene, resumed
from twinstar.simulation.member import Member

_LOOK_MS = 1.0
_CALM_MS = 12_000.0


def needed(copies: int, required: int) -> int:
    """So many of the copies elect and confirm (invariant 5)."""
    return max(majority(copies), copies - required, required + 1)


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene, with words for what traps are made of. Durations in milliseconds."""

    scene: Scene

    @property
    def cluster(self) -> Cluster:
        return self.scene.cluster

    @property
    def register(self) -> Register:
        return self.cluster.register

    @property
    def lease_ms(self) -> int:
        """As it is, or is to be."""
        return max(self.register.lease_ms, self.cluster.files.settings.lease_ms)

    @property
    def can_spare_the_leader(self) -> bool:
        """Whether the other copies serve without it."""
        copies, register = len(self.register.copies), self.register
        return copies > 2 and (bool(register.lease_ms) or copies - 1 >= needed(copies, register.required))

    async def calm(self) -> bool:
        """Everything is healed and whole, so that what follows meets the cluster in a known state. False: it does not
        become whole in time.
        """
        await self.scene.calm_amid_fault()
        return await self.seen(self._is_calm, _CALM_MS, look_ms=10)

    def _is_calm(self) -> bool:
        return resumed(self.cluster) and self.cluster.whole() and self.register.switchover is None

    async def seen(self, condition: Callable[[], object], within_ms: float, look_ms: float = _LOOK_MS) -> bool:
        """Whether it came true in time; at once when it does."""
        clock = self.cluster.clock
        until = clock.now_ms() + within_ms
        while not condition():
            if self.cluster.witness.breaches or clock.now_ms() >= until:
                return False
            await clock.sleep_ms(look_ms)
        return True

    async def pause(self, low_ms: float, high_ms: float) -> None:
        await self.cluster.clock.sleep_ms(self.scene.chance.uniform(low_ms, high_ms))

    def one_of(self, names: Iterable[str]) -> str:
        return self.scene.chance.choice(sorted(names))

    def some_of(self, names: Iterable[str], least: int = 0) -> set[str]:
        """Any number of them, at least so many."""
        everyone = sorted(names)
        return set(
            self.scene.chance.sample(everyone, self.scene.chance.randint(min(least, len(everyone)), len(everyone)))
        )

    def member(self, name: str) -> Member:
        return self.cluster.members[name]

    def chances(self, of_one: float) -> bool:
        return self.scene.chance.random() < of_one

    def tell(self, what: str) -> None:
        self.cluster.chronicle.tell("  " + what)

    def broken(self, what: str) -> None:
        """Something happened that the protocol excludes."""
        self.cluster.witness.breaches.append(what)

    # -- what is done --------------------------------------------------------------------------------------------------

    def cut(self, one: str, others: Iterable[str]) -> None:
        """Nothing passes between it and those."""
        for other in sorted(others):
            self.cluster.cut(one, other)

    def mend(self, one: str, others: Iterable[str]) -> None:
        a = self.member(one).host
        for other in others:
            b = self.member(other).host
            self.cluster.wires.cut -= {(a, b), (b, a)}

    def stop_agent(self, name: str) -> None:
        """It is stopped as by SIGSTOP, until the node is thawed."""
        process = self.member(name).agent_process
        if process is not None:
            process.gate.shut()

    def thaw_agent(self, name: str) -> None:
        """Undoes `stop_agent` for this one alone."""
        process = self.member(name).agent_process
        if process is not None:
            process.gate.open()

    async def kill(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            await self.cluster.kill_node(name)

    def start(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self.cluster.start(name)

    def streams(self, name: str) -> bool:
        """Whether it gets its log from the leader."""
        leader = self.cluster.leader()
        return leader is not None and any(s.member == name and s.streaming for s in leader.engine.senders)

    def is_being_told(self, leader: str) -> bool:
        """Whether its database does not enforce what the register says."""
        names, register = self.member(leader).engine.names, self.register
        return (names.voters, names.required) != (register.voters, register.required)

    async def serves(self, within_ms: float) -> bool:
        """Whether a write is acknowledged from now on, or nobody may expect one: an order to pause that was given
        before has come into effect.
        """
        acknowledged, before = self.cluster.witness.acknowledged, len(self.cluster.witness.acknowledged)
        return await self.seen(lambda: len(acknowledged) > before or self.register.paused, within_ms, look_ms=5)
