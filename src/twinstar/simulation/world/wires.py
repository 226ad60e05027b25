"""What lies between simulated machines, as unkind as real networks: delay with long tails, loss, duplicates, reordering
(whatever is delayed longer arrives later), cuts in one direction or both, and machines that are off.

A machine that is *down* is silent. A machine that is up and has nobody at a port says so, to streams (`streams.py`);
to datagrams (`network.py`) it does as well, and as on a real socket nobody looks at that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.randomness import Randomness
from twinstar.simulation.world.freezing import Gate

_FIRST_PORT = 40_000


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens on the way from one machine to another. Chances are from 0 to 1, delays in milliseconds."""

    delay_ms: tuple[float, float] = (0.1, 0.6)
    late: float = 0.002
    """How often something takes `late_ms` instead."""
    late_ms: tuple[float, float] = (1.0, 30.0)
    lost: float = 0.0
    twice: float = 0.0005


class Receiver(Protocol):
    """Who takes datagrams at an address."""

    def arrive(self, data: bytes, source: Address) -> None: ...


@dataclass(frozen=True, slots=True)
class Listener:
    """Who accepts streams at an address, and the process it belongs to."""

    make: Callable[[], asyncio.Protocol]
    gate: Gate


class Wires:
    """What all machines share; everything may be changed at any time."""

    def __init__(self, randomness: Randomness, weather: Weather | None = None) -> None:
        self.randomness = randomness
        self.weather = weather or Weather()
        self.between: dict[tuple[str, str], Weather] = {}
        """(from host, to host) whose weather is another one."""
        self.cut: set[tuple[str, str]] = set()
        """(from host, to host) pairs that nothing passes."""
        self.silent: set[str] = set()
        """Hosts that are cut off from all others."""
        self.kept: set[tuple[str, str]] = set()
        """(from host, to host) pairs that pass although one of them is cut off from all others."""
        self.down: set[str] = set()
        """Hosts that are off: nothing there answers, not even with a refusal."""
        self.asleep: set[str] = set()
        """Hosts that are silent as if they were off, and go on later with what they had."""
        self.listeners: dict[Address, Listener] = {}
        """Who accepts streams where."""
        self._open: dict[Address, Receiver] = {}
        self._ports = _FIRST_PORT

    def passes(self, source: str, target: str) -> bool:
        """Whether anything from `source` reaches `target` now; a machine always reaches itself."""
        if self.down and (source in self.down or target in self.down):
            return False
        if self.asleep and (source in self.asleep or target in self.asleep):
            return False
        if source == target:
            return True
        if self.silent and (source in self.silent or target in self.silent) and (source, target) not in self.kept:
            return False
        return (source, target) not in self.cut

    def weather_between(self, source: str, target: str) -> Weather:
        return self.between.get((source, target), self.weather) if self.between else self.weather

    def happens(self, chance: float) -> bool:
        return chance > 0 and self.randomness.between(0, 1) < chance

    def delay_s(self, weather: Weather) -> float:
        return self.randomness.between(*(weather.late_ms if self.happens(weather.late) else weather.delay_ms)) / 1000

    def free_port(self) -> int:
        """For the near end of a connection."""
        self._ports += 1
        return self._ports

    def send(self, source: Address, target: Address, data: bytes) -> None:
        if not self.passes(source.host, target.host):
            return
        weather = self.weather_between(source.host, target.host)
        if self.happens(weather.lost):
            return
        later = asyncio.get_running_loop().call_later
        for _ in range(1 + self.happens(weather.twice)):
            later(self.delay_s(weather), self._deliver, source, target, data)

    def _deliver(self, source: Address, target: Address, data: bytes) -> None:
        receiver = self._open.get(target)
        if receiver is not None and self.passes(source.host, target.host):
            receiver.arrive(data, source)

    def open(self, bind: Address, receiver: Receiver) -> None:
        if bind in self._open:
            raise EnvironmentTrouble(f"UDP port {bind.port} on {bind.host} is taken: choose another one.")
        self._open[bind] = receiver

    def close(self, bind: Address, receiver: Receiver) -> None:
        if self._open.get(bind) is receiver:
            del self._open[bind]
