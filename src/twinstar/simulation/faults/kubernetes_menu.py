"""The part of the menu for days on which the store is Kubernetes: what its parts do apart from each other, and what
other people do in it.
"""

from __future__ import annotations

import random

from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.scene import Fault, Scene
from twinstar.simulation.files import CLUSTER
from twinstar.simulation.stores.kubernetes_machines import KubernetesStorage
from twinstar.store.base import root

_REGISTER = root(CLUSTER) + "register"
_SERVERS = 3


async def notes_all_day(cluster: Cluster) -> None:
    """Now and then somebody writes an annotation beside the register, for as long as the day lasts."""
    chance = random.Random(f"notes {cluster.seed}")
    longest_ms = chance.choice((3_000.0, 20_000.0, 100_000.0))
    while True:
        await cluster.clock.sleep_ms(chance.uniform(100, longest_ms))
        _storage(cluster).note(_REGISTER)


async def _notes(scene: Scene, _: str) -> None:
    """Many of them at once."""
    chance, storage = scene.chance, _storage(scene.cluster)
    pause_ms, left = chance.uniform(100, 500), chance.randint(3, 20)

    async def write() -> None:
        for _ in range(left):
            storage.note(_REGISTER)
            await scene.cluster.clock.sleep_ms(chance_apart.uniform(0, 2 * pause_ms))

    chance_apart = random.Random(chance.random())
    scene.later(write())


async def _api_server(scene: Scene, _: str) -> None:
    """One API server dies, stands still or is restarted; its etcd goes on."""
    storage = _storage(scene.cluster)
    what = scene.chance.choice((storage.kill_api, storage.freeze_api, storage.restart_api))
    what(scene.chance.randrange(_SERVERS))


async def _etcd(scene: Scene, _: str) -> None:
    """Of etcd's servers one or two die or stand still; the API servers go on, and know what they knew."""
    storage = _storage(scene.cluster)
    for number in scene.chance.sample(range(_SERVERS), scene.chance.choice((1, 2))):
        scene.chance.choice((storage.kill_etcd, storage.freeze_etcd))(number)


async def _upgrade(scene: Scene, _: str) -> None:
    """All API servers are restarted, one after another."""
    storage, pause_ms = _storage(scene.cluster), scene.chance.uniform(0, 3_000)
    order = scene.chance.sample(range(_SERVERS), _SERVERS)

    async def restart() -> None:
        for number in order:
            storage.restart_api(number)
            await scene.cluster.clock.sleep_ms(pause_ms)

    scene.later(restart())


async def _lag(scene: Scene, _: str) -> None:
    """What some API servers know from their watches is old."""
    storage = _storage(scene.cluster)
    for number in scene.chance.sample(range(_SERVERS), scene.chance.randint(1, _SERVERS)):
        storage.lag(number, scene.chance.uniform(50, scene.chance.choice((300, 3_000))))


async def _forget(scene: Scene, _: str) -> None:
    _storage(scene.cluster).compact()


def _storage(cluster: Cluster) -> KubernetesStorage:
    assert isinstance(cluster.server, KubernetesStorage)
    return cluster.server


KUBERNETES_MENU = (
    Fault("notes of others", _notes, 3),
    Fault("API server", _api_server, 3),
    Fault("etcd below", _etcd, 2),
    Fault("API servers upgraded", _upgrade, 2),
    Fault("API servers lag", _lag, 2),
    Fault("history forgotten", _forget),
)
