"""Ablations of how a store is asked."""

from __future__ import annotations

import asyncio
from typing import Any

from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, instead
from twinstar.simulation.plan import StoreKind
from twinstar.store.zookeeper.wire import Reader, Reply, multi


def _none(_original: Any, differs: Differs, _znodes: Any, _connection: Any) -> asyncio.Future[Reply]:
    """As if the majority had been asked already."""
    differs()
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    answered.set_result(Reply(0, 0, 0, Reader(multi(()))))
    return answered


STORING = (
    Ablation(
        "a read follows a transaction",
        "The register",
        "ZooKeeper: a read shows what its server has, without the majority being asked before it",
        (Swap("twinstar.store.zookeeper.znodes:Znodes._barrier", instead(_none)),),
        ("ZooKeeper lags", "ZooKeeper stands still", "elect store leader"),
        store=StoreKind.ZOOKEEPER,
    ),
)
