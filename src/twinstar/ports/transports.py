"""Byte streams for who moves many of them: TCP as asyncio's transports and protocols, without a task per stream.

Each end has TCP_NODELAY (asyncio's own default) and keepalive, so that a peer whose machine is gone is noticed within
`KEEPALIVE_IDLE_S + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL_S` on a silent connection. TCP_USER_TIMEOUT is left alone: it
also counts while a living peer merely does not read (Linux ends such a connection with ETIMEDOUT), and a slow client or
a COPY that waits for a lock does just that.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from twinstar.model.address import Address
from twinstar.ports.processes import Signal
from twinstar.ports.udp import bind_trouble

KEEPALIVE_IDLE_S = 5
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_PROBES = 3
BACKLOG = 1024
"""Clients that reconnect all at once must not meet a full queue: their next attempt would come a second later."""


class Listener(Protocol):
    def close(self) -> None:
        """Stops accepting; what was accepted goes on."""
        ...


class Transports(Protocol):
    async def connect(self, to: Address, protocol: asyncio.Protocol) -> None:
        """Joins `protocol` to a new connection. Raises OSError. Bound it with the clock's timeout."""
        ...

    async def serve(self, bind: Address, make: Callable[[], asyncio.Protocol]) -> Listener:
        """A protocol of its own for each connection that comes in. Raises EnvironmentTrouble when the port is taken."""
        ...


class SystemTransports:
    """The machine's own TCP."""

    async def connect(self, to: Address, protocol: asyncio.Protocol) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, to.host, to.port)
        _keep_alive(transport)

    async def serve(self, bind: Address, make: Callable[[], asyncio.Protocol]) -> Listener:
        try:
            server = await asyncio.get_running_loop().create_server(make, bind.host, bind.port, backlog=BACKLOG)
        except OSError as error:
            raise bind_trouble(bind, "TCP", error) from error
        for listener in server.sockets:  # on Linux what is accepted inherits these
            _set_keepalive(listener)
        return server


def _keep_alive(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it may have been lost already
        _set_keepalive(connection)


def _set_keepalive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def allow_many_connections() -> int:
    """Raises this process's limit of open files to the highest allowed one and returns it."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    return highest


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that is set by SIGTERM or SIGINT, which do nothing else meanwhile."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    caught = (Signal.TERMINATE, Signal.INTERRUPT)
    for number in caught:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
