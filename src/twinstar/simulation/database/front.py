"""What a simulated database shows to clients: PostgreSQL's wire protocol, as far as a small client needs it.

Two statements are understood: ``append 17`` writes a number and commits it, ``read 3`` returns the numbers of one list
(`list_of`) in the order of the log. A reader on a primary sees what is committed, so not what still waits for its
confirmation, unless the database has been started since: then nobody knows any more that it was waited for. On a
standby everything that is replayed is seen.

Connections are refused while no main process runs. When it dies its sessions end with the last of its processes; while
it hangs or stands still they wait.
"""

from __future__ import annotations

import asyncio
from struct import pack

from twinstar.model.errors import EngineError
from twinstar.router.messages import Cancel, EncryptionRequest, Startup, error_response, parse_first
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires

LIST_LENGTH = 32
"""So many numbers in a row belong to one list."""
_LOOK_MS = 20.0
_READ_ONLY = "25006"
_CANNOT_CONNECT_NOW = "57P03"
_NOT_LET_IN = "28000"


def list_of(number: int) -> int:
    return number // LIST_LENGTH


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + pack(">I", 4 + len(body)) + body


READY = message(b"Z", b"I")


def failed(sqlstate: str, sentence: str) -> bytes:
    """A statement's error, after which the session goes on."""
    body = b"SERROR\0C" + sqlstate.encode() + b"\0M" + sentence.encode() + b"\0\0"
    return message(b"E", body) + READY


class Front:
    """Serves one database's clients, over as many lives as it has."""

    def __init__(self, engine: VirtualEngine, wires: Wires) -> None:
        self.engine, self._wires = engine, wires
        self._locks: dict[int, asyncio.Lock] = {}
        self.troubles: list[BaseException] = []
        """What sessions ended with and never should."""

    async def run(self) -> None:
        engine = self.engine
        while True:
            while not engine.run:
                await engine.fleet.clock.sleep_ms(_LOOK_MS)
            processes = Gate()
            ear = await VirtualTransports(self._wires, processes, engine.address.host).serve(
                engine.address,
                lambda: _Backend(self, processes),  # noqa: B023 - used before the next life
            )
            await engine.ended()
            ear.close()
            while engine.has_processes and not engine.run:
                await engine.bell.heard()
            processes.kill()
            self._locks = {}

    async def answer(self, statement: str) -> bytes:
        """What is sent for one statement. Raises EngineError when the session ends instead."""
        engine = self.engine
        while engine.stuck:
            await engine.bell.heard()
        what, _, number = statement.partition(" ")
        if what == "append":
            return await self._append(int(number))
        await engine.fleet.takes(0.1, 0.5)
        if engine.stopping:
            raise EngineError("A fast stop ends every session at once; commits that waited show from then on.")
        found = " ".join(map(str, self.visible(int(number))))
        row = pack(">HI", 1, len(found)) + found.encode()
        return message(b"D", row) + message(b"C", b"SELECT 1\0") + READY

    async def _append(self, number: int) -> bytes:
        engine = self.engine
        if engine.run and not engine.primary_run:
            return failed(_READ_ONLY, "cannot write in a read-only transaction")
        # A list is one row: who appends holds it until the commit has been confirmed.
        async with self._locks.setdefault(list_of(number), asyncio.Lock()):
            await engine.commit(number)
        return message(b"C", b"INSERT 0 1\0") + READY

    def visible(self, key: int) -> tuple[int, ...]:
        """The numbers of a list that a reader sees now."""
        places = self.engine.disk.log.places
        seen = (n for n in range(key * LIST_LENGTH, (key + 1) * LIST_LENGTH) if self.engine.sees(n))
        return tuple(sorted(seen, key=lambda n: places[n]))


class _Backend(asyncio.Protocol):
    """One session."""

    def __init__(self, front: Front, processes: Gate) -> None:
        self._front, self._processes = front, processes
        self._came = bytearray()
        self._news = asyncio.Event()
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._task = self._processes.spawn(self._serve())
        self._task.add_done_callback(self._ended)

    def data_received(self, data: bytes) -> None:
        self._came += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Noticed when the session next looks: a commit that waits goes on waiting."""
        self._over = True
        self._news.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, EngineError | ConnectionError):
                self._front.troubles.append(error)
            self._transport.close()

    async def _serve(self) -> None:
        if not await self._begun():
            self._transport.close()
            return
        while True:
            kind, body = await self._message()
            if kind != b"Q":
                break
            answer = await self._front.answer(body.rstrip(b"\0").decode())
            self._transport.write(answer)
        self._transport.close()

    async def _begun(self) -> bool:
        """Whether a session has begun."""
        engine = self._front.engine
        while (first := parse_first(self._came)) is None or isinstance(first, EncryptionRequest):
            if first is not None:
                del self._came[: len(first.data)]
                self._transport.write(b"N")
            await self._more()
        del self._came[: len(first.data)]
        if isinstance(first, Cancel) or not isinstance(first, Startup):
            return False
        while engine.stuck:
            await engine.bell.heard()
        await engine.fleet.takes(1, 4)
        if not engine.run or engine.starting or engine.stopping:
            self._transport.write(
                error_response(_CANNOT_CONNECT_NOW, "the database system is starting up or shutting down")
            )
            return False
        if not engine.admits:
            self._transport.write(error_response(_NOT_LET_IN, "pg_hba.conf rejects connection for host"))
            return False
        key = message(b"K", pack(">II", 1, 1))
        standby = message(b"S", b"in_hot_standby\0off\0" if engine.primary_run else b"in_hot_standby\0on\0")
        self._transport.write(message(b"R", pack(">I", 0)) + standby + key + READY)
        return True

    async def _message(self) -> tuple[bytes, bytes]:
        while len(self._came) < 5 or len(self._came) < self._length:
            await self._more()
        kind, body = bytes(self._came[:1]), bytes(self._came[5 : self._length])
        del self._came[: self._length]
        return kind, body

    @property
    def _length(self) -> int:
        return 1 + int.from_bytes(self._came[1:5], "big")

    async def _more(self) -> None:
        self._news.clear()
        if self._over:
            raise ConnectionResetError
        await self._news.wait()
