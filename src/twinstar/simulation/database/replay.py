"""How far a simulated standby has replayed what is on its disk: computed when somebody asks."""

from __future__ import annotations

from twinstar.model.engine import Upstream
from twinstar.ports.clock import Clock
from twinstar.simulation.database.disk import Disk
from twinstar.simulation.database.troubles import Troubles


class Replay:
    """Of one run: begins somewhere after what is surely in the data files."""

    def __init__(self, disk: Disk, begins_at: float, clock: Clock, troubles: Troubles) -> None:
        self._disk, self._clock, self._troubles = disk, clock, troubles
        self._reached, self._since_ms = begins_at, clock.now_ms()
        self.held = False
        """A session on the standby needs what the next record takes away."""
        self._upstream: Upstream | None = None

    @property
    def reached(self) -> int:
        """So many records."""
        now = self._clock.now_ms()
        if not self.held:
            moved = (now - self._since_ms) * self._troubles.replay_per_ms
            self._reached = min(float(self._disk.flushed), self._reached + moved)
        self._since_ms = now
        return int(self._reached)

    @property
    def is_done(self) -> bool:
        return self.reached >= self._disk.flushed

    def hold(self) -> None:
        _ = self.reached, self.upstream
        self.held = True

    def release(self) -> None:
        _ = self.reached
        self.held = False

    @property
    def upstream(self) -> Upstream | None:
        """As replay has read the setting: between two records, so not while it is held up at one."""
        if not self.held or self.is_done:
            self._upstream = self._disk.upstream
        return self._upstream
