"""The part of the menu that is wrong with a member's database or its disk, until everything heals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.faults.scene import Fault, Scene

_ORPHANS_MS = 1_000.0
"""So long a dead main process's others go on, unless somebody ends them."""


def _to_database(act: Callable[[VirtualEngine], None]) -> Callable[[Scene, str], Awaitable[None]]:
    async def strike(scene: Scene, name: str) -> None:
        act(scene.cluster.members[name].engine)

    return strike


DATABASES = (
    Fault("full disk", _to_database(lambda engine: engine.troubles.fill_disk())),
    Fault("hung fsync", _to_database(lambda engine: engine.troubles.hang_fsync()), 0.5),
    Fault("slow fsync", _to_database(lambda engine: engine.troubles.slow_fsync())),
    Fault("slow stop", _to_database(lambda engine: engine.troubles.slow_checkpoint())),
    Fault("slow copying", _to_database(lambda engine: engine.troubles.slow_copying())),
    Fault("slow replay", _to_database(lambda engine: engine.troubles.slow_replay())),
    Fault("held replay", _to_database(lambda engine: engine.hold_replay())),
    Fault("failed promotion", _to_database(lambda engine: engine.troubles.break_promotion()), 1.5),
    Fault("failed rewind", _to_database(lambda engine: engine.troubles.break_rewind())),
    Fault("failed clone", _to_database(lambda engine: engine.troubles.break_clone())),
    Fault("log removed", _to_database(lambda engine: engine.forget_log()), 0.5),
    Fault("orphaned backends", _to_database(lambda engine: engine.crash(_ORPHANS_MS)), deadly=True),
    Fault("database mended", _to_database(lambda engine: engine.mend())),
)
