"""Datagrams between simulated machines, and each process's access to the wires."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams, StreamHandler
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires

_SOCKET_HOLDS = 200
_OLDEST_MS = 1_000.0
"""The age beyond which the real socket's word is not believed (`ports.system_network`)."""


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
    """One process's access to the wires, as `ports.network.Network`. Local sockets are not simulated."""

    def __init__(self, wires: Wires, gate: Gate, clock: Clock, transports: VirtualTransports | None = None) -> None:
        """`transports`: for who dials or listens."""
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

    async def listen(
        self,
        bind: Address,
        handle: StreamHandler,
        tls: ssl.SSLContext | None = None,  # noqa: ARG002 - nobody listens in on the wires
    ) -> Any:
        assert self._transports is not None
        begin = _beginning(handle)
        return await self._transports.serve(bind, lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), begin))

    async def dial_unix(self, *_: Any) -> Any:
        raise OSError("there are no local sockets here")

    listen_unix = dial_unix


def _beginning(handle: StreamHandler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    """Handles each connection in a task of its own. asyncio's own way to do so takes a task that is ended before its
    first step, with its process, for an error (Python 3.11: streams.py, `connection_made`).
    """

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or (error := task.exception()) is None:
                return
            loop.call_exception_handler({"message": "a connection's handler failed", "exception": error})
            writer.close()

        asyncio.ensure_future(handle(reader, writer)).add_done_callback(ended)

    return begin
