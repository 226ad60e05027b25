"""A network between simulated machines, as unkind as real ones: delay with long tails, loss, duplicates, reordering
(whatever is delayed longer arrives later), cuts in one direction or both, and machines that are off.

A machine that is *down* is silent. A machine that is up and has nobody at a port says so, to streams (`streams.py`);
to datagrams it does as well, and as on a real socket nobody looks at that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams
from twinstar.ports.randomness import Randomness
from twinstar.simulation.freezing import Gate

if TYPE_CHECKING:
    from twinstar.simulation.streams import Ear, VirtualTransports

_SOCKET_HOLDS = 200
_OLDEST_MS = 1_000.0
"""The age beyond which the real socket's word is not believed (`ports.system_network`)."""
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
        self.ears: dict[Address, Ear] = {}
        """Who accepts streams where."""
        self._open: dict[Address, _VirtualDatagrams] = {}
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

    def open(self, bind: Address, receiver: _VirtualDatagrams) -> None:
        if bind in self._open:
            raise EnvironmentTrouble(f"UDP port {bind.port} on {bind.host} is taken: choose another one.")
        self._open[bind] = receiver

    def close(self, bind: Address, receiver: _VirtualDatagrams) -> None:
        if self._open.get(bind) is receiver:
            del self._open[bind]


class _VirtualDatagrams:
    """One socket: what comes while its owner is stopped or does not attend to it waits, stamped by the machine's wall
    clock as a kernel does it, and the newest are lost when too much does.
    """

    def __init__(
        self, wires: Wires, bind: Address, receive: Callable[[bytes, Address], None], gate: Gate, clock: Clock
    ) -> None:
        self._wires, self._bind, self._receive, self._gate, self._clock = wires, bind, receive, gate, clock
        self._waiting: list[tuple[int, bytes, Address]] = []
        self._attentive = self._is_open = True
        self.age_ms = 0.0

    @property
    def address(self) -> Address:
        return self._bind

    def send(self, to: Address, data: bytes) -> None:
        if self._is_open:
            self._wires.send(self._bind, to, data)

    def attend(self, attentively: bool) -> None:
        self._attentive = attentively
        if attentively:
            self.poll()

    def poll(self) -> None:
        waiting, self._waiting = self._waiting, []
        for arrived_ms, data, source in waiting:
            age_ms = float(self._clock.wall_ms() - arrived_ms)
            self.age_ms = age_ms if 0 <= age_ms <= _OLDEST_MS else 0.0
            self._receive(data, source)
        self.age_ms = 0.0

    def arrive(self, data: bytes, source: Address) -> None:
        if self._attentive and self._gate.is_open:
            self._gate.run(self._receive, data, source)
        elif len(self._waiting) < _SOCKET_HOLDS:
            if not self._waiting and self._attentive:
                self._gate.on_opening(self.poll_if_attentive)
            self._waiting.append((self._clock.wall_ms(), data, source))

    def poll_if_attentive(self) -> None:
        if self._attentive and self._is_open:
            self.poll()

    def close(self) -> None:
        self._is_open = False
        self._wires.close(self._bind, self)
        self._gate.not_at_death(self.close)


class VirtualNetwork:
    """One process's access to the wires, as `ports.network.Network`. Local sockets are not simulated, and nobody of
    ours listens for streams by this port.
    """

    def __init__(self, wires: Wires, gate: Gate, clock: Clock, transports: VirtualTransports | None = None) -> None:
        """`transports`: for who dials."""
        self._wires, self._gate, self._clock, self._transports = wires, gate, clock, transports

    async def open_datagrams(self, bind: Address, receive: Callable[[bytes, Address], None]) -> Datagrams:
        at = bind if bind.port else Address(bind.host, self._wires.free_port())
        datagrams = _VirtualDatagrams(self._wires, at, receive, self._gate, self._clock)
        self._wires.open(at, datagrams)
        self._gate.at_death(datagrams.close)
        return datagrams

    async def dial(
        self,
        to: Address,
        tls: ssl.SSLContext | None = None,  # noqa: ARG002 - nobody listens in on the wires
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._transports is not None
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await self._transports.join(to, protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    async def listen(self, *_: Any, **__: Any) -> Any:
        raise OSError("nobody listens here")

    dial_unix = listen
    listen_unix = listen
