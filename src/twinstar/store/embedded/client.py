"""The embedded store as the agent sees it: a few local connections, each used by one request at a time.

A request whose answer does not come in time takes its connection with it, so that a late answer can never be taken for
that of a later request.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from twinstar.model.errors import PeerError, StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import (
    Applied,
    CasOutcome,
    Changed,
    Conflict,
    Lost,
    Synced,
    Unknown,
    Versioned,
    WatchEvent,
    check_size,
    root,
)
from twinstar.store.embedded.frames import MAX_ANSWER_BYTES, Frame, encode, receive, unpack
from twinstar.store.story import Story

_FIRST_PAUSE_MS = 20.0
_LONGEST_PAUSE_MS = 500.0
_FAILURES = (OSError, EOFError, PeerError)  # OSError: TimeoutError among them


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def alive(self) -> bool:
        return not (self.reader.at_eof() or self.reader.exception() or self.writer.is_closing())


class EmbeddedStore:
    """Implements `store.base.Store`. `deadline_ms` bounds each call; a watch has no bound."""

    def __init__(self, socket: Path, cluster: str, clock: Clock, network: Network, deadline_ms: float = 1_000) -> None:
        self._socket = socket
        self._root = root(cluster)
        self._clock = clock
        self._network = network
        self._deadline_ms = deadline_ms
        self._idle: list[_Connection] = []

    async def read(self, key: str) -> Versioned | None:
        return self._ours((await self._ask_safely({"op": "read", "key": self._root + key}))["value"])

    async def read_all(self, prefix: str) -> list[Versioned]:
        answer = await self._ask_safely({"op": "read_all", "prefix": self._root + prefix})
        return [found for packed in answer["values"] if (found := self._ours(packed))]

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        check_size(key, value)
        packed = base64.b64encode(value).decode()
        request = {"op": "compare_and_set", "key": self._root + key, "value": packed, "expected": expected_revision}
        try:
            answer = await self._ask(request)
        except _FAILURES as error:
            return Unknown(self._why(error))
        if "applied" in answer:
            return Applied(answer["applied"])
        return Conflict(self._ours(answer["conflict"]))

    async def delete(self, key: str) -> None:
        await self._ask_safely({"op": "delete", "key": self._root + key})

    async def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        story, lost, pause_ms = Story(), False, _FIRST_PAUSE_MS
        while True:
            try:
                async with self._watching(prefix) as (listing, connection):
                    standing = [found for packed in listing["listing"] if (found := self._ours(packed))]
                    for change in story.restart(standing, listing["revision"]):
                        yield change
                    yield Synced()
                    lost, pause_ms = False, _FIRST_PAUSE_MS
                    while True:
                        frame = await receive(connection.reader, MAX_ANSWER_BYTES)
                        for change in self._told(story, frame):
                            yield change
            except _FAILURES as error:
                if not lost:
                    yield Lost(self._why(error))
                lost = True
                await self._clock.sleep_ms(pause_ms)
                pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)

    async def close(self) -> None:
        """Ends the idle connections. A watch is ended by its consumer."""
        while self._idle:
            await _end(self._idle.pop())

    async def _ask_safely(self, request: Frame) -> Frame:
        """A request that may be made twice: an idle connection may turn out to be that of a former server."""
        for last in (False, True):
            try:
                return await self._ask(request)
            except _FAILURES as error:
                if last or isinstance(error, TimeoutError):
                    raise StoreUnavailable(
                        f"The store at {self._socket} does not answer ({self._why(error)}): see that its process runs."
                    ) from None
        raise AssertionError("unreachable")

    async def _ask(self, request: Frame) -> Frame:
        async with self._clock.timeout_ms(self._deadline_ms):
            connection = await self._connection()
            try:
                answer = await self._exchange(connection, request)
            except BaseException:
                connection.writer.close()
                raise
            self._idle.append(connection)
            return answer

    async def _exchange(self, connection: _Connection, request: Frame) -> Frame:
        connection.writer.write(encode(request))
        await connection.writer.drain()
        answer = await receive(connection.reader, MAX_ANSWER_BYTES)
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            connection.writer.close()
        return _Connection(*await self._network.dial_unix(self._socket))

    @asynccontextmanager
    async def _watching(self, prefix: str) -> AsyncIterator[tuple[Frame, _Connection]]:
        async with self._clock.timeout_ms(self._deadline_ms):
            connection = _Connection(*await self._network.dial_unix(self._socket))
        try:
            async with self._clock.timeout_ms(self._deadline_ms):
                listing = await self._exchange(connection, {"op": "watch", "prefix": self._root + prefix})
            yield listing, connection
        finally:
            await _end(connection)

    def _told(self, story: Story, frame: Frame) -> list[Changed]:
        return story.change(frame["key"].removeprefix(self._root), self._ours(frame["value"]), frame["revision"])

    def _ours(self, packed: Frame | None) -> Versioned | None:
        found = unpack(packed)
        return found and Versioned(found.key.removeprefix(self._root), found.value, found.revision)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._deadline_ms:.0f} ms"
        if isinstance(error, EOFError):
            return "the connection ended before the answer"
        return str(error)


async def _end(connection: _Connection) -> None:
    connection.writer.close()
    with suppress(OSError):  # it had broken already
        await connection.writer.wait_closed()
