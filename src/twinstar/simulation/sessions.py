"""Clients that come over the wires: they write numbers, read lists, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from struct import pack

from twinstar.histories.operation import Kind, Operation, Outcome
from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.transports import Transports
from twinstar.router.base import Role
from twinstar.simulation.database.front import list_of, message

FIRST_NUMBER = 1_000_000
"""Those below are of clients that ask no router, and take no turns."""
_CONNECT_MS = 8_000.0
_ANSWER_MS = 3_000.0
_AGAIN_MS = (5.0, 100.0)
_STARTUP = pack(">II", 8 + 8, 196608) + b"user\0a\0\0"


class Conversation(asyncio.Protocol):
    """The near end of a session."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self._news = asyncio.Event()
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while len(self._came) >= 5 and len(self._came) > (length := int.from_bytes(self._came[1:5], "big")):
            self._messages.append((bytes(self._came[:1]), bytes(self._came[5 : length + 1])))
            del self._came[: length + 1]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._over = True
        self._news.set()

    async def answer(self) -> dict[bytes, bytes]:
        """The messages up to ReadyForQuery, by type. Raises ConnectionError when the session ends before."""
        found: dict[bytes, bytes] = {}
        while b"Z" not in found:
            while not self._messages:
                self._news.clear()
                if self._over:
                    raise ConnectionResetError
                await self._news.wait()
            kind, body = self._messages.popleft()
            found[kind] = body
            if kind == b"E" and body.startswith(b"SFATAL"):
                raise ConnectionAbortedError(body.decode())
        return found

    async def begin(self) -> None:
        self.transport.write(_STARTUP)
        await self.answer()

    async def ask(self, statement: str) -> dict[bytes, bytes]:
        self.transport.write(message(b"Q", statement.encode() + b"\0"))
        return await self.answer()


class SessionClient:
    """Connects to one endpoint, for a few statements at a time, for ever."""

    def __init__(
        self,
        name: str,
        endpoint: Role,
        to: Address,
        transports: Transports,
        clock: Clock,
        chance: random.Random,
        numbers: Iterator[int],
        history: list[Operation],
        pause_ms: float,
        appends: float,
    ) -> None:
        """`clock` is the one that the history's times are of; `appends` the share of statements that write."""
        self._name, self._endpoint, self._to = name, endpoint, to
        self._transports, self._clock, self._chance = transports, clock, chance
        self._numbers, self._history, self._pause_ms = numbers, history, pause_ms
        self._appends = appends
        self._key = list_of(FIRST_NUMBER)
        """The list that is written now, as far as this client knows."""
        self.under_way: Operation | None = None
        """An append that has not been answered yet."""
        self.acknowledged = 0
        self.answered = 0

    async def run(self) -> None:
        while True:
            conversation = Conversation()
            try:
                await self._session(conversation)
            except (OSError, TimeoutError):
                await self._clock.sleep_ms(self._chance.uniform(*_AGAIN_MS))
            finally:
                if hasattr(conversation, "transport"):
                    conversation.transport.close()

    async def _session(self, conversation: Conversation) -> None:
        async with self._clock.timeout_ms(_CONNECT_MS):
            await self._transports.connect(self._to, conversation)
            await conversation.begin()
        for _ in range(self._chance.randint(1, 60)):
            if self._appends and self._chance.random() < self._appends:
                await self._append(conversation)
            else:
                await self._read(conversation)
            await self._clock.sleep_ms(self._pause_ms * self._chance.uniform(0.5, 1.5))

    async def _append(self, conversation: Conversation) -> None:
        number, began = next(self._numbers), self._clock.now_ms()
        self._key = list_of(number)
        outcome = Outcome.UNKNOWN
        self.under_way = Operation(self._name, Kind.APPEND, self._key, began, outcome=outcome, value=number)
        try:
            async with self._clock.timeout_ms(_ANSWER_MS):
                answer = await conversation.ask(f"append {number}")
            outcome = Outcome.ACKNOWLEDGED if b"C" in answer else Outcome.FAILED
            self.acknowledged += outcome is Outcome.ACKNOWLEDGED
        finally:
            self.under_way = None
            self._note(Kind.APPEND, self._key, began, outcome, number)

    async def _read(self, conversation: Conversation) -> None:
        key, began = self._key - self._chance.choice((0, 0, 1)), self._clock.now_ms()
        if not self._appends:
            key = self._newest()
        read: tuple[int, ...] | None = None
        try:
            async with self._clock.timeout_ms(_ANSWER_MS):
                answer = await conversation.ask(f"read {key}")
            read = tuple(map(int, answer[b"D"][6:].split()))
            self.answered += 1
        finally:
            self._note(Kind.READ, key, began, Outcome.UNKNOWN if read is None else Outcome.ACKNOWLEDGED, read)

    def _newest(self) -> int:
        """The list that was written last, by whom ever."""
        return next((list_of(each.value) for each in reversed(self._history) if isinstance(each.value, int)), self._key)

    def _note(
        self, kind: Kind, key: int, began_ms: float, outcome: Outcome, value: int | tuple[int, ...] | None
    ) -> None:
        ended_ms, via = self._clock.now_ms(), self._endpoint.value
        self._history.append(Operation(self._name, kind, key, began_ms, ended_ms, outcome, value, via=via))
