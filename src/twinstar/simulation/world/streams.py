"""Byte streams between simulated machines, as asyncio's transports: what TCP does with delay, cuts and deaths.

Bytes arrive whole and in order, or not at all. While nothing passes they wait and are sent again after pauses that
double, so that a cut that heals is noticed late. A process that ends leaves its kernel, which says so to the other end;
a machine that loses its power says nothing, and once it is back it answers with a reset, as for every connection that
it knows nothing of. Where nobody listens a machine that is up refuses. Keepalive ends an idle connection whose other
end cannot be reached (`ports.transports`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.transports import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
)
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.wires import Listener, Weather, Wires

_FIRST_SYN_S = 1.0
_FIRST_REPEAT_S = 0.2
_LONGEST_REPEAT_S = 120.0
"""Linux: between two attempts to send the same bytes."""


class _Sign(Enum):
    BEGUN = "begun"
    END = "end"
    """Nothing more comes from this direction."""
    RESET = "reset"
    TIMED_OUT = "timed out"


class Ear:
    """A listening socket: whoever comes while its process stands still waits in its queue."""

    def __init__(self, wires: Wires, at: Address, make: Callable[[], asyncio.Protocol], gate: Gate) -> None:
        if at in wires.listeners:
            raise EnvironmentTrouble(f"TCP port {at.port} on {at.host} is taken: choose another one.")
        self._wires, self._at, self._gate = wires, at, gate
        self._listener = wires.listeners[at] = Listener(make, gate)
        gate.at_death(self.close)

    def close(self) -> None:
        if self._wires.listeners.get(self._at) is self._listener:
            del self._wires.listeners[self._at]
        self._gate.not_at_death(self.close)


class VirtualTransports:
    """One process's streams, as `ports.transports.Transports`."""

    def __init__(self, wires: Wires, gate: Gate, host: str) -> None:
        self._wires, self._gate, self._host = wires, gate, host

    async def connect(self, to: Address, protocol: asyncio.Protocol) -> None:
        await self.join(to, protocol)

    async def join(self, to: Address, protocol: asyncio.Protocol) -> asyncio.Transport:
        """As `connect`, for who needs the transport itself."""
        wires, pause_s = self._wires, _FIRST_SYN_S
        there, back = (self._host, to.host), (to.host, self._host)
        while True:
            await asyncio.sleep(wires.delay_s(wires.weather_between(*there)))
            if wires.passes(*there) and wires.passes(*back) and not wires.happens(wires.weather_between(*there).lost):
                break
            await asyncio.sleep(pause_s)
            pause_s *= 2
        ear = wires.listeners.get(to)
        await asyncio.sleep(wires.delay_s(wires.weather_between(*back)))
        if ear is None:
            raise ConnectionRefusedError(f"nobody listens on {to}")
        near = _End(wires, self._gate, Address(self._host, wires.free_port()), to, lambda: protocol)
        far = _End(wires, ear.gate, to, near.local, ear.make)
        near.other, far.other = far, near
        if ear.gate.dead:
            near.arrive(_Sign.RESET)
        else:
            far.arrive(_Sign.BEGUN)
        near.begin()
        return near

    async def serve(self, bind: Address, make: Callable[[], asyncio.Protocol]) -> Ear:
        return Ear(self._wires, bind, make, self._gate)


