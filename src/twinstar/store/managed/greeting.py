"""How keepers tell each other "no member here yet": on the port that the member's clients will use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.network import Address, Network
from twinstar.store.managed.administration import Administration
from twinstar.store.managed.deciding import NoMember, Serves, Silent, Word

_MOST_BYTES = 16 * 1024
_HEAR_MS = 2_000.0


def _sentence(token: str) -> str:
    """As an error of etcd's gateway, so that other clients take it for one."""
    return f"there is no store member here yet ({token})"


@dataclass
class Greeter:
    """Answers while there is no etcd. Closed before one is started, since that takes the port."""

    network: Network
    clock: Clock
    at: Address
    tls: ssl.SSLContext | None
    token: str
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises EnvironmentTrouble when the port is taken."""
        if self._server is None:
            self._server = await self.network.listen(self.at, self._answer, self.tls)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": _sentence(self.token), "message": _sentence(self.token), "code": 14}).encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with self.clock.timeout_ms(_HEAR_MS):
                await _hear(reader)
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()


async def _hear(reader: asyncio.StreamReader) -> None:
    """The whole request: what is left unread would have the answer thrown away."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"content-length:")
    length = rest.split(b"\r\n", 1)[0].strip()
    if found and length.isdigit():
        await reader.readexactly(min(int(length), _MOST_BYTES))


async def ask(other: Administration, token: str) -> Word:
    """What another keeper or its etcd says."""
    try:
        await other.read()
        return Serves(await other.members())
    except StoreUnavailable as error:
        return NoMember() if _sentence(token) in str(error) else Silent(str(error))
