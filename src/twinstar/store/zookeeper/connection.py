"""One connection to one ZooKeeper server: a session, requests in a row, answers in the same order, events between them.

The server carries out the requests of a session in the order in which they were sent, and a read waits for the writes
before it. So requests are sent without waiting for the answers to earlier ones, and a read that was sent after a write
is at least as new as the write.

The session means nothing here: no key rests on its life. A broken connection is left and a new session begun, so that
expiry, a lost connection and a restarted server are one case.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twinstar.ports.clock import Clock
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.wire import Malformed, Op, Reply

_SIZE = struct.Struct(">i")
# Above ZooKeeper's own bound for a message (jute.maxbuffer, 1 MiB): what is larger is no ZooKeeper.
_MAX_FRAME_BYTES = 16 * 1024 * 1024
_GOODBYE_MS = 200.0


class Broken(Exception):
    """The connection has ended; nobody knows what became of the requests that were not answered."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    xid: int
    sent_ms: float
    answer: asyncio.Future[Reply]


Listener = Callable[[str | None], None]
"""Told the path of each change, and None when the connection has ended."""


class Connection:
    """Reads only while somebody waits for something, so that one at rest has no task of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._listeners: set[Listener] = set()
        self._pump: asyncio.Task[None] | None = None
        self._frame_size: int | None = None
        self._xid = 0
        self._why = ""
        self.session_ms = 0
        """How long the server keeps the session without a word from us."""

    async def begin(self, session_ms: int) -> None:
        """Asks for a session. Raises Broken."""
        self._write(wire.connect(session_ms))
        try:
            self.session_ms = wire.connected(await self._frame())
        except (OSError, EOFError, Malformed) as error:
            self._break(_said(error))
        if self._why or self.session_ms <= 0:
            raise Broken(self._why or "no session was given")

    @property
    def usable(self) -> bool:
        return not self._why and not self._reader.at_eof()

    @property
    def silent_ms(self) -> float:
        """For how long the oldest request has been waiting for its answer."""
        return self._clock.now_ms() - self._waiting[0].sent_ms if self._waiting else 0.0

    def send(self, op: Op, body: bytes = b"") -> asyncio.Future[Reply]:
        """Sends at once; the future ends in the answer, whatever it says, or in Broken."""
        self._xid = self._xid % 0x7FFF_FFFF + 1
        xid = wire.AUTH_XID if op is Op.AUTH else self._xid
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_looked_at)
        if self._why:
            answer.set_exception(Broken(self._why))
            return answer
        self._waiting.append(_Waiting(xid, self._clock.now_ms(), answer))
        self._write(wire.request(xid, op, body))
        self._attend()
        return answer

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)
        if self._why:
            listener(None)
        self._attend()

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        if self._pump is not None and not self._listeners and not self._waiting:
            self._pump.cancel()
            self._pump = None

    def abort(self, why: str) -> None:
        self._break(why)

    async def close(self) -> None:
        """Ends the session, so that the server need not wait for its end."""
        if self.usable:
            self._write(wire.request(self._xid + 1, Op.CLOSE, b""))
        self._writer.close()
        self._break("closed")
        try:
            async with self._clock.timeout_ms(_GOODBYE_MS):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):  # it had ended already, or a server that hangs never says goodbye (TLS)
            self._writer.transport.abort()

    def _attend(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._waiting or self._listeners:
                self._take(wire.reply(await self._frame()))
        except (OSError, EOFError, Malformed) as error:
            self._break(_said(error))

    async def _frame(self) -> bytes:
        """May be cancelled and called again."""
        if self._frame_size is None:
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            if not 0 <= size <= _MAX_FRAME_BYTES:
                raise Malformed("an answer that is no ZooKeeper's")
            self._frame_size = size
        frame = await self._reader.readexactly(self._frame_size)
        self._frame_size = None
        return frame

    def _take(self, reply: Reply) -> None:
        if reply.xid == wire.EVENT_XID:
            path = wire.changed_path(reply.body)
            for listener in tuple(self._listeners):
                listener(path)
            return
        if not self._waiting or self._waiting[0].xid != reply.xid:
            raise Malformed("an answer to something else")
        answer = self._waiting.popleft().answer
        if not answer.done():
            answer.set_result(reply)

    def _write(self, frame: bytes) -> None:
        self._writer.write(_SIZE.pack(len(frame)) + frame)

    def _break(self, why: str) -> None:
        if self._why:
            return
        self._why = why
        pump, self._pump = self._pump, None
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(Broken(why))
        for listener in tuple(self._listeners):
            listener(None)
        if why != "closed":
            self._writer.transport.abort()


def _said(error: Exception) -> str:
    return "the connection was ended" if isinstance(error, EOFError) else str(error)


def _looked_at(answer: asyncio.Future[Reply]) -> None:
    """Of several requests in a row only the first failure is waited for: the others' are known to be the same."""
    if not answer.cancelled():
        answer.exception()
