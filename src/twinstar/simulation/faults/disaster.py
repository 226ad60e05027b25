"""Invented disasters: faults drawn from a menu by a seed, then everything is healed, and the cluster must serve again.

A fault never goes beyond what the protocol bears (a disk is lost only while the cluster is whole); otherwise they come
when they come, two within a second or many at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from twinstar.router.routes import LEFT_OUT_MS
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.directed import DIRECTED
from twinstar.simulation.faults.kubernetes_menu import KUBERNETES_MENU, notes_all_day
from twinstar.simulation.faults.late_traps import LATE_TRAPS
from twinstar.simulation.faults.lease_traps import LEASE_TRAPS
from twinstar.simulation.faults.menu import LEADER_FAILS, MENU
from twinstar.simulation.faults.peace import PEACE
from twinstar.simulation.faults.people_menu import DURABILITY
from twinstar.simulation.faults.people_traps import PEOPLE_TRAPS
from twinstar.simulation.faults.scene import Fault, Scene, resumed
from twinstar.simulation.faults.traps import TRAPS
from twinstar.simulation.faults.witness_menu import WITNESS_MENU, WITNESS_STAGED
from twinstar.simulation.faults.zookeeper_menu import ZOOKEEPER_MENU
from twinstar.simulation.plan import StoreKind
from twinstar.simulation.service import Service

RECOVERY_MS = 60_000.0
"""Within this after the last fault the cluster must serve, and within this again be whole."""
_CLIENT_PAUSE_MS = 40.0
_SESSION_PAUSE_MS = 70.0
_PAUSES_MS = (5.0, 60.0, 400.0, 1_500.0, 5_000.0)
_BEGINS_WITH_LEADER = 0.9
"""How often the day begins with a failure of the leader: most should have a failover."""
_ON_TARGET = 0.75
"""How much of a day that is aimed at something consists of that."""

STAGED = (*TRAPS, *LATE_TRAPS, *LEASE_TRAPS, *PEOPLE_TRAPS, *PEACE)
_OF_STORE = {StoreKind.KUBERNETES: KUBERNETES_MENU, StoreKind.ZOOKEEPER: ZOOKEEPER_MENU}
EVERYTHING = (*MENU, DURABILITY, *STAGED, *DIRECTED, *WITNESS_MENU, *WITNESS_STAGED, *ZOOKEEPER_MENU)
"""What a day can be aimed at."""
_SHARE_STAGED = 0.2
"""How often it is one of these, which take seconds and begin with a whole cluster: most of a day is to be a mess."""


class Disaster:
    """One cluster's bad day. What is done to it is drawn apart from everything else, so that a seed's faults hardly
    move when the code does.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._chance = random.Random(f"faults {cluster.seed}")
        self._scene = Scene(cluster, self._chance)

    async def run(self) -> None:
        """Raises AssertionError when an invariant breaks, or the cluster does not serve in time after the end."""
        cluster, chance = self._cluster, self._chance
        for _ in range(2):
            cluster.client(cluster.any_primary, pause_ms=_CLIENT_PAUSE_MS)
        service = cluster.open_service(_SESSION_PAUSE_MS)
        if cluster.plan.store is StoreKind.KUBERNETES:
            cluster.aside(notes_all_day(cluster))
        await cluster.clock.sleep_ms(chance.uniform(0, 300))
        if chance.random() < _BEGINS_WITH_LEADER:
            await self._scene.strike(self._drawn(LEADER_FAILS), cluster.register.leader)
            await cluster.clock.sleep_ms(chance.uniform(0, 3_000))
        for _ in range(cluster.plan.faults):
            await self._scene.strike(self._drawn(self._menu()), self._scene.anybody(leader=0.5))
            await cluster.clock.sleep_ms(chance.uniform(0, chance.choice(_PAUSES_MS)))
            cluster.check()
        await self._heal_and_serve(service)

    def _menu(self) -> Sequence[Fault]:
        aimed = [fault for fault in EVERYTHING if fault.name in self._cluster.plan.aimed]
        if aimed and self._chance.random() < _ON_TARGET:
            return aimed
        beside = self._cluster.plan.witness
        if self._chance.random() < _SHARE_STAGED:
            return (*STAGED, *WITNESS_STAGED) if beside else STAGED
        menu = (*MENU, *(WITNESS_MENU if beside else ()), *_OF_STORE.get(self._cluster.plan.store, ()))
        return (*menu, DURABILITY) if self._cluster.plan.turns else menu

    def _drawn(self, faults: Sequence[Fault]) -> Fault:
        leased = self._cluster.plan.leased
        fitting = [fault for fault in faults if fault.with_lease or not leased]
        return self._chance.choices(fitting, [fault.weight for fault in fitting])[0]

    async def _heal_and_serve(self, service: Service) -> None:
        cluster = self._cluster
        await self._scene.calm()
        cluster.chronicle.tell("everything is healed")
        probe = cluster.client(pause_ms=_CLIENT_PAUSE_MS)
        before = [client.answered for client in service.clients]
        await cluster.until("serving", lambda: resumed(cluster) and probe.acknowledged, RECOVERY_MS)
        cluster.chronicle.tell("it serves again")
        await cluster.until("serving through the router", lambda: service.served_all_since(before), RECOVERY_MS)
        await cluster.until("whole", lambda: resumed(cluster) and cluster.whole(), RECOVERY_MS)
        cluster.chronicle.tell("it is whole again")
        cluster.check()
        leader = cluster.leader()
        assert leader is not None
        missing = cluster.witness.acknowledged.keys() - leader.engine.numbers()
        lost = sorted(number for number in missing if not cluster.witness.given_up(number))
        assert not lost, f"acknowledged and gone: {lost[:5]}"
        # Whoever is dropped sooner than routers end its sessions may show what nobody counts.
        lasting = cluster.witness.most_required <= 1 and cluster.files.soonest_removal_ms > LEFT_OUT_MS
        breaches = service.breaches(leader.engine, cluster.witness.given_up, standbys_last=lasting)
        assert not breaches, "; ".join(breaches[:5])
