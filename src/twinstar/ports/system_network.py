"""The machine's own network by asyncio: UDP datagrams, TCP and Unix streams."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.network import Datagrams, StreamHandler
from twinstar.ports.udp import LARGEST_DATAGRAM, bind_trouble, literal_target, plain_address, resolve, udp_socket

_DATAGRAMS_PER_WAKE = 64
_NAME_KEPT_S = 10.0
_SO_TIMESTAMPNS = 35
"""Linux: have the kernel write beside each datagram when it arrived (socket(7))."""
_TIMESPEC = struct.Struct("=qq")
_NOTES_BYTES = 64
_OLDEST_NS = 1_000_000_000


class SystemNetwork:
    """Implements `ports.network.Network`. TCP streams have TCP_NODELAY: asyncio sets it on each."""

    async def open_datagrams(self, bind: Address, receive: Callable[[bytes, Address], None]) -> Datagrams:
        """A UDP socket; on ``::`` it serves IPv4 as well. Raises EnvironmentTrouble when the port is taken."""
        return _SystemDatagrams(udp_socket(bind), receive, asyncio.get_running_loop())

    async def dial(
        self, to: Address, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A byte stream, with TLS checked against `to.host`. Raises OSError (ssl.SSLError is one)."""
        return await asyncio.open_connection(to.host, to.port, ssl=tls)

    async def listen(self, bind: Address, handle: StreamHandler, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Serves byte streams. Raises EnvironmentTrouble when the port is taken."""
        try:
            return await asyncio.start_server(handle, bind.host, bind.port, ssl=tls, reuse_address=True)
        except OSError as error:
            raise bind_trouble(bind, "TCP", error) from error

    async def dial_unix(self, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A byte stream to a local socket. Raises OSError."""
        return await asyncio.open_unix_connection(path)

    async def listen_unix(self, path: Path, handle: StreamHandler) -> asyncio.Server:
        """Serves byte streams on a local socket that only its owner may use (mode 0600).

        One left behind by a dead process is replaced; raises EnvironmentTrouble when a living one answers there.
        """
        await self._remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            listener.close()
            raise EnvironmentTrouble(
                f"The socket {path} cannot be made ({error.args[-1]}): choose a writable directory with a short path."
            ) from error
        finally:
            os.umask(previous)
        return await asyncio.start_unix_server(handle, sock=listener)

    async def _remove_stale(self, path: Path) -> None:
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise EnvironmentTrouble(f"{path} exists and is no socket: move it away or configure another path.")
            _, writer = await self.dial_unix(path)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        else:
            writer.close()
            raise EnvironmentTrouble(
                f"Another process serves {path} already: stop it first, or configure another path."
            )


def _age_ms(notes: list[tuple[int, int, bytes]]) -> float:
    """How long ago the kernel took a datagram in, by the time it wrote beside it; 0 when it wrote none."""
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            age_ns = time.time_ns() - (int(seconds) * 1_000_000_000 + int(nanoseconds))
            # A wall clock that was set meanwhile tells nothing.
            return age_ns / 1e6 if 0 <= age_ns <= _OLDEST_NS else 0.0
    return 0.0


class _SystemDatagrams:
    """A non-blocking UDP socket. Nothing is queued: a heartbeat that waits in a buffer tells lies about its age."""

    def __init__(
        self, sock: socket.socket, receive: Callable[[bytes, Address], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._socket = sock
        self._receive = receive
        self._loop = loop
        self._names: dict[Address, tuple[float, tuple[str, int]]] = {}
        self._lookups: dict[Address, asyncio.Task[None]] = {}
        self._attentive = False
        self.age_ms = 0.0
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.attend(True)

    @property
    def address(self) -> Address:
        """Where the socket is bound, also when the port was left to the system."""
        return plain_address(self._socket.getsockname())

    def send(self, to: Address, data: bytes) -> None:
        target = self._target(to)
        if target is None:
            return
        try:
            self._socket.sendto(data, target)
        except OSError:  # no route, no buffer, closed: a datagram lost, like any other
            return

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        for lookup in self._lookups.values():
            lookup.cancel()
        self._socket.close()

    def attend(self, attentively: bool) -> None:
        if attentively == self._attentive:
            return
        self._attentive = attentively
        if attentively:
            self._loop.add_reader(self._socket, self.poll)
        else:
            self._loop.remove_reader(self._socket)

    def poll(self) -> None:
        for _ in range(_DATAGRAMS_PER_WAKE):
            try:
                data, notes, _flags, sender = self._socket.recvmsg(LARGEST_DATAGRAM, _NOTES_BYTES)
            except BlockingIOError:
                break
            except OSError:  # an earlier datagram of ours was refused by its receiver
                continue
            self.age_ms = _age_ms(notes)
            self._receive(data, plain_address(sender))
        self.age_ms = 0.0

    def _target(self, to: Address) -> tuple[str, int] | None:
        """An address the socket takes as it is: resolving in `sendto` would block the loop."""
        literal = literal_target(self._socket.family, to)
        if literal is not None:
            return literal
        known = self._names.get(to)
        if known is None or known[0] < self._loop.time():
            self._look_up(to)
        return known[1] if known else None

    def _look_up(self, to: Address) -> None:
        if to not in self._lookups:
            self._lookups[to] = self._loop.create_task(self._resolve(to))

    async def _resolve(self, to: Address) -> None:
        try:
            target = await self._loop.run_in_executor(None, resolve, self._socket.family, to)
            self._names[to] = (self._loop.time() + _NAME_KEPT_S, target)
        except OSError:  # the name service is away: what was known goes on being used
            if to in self._names:
                self._names[to] = (self._loop.time() + _NAME_KEPT_S, self._names[to][1])
        finally:
            self._lookups.pop(to, None)
