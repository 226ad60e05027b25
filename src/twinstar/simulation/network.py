"""A network between simulated members: datagrams with delay, loss and cuts in either direction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.network import Datagrams
from twinstar.ports.randomness import Randomness
from twinstar.simulation.freezing import Gate

_SOCKET_HOLDS = 200


class Wires:
    """What all members share. `cut` holds (from host, to host) pairs that nothing passes."""

    def __init__(self, randomness: Randomness, delay_ms: tuple[float, float] = (0.1, 0.6), loss: float = 0.0) -> None:
        self.randomness, self.delay_ms, self.loss = randomness, delay_ms, loss
        self.cut: set[tuple[str, str]] = set()
        self.silent: set[str] = set()
        """Hosts that neither send nor receive."""
        self._open: dict[Address, Callable[[bytes, Address], None]] = {}

    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self.cut and not {source, target} & self.silent

    def send(self, source: Address, target: Address, data: bytes) -> None:
        if not self.passes(source.host, target.host) or self.randomness.between(0, 1) < self.loss:
            return
        delay = self.randomness.between(*self.delay_ms) / 1000
        asyncio.get_running_loop().call_later(delay, self._deliver, source, target, data)

    def _deliver(self, source: Address, target: Address, data: bytes) -> None:
        receive = self._open.get(target)
        if receive is not None and self.passes(source.host, target.host):
            receive(data, source)

    def open(self, bind: Address, receive: Callable[[bytes, Address], None]) -> None:
        if bind in self._open:
            raise EnvironmentTrouble(f"The UDP port {bind} is taken: choose another one.")
        self._open[bind] = receive

    def close(self, bind: Address) -> None:
        self._open.pop(bind, None)


class _VirtualDatagrams:
    """One socket: what comes while its owner does not attend to it waits, with its age, and the newest are lost when
    too much does.
    """

    def __init__(self, wires: Wires, bind: Address, receive: Callable[[bytes, Address], None]) -> None:
        self._wires, self._bind, self._receive = wires, bind, receive
        self._waiting: list[tuple[float, bytes, Address]] = []
        self._attentive = True
        self.age_ms = 0.0

    def send(self, to: Address, data: bytes) -> None:
        self._wires.send(self._bind, to, data)

    def attend(self, attentively: bool) -> None:
        self._attentive = attentively
        if attentively:
            self.poll()

    def poll(self) -> None:
        now = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, []
        for arrived, data, source in waiting:
            self.age_ms = (now - arrived) * 1000
            self._receive(data, source)
        self.age_ms = 0.0

    def arrive(self, data: bytes, source: Address) -> None:
        if self._attentive:
            self._receive(data, source)
        elif len(self._waiting) < _SOCKET_HOLDS:
            self._waiting.append((asyncio.get_running_loop().time(), data, source))

    def close(self) -> None:
        self._wires.close(self._bind)


class VirtualNetwork:
    """One process's access to the wires. Streams are not simulated: agents speak in datagrams."""

    def __init__(self, wires: Wires, gate: Gate) -> None:
        self._wires, self._gate = wires, gate

    async def open_datagrams(self, bind: Address, receive: Callable[[bytes, Address], None]) -> Datagrams:
        datagrams = _VirtualDatagrams(self._wires, bind, receive)
        self._wires.open(bind, self._gate.receiving(datagrams.arrive))
        return datagrams

    async def dial(self, *_: Any, **__: Any) -> Any:
        raise OSError("no streams here")

    async def listen(self, *_: Any, **__: Any) -> Any:
        raise OSError("no streams here")

    dial_unix = dial
    listen_unix = listen
