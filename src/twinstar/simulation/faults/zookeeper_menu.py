"""The part of the menu for days on which the store is ZooKeeper: what its servers do apart from each other."""

from __future__ import annotations

from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.stores.zookeeper_server import ZooKeeperStorage

_SERVERS = 3


async def _stands_still(scene: Scene, _: str) -> None:
    """A server, often the one that leads, for so long that another may lead when it goes on."""
    storage, number = _storage(scene.cluster), _often_leading(scene)
    gate, pause_ms = storage.ensemble.servers[number].gate, scene.chance.uniform(300, 8_000)
    storage.freeze(number)

    async def go_on() -> None:
        await scene.cluster.clock.sleep_ms(pause_ms)
        if gate is not None:
            gate.open()

    scene.later(go_on())


async def _cut_off(scene: Scene, _: str) -> None:
    """From the other servers, for a while; clients reach it, and are shown what it has until it notices."""
    cluster, number = scene.cluster, _often_leading(scene)
    host, pause_ms = _storage(cluster).hosts[number], scene.chance.uniform(300, 8_000)
    cluster.cut_store_server(number)

    async def whole_again() -> None:
        await cluster.clock.sleep_ms(pause_ms)
        cluster.wires.cut -= {pair for other in _storage(cluster).hosts for pair in ((host, other), (other, host))}

    scene.later(whole_again())


async def _upgrade(scene: Scene, _: str) -> None:
    """All are restarted, one after another; whoever does it hardly waits."""
    storage, pause_ms = _storage(scene.cluster), scene.chance.uniform(100, 5_000)
    order = scene.chance.sample(range(_SERVERS), _SERVERS)

    async def restart() -> None:
        for number in order:
            storage.kill(number)
            await scene.cluster.clock.sleep_ms(pause_ms / 4)
            storage.start()
            await scene.cluster.clock.sleep_ms(pause_ms)

    scene.later(restart())


async def _lag(scene: Scene, _: str) -> None:
    """Some followers are far behind until they join a leader anew, or are so no more by themselves."""
    ensemble = _storage(scene.cluster).ensemble
    for server in scene.chance.sample(ensemble.servers, scene.chance.randint(1, _SERVERS - 1)):
        server.lag_ms = scene.chance.uniform(100, scene.chance.choice((500, 3_000)))


def _often_leading(scene: Scene) -> int:
    ensemble, other = _storage(scene.cluster).ensemble, scene.chance.randrange(_SERVERS)
    leads = scene.chance.random() < 0.6 and ensemble.leader is not None
    return ensemble.servers.index(ensemble.leader) if leads and ensemble.leader else other


def _storage(cluster: Cluster) -> ZooKeeperStorage:
    assert isinstance(cluster.server, ZooKeeperStorage)
    return cluster.server


ZOOKEEPER_MENU = (
    Fault("ZooKeeper stands still", _stands_still, 3),
    Fault("ZooKeeper cut off", _cut_off, 3),
    Fault("ZooKeeper upgraded", _upgrade, 2),
    Fault("ZooKeeper lags", _lag, 3),
)
