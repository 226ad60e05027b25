"""Invented disasters: faults drawn from a menu by a seed, then everything is healed, and the cluster must serve again.

A fault never goes beyond what the protocol bears (a disk is lost only while the cluster is whole); otherwise they come
when they come, two within a second or many at once.
"""

from __future__ import annotations

import random

from twinstar.model.register import Durability
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.menu import MENU, Scene, resumed
from twinstar.simulation.service import Service

RECOVERY_MS = 60_000.0
"""Within this after the last fault the cluster must serve."""
_CLIENT_PAUSE_MS = 40.0
_SESSION_PAUSE_MS = 60.0
_PAUSES_MS = (5.0, 60.0, 800.0, 4_000.0, 15_000.0)


class Disaster:
    """One cluster's bad day. What is done to it is drawn apart from everything else, so that a seed's faults hardly
    move when the code does.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._chance = random.Random(f"faults {cluster.seed}")
        self._scene = Scene(cluster, self._chance)
        leased = cluster.plan.durability is Durability.ASYNC
        self._menu = [fault for fault in MENU if not leased or fault.with_lease]

    async def run(self) -> None:
        """Raises AssertionError when an invariant breaks, or the cluster does not serve in time after the end."""
        cluster = self._cluster
        for choose in (cluster.any_primary, cluster.any_primary, None):
            cluster.client(choose, pause_ms=_CLIENT_PAUSE_MS)
        service = cluster.open_service(_SESSION_PAUSE_MS)
        for _ in range(cluster.plan.faults):
            await self._one()
            await cluster.clock.sleep_ms(self._chance.uniform(0, self._chance.choice(_PAUSES_MS)))
            cluster.check()
        await self._heal_and_serve(service)

    async def _one(self) -> None:
        cluster = self._cluster
        (fault,) = self._chance.choices(self._menu, [each.weight for each in self._menu])
        leader = cluster.register.leader
        target = leader if self._chance.random() < 0.5 else self._chance.choice(cluster.names)
        cluster.chronicle.tell(f"{fault.name} {target} (leader {leader}, epoch {cluster.register.epoch})")
        cluster.chronicle.faults[fault.name] += 1
        await fault.act(self._scene, target)

    async def _heal_and_serve(self, service: Service) -> None:
        cluster = self._cluster
        cluster.heal()
        for name in cluster.names:
            cluster.start(name)
        cluster.chronicle.tell("everything is healed")
        probe = cluster.client(pause_ms=_CLIENT_PAUSE_MS)
        before = [client.answered for client in service.clients]
        await cluster.until("serving", lambda: resumed(cluster) and probe.acknowledged, RECOVERY_MS)
        await cluster.until("serving through the router", lambda: service.served_all_since(before), RECOVERY_MS)
        await cluster.until("whole", lambda: resumed(cluster) and cluster.whole(), RECOVERY_MS)
        cluster.check()
        if cluster.plan.durability is Durability.QUORUM:
            leader = cluster.leader()
            assert leader is not None
            lost = cluster.witness.acknowledged.keys() - leader.engine.numbers()
            assert not lost, f"acknowledged and gone: {sorted(lost)[:5]}"
            breaches = service.breaches(leader.engine.numbers(), one_confirms=cluster.plan.size // 2 <= 1)
            assert not breaches, "; ".join(breaches[:5])