class _End(asyncio.Transport):
    """One end of a connection: what of it is in the kernel, and the transport that its process sees."""

    other: _End

    def __init__(
        self, wires: Wires, gate: Gate, local: Address, peer: Address, make: Callable[[], asyncio.Protocol]
    ) -> None:
        super().__init__()
        self._wires, self._gate, self._make = wires, gate, make
        self.local, self.peer = local, peer
        self._protocol: asyncio.Protocol | None = None
        self._loop = asyncio.get_running_loop()
        self._out: deque[bytes | _Sign] = deque()
        self._repeat_s = _FIRST_REPEAT_S
        self._sending = False
        self._in: deque[bytes | _Sign] = deque()
        self._waits = self._paused = self._closing = self._lost = False
        self._failed_probes = 0
        self.known = True
        """This machine has not lost the connection's memory, by closing it or by its power."""
        self._heard_s = self._loop.time()
        gate.at_death(self._die)

    # -- what its process sees ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The connection is made: the protocol learns of it. In the process's own context."""
        self._protocol = self._make()
        self._protocol.connection_made(self)
        self._look_in(KEEPALIVE_IDLE_S)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and self.known and not self._closing:
            self._send(bytes(data))

    def write_eof(self) -> None:
        if self.known and not self._closing:
            self._send(_Sign.END)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lose, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._take)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The kernel takes everything at once: what is written here is small."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": (self.peer.host, self.peer.port), "sockname": (self.local.host, self.local.port)}.get(
            name, default
        )

    # -- the wire -----------------------------------------------------------------------------------------------------

    def _send(self, item: bytes | _Sign) -> None:
        self._out.append(item)
        if not self._sending:
            self._sending = True
            self._later(self._wires.delay_s(self._weather()))

    def _later(self, delay_s: float) -> None:
        self._loop.call_later(delay_s, self._transmit)

    def _transmit(self) -> None:
        """What waits arrives, or is sent again later, or meets nobody."""
        if self.local.host in self._wires.down or not self._out:
            self._sending = False
            return
        passes, lost = self._wires.passes(self.local.host, self.peer.host), self._weather().lost
        if not passes or self._wires.happens(lost):
            self._later(self._repeat_s)
            self._repeat_s = min(self._repeat_s * 2, _LONGEST_REPEAT_S)
            return
        self._sending, self._repeat_s = False, _FIRST_REPEAT_S
        waiting, self._out = self._out, deque()
        for item in waiting:
            self.other.arrive(item)

    def arrive(self, item: bytes | _Sign) -> None:
        """Something from the other end. A kernel that knows of no such connection answers with a reset."""
        self._heard_s = self._loop.time()
        if not self.known:
            if item is not _Sign.RESET:
                self._answer_with_reset()
            return
        if item is _Sign.RESET:
            self._in.clear()
            self._out.clear()
        self._in.append(item)
        self._take()

    def _answer_with_reset(self) -> None:
        delay_s = self._wires.delay_s(self._weather())
        if self._wires.passes(self.local.host, self.peer.host):
            self._loop.call_later(delay_s, self.other.arrive, _Sign.RESET)

    def _weather(self) -> Weather:
        return self._wires.weather_between(self.local.host, self.peer.host)

    # -- to its process -----------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """The process reads what has arrived, if it runs and reads."""
        if not self._gate.is_open:
            if not self._waits and not self._gate.dead:
                self._waits = True
                self._gate.on_opening(self._take_on_opening)
            return
        while self._in and not self._lost and not (self._paused and isinstance(self._in[0], bytes)):
            self._gate.run(self._handle, self._in.popleft())

    def _take_on_opening(self) -> None:
        self._waits = False
        self._take()

    def _handle(self, item: bytes | _Sign) -> None:
        if item is _Sign.BEGUN:
            self.begin()
        elif self._protocol is None or self._closing:
            return
        elif isinstance(item, bytes):
            self._protocol.data_received(item)
        elif item is _Sign.END:
            if not self._protocol.eof_received():
                self.close()
        else:
            self._closing, self.known = True, False
            error = ConnectionResetError if item is _Sign.RESET else TimeoutError
            self._lose(error(f"the connection to {self.peer} has ended ({item.value})"))

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._forget()
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def _forget(self) -> None:
        """The kernel closes its end: the other learns of it, by a reset if something was not read here."""
        self._gate.not_at_death(self._die)
        if self.known:
            self.known = False
            unread = any(isinstance(item, bytes) for item in self._in)
            self._send(_Sign.RESET if unread else _Sign.END)

    def _die(self) -> None:
        """The process is killed, or the machine is off: then nobody says anything."""
        self._lost = self._closing = True
        if self.local.host in self._wires.down:
            self.known = False
            self._out.clear()
        self._forget()

    # -- keepalive ----------------------------------------------------------------------------------------------------

    def _look_in(self, after_s: float) -> None:
        if self.known:
            self._loop.call_later(after_s, self._keep_alive)

    def _keep_alive(self) -> None:
        """Asks a silent end whether it is there; while own bytes are on their way, those do."""
        idle_s = self._loop.time() - self._heard_s
        if not self.known or self._lost:
            return
        if idle_s < KEEPALIVE_IDLE_S or self._out:
            self._failed_probes = 0
            self._look_in(max(KEEPALIVE_IDLE_S - idle_s, KEEPALIVE_INTERVAL_S))
            return
        there, back = (self.local.host, self.peer.host), (self.peer.host, self.local.host)
        if self._wires.passes(*there) and self._wires.passes(*back):
            self._failed_probes = 0
            self._heard_s = self._loop.time()
            if not self.other.known:
                self.arrive(_Sign.RESET)
                return
            self._look_in(KEEPALIVE_IDLE_S)
            return
        self._failed_probes += 1
        if self._failed_probes > KEEPALIVE_PROBES:
            self.arrive(_Sign.TIMED_OUT)
            return
        self._look_in(KEEPALIVE_INTERVAL_S)
