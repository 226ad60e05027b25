"""The network: datagrams between guards, agents and routers, byte streams, and what a dial can end in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from twinstar.model.address import Address as Address

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Datagrams(Protocol):
    def send(self, to: Address, data: bytes) -> None:
        """Sends, or drops silently: that is what the network does as well."""
        ...

    def attend(self, attentively: bool) -> None:
        """Whether what arrives wakes the receiver at once (as it does from the start) or waits for `poll`: each wake-up
        of a process at rest costs more than what it is woken for.
        """
        ...

    def poll(self) -> None:
        """Delivers what has arrived, now."""
        ...

    @property
    def age_ms(self) -> float:
        """While something is being delivered: how long ago it arrived."""
        ...

    def close(self) -> None: ...


class Network(Protocol):
    async def open_datagrams(self, bind: Address, receive: Callable[[bytes, Address], None]) -> Datagrams:
        """A datagram socket. Raises EnvironmentTrouble when the port is taken."""
        ...

    async def dial(
        self, to: Address, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A byte stream. Raises OSError. Bound it with the clock's timeout."""
        ...

    async def listen(self, bind: Address, handle: StreamHandler, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Serves byte streams. Raises EnvironmentTrouble when the port is taken."""
        ...

    async def dial_unix(self, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A byte stream to a local socket. Raises OSError. Bound it with the clock's timeout."""
        ...

    async def listen_unix(self, path: Path, handle: StreamHandler) -> asyncio.Server:
        """Serves byte streams on a local socket for its owner alone. Raises EnvironmentTrouble when one serves it."""
        ...
