"""The store process: answers one request after the other from its table and tells watchers what has changed.

One loop and one file: each request is finished, on disk and in the watchers' inboxes, before the next one is looked at.
That is the whole argument for linearizability.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from twinstar.model.errors import EnvironmentTrouble, PeerError
from twinstar.store.base import MAX_VALUE_BYTES, Applied, Versioned
from twinstar.store.embedded.frames import MAX_REQUEST_BYTES, Frame, encode, pack, receive
from twinstar.store.embedded.table import Table
from twinstar.store.inbox import Inbox

T = TypeVar("T")


class Server:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._watchers: dict[Inbox[Frame], str] = {}
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.ending = asyncio.Event()
        """Set it to end the process; it is also set when the disk has failed (`trouble`)."""
        self.trouble: EnvironmentTrouble | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._serve(reader, writer)
        except (EOFError, OSError):
            pass  # the client has gone: the usual end
        finally:
            del self._connections[task]
            writer.close()

    async def close(self) -> None:
        """Ends every connection and returns when none is left."""
        for inbox in self._watchers:
            inbox.close()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.ending.is_set():
            try:
                request = await receive(reader, MAX_REQUEST_BYTES)
                if request.get("op") == "watch":
                    await self._watch(_field(request, "prefix", str), reader, writer)
                    return
                answer = self._answer(request)
            except PeerError as error:
                writer.write(encode({"error": str(error)}))
                await writer.drain()
                return
            writer.write(encode(answer))
            await writer.drain()

    def _answer(self, request: Frame) -> Frame:
        match request.get("op"):
            case "read":
                return {"value": pack(self._table.read(_field(request, "key", str)))}
            case "read_all":
                return {"values": [pack(found) for found in self._table.read_all(_field(request, "prefix", str))]}
            case "compare_and_set":
                return self._change(lambda: self._compare_and_set(request))
            case "delete":
                return self._change(lambda: self._delete(_field(request, "key", str)))
            case other:
                raise PeerError(f"The embedded store knows no operation {other!r}: run one version of Twinstar.")

    def _change(self, change: Callable[[], Frame]) -> Frame:
        """After a failed write or fsync nobody knows what the file holds: only reading it afresh, at a start, tells."""
        try:
            return change()
        except sqlite3.Error as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                self.trouble = EnvironmentTrouble(f"The store's disk fails ({error}): mend it and start the store.")
                self.ending.set()
            return {"error": f"the store's disk refuses ({error})"}

    def _compare_and_set(self, request: Frame) -> Frame:
        key, value = _field(request, "key", str), _value(request)
        outcome = self._table.compare_and_set(key, value, _field(request, "expected", int))
        if not isinstance(outcome, Applied):
            return {"conflict": pack(outcome.current)}
        self._tell(key, Versioned(key, value, outcome.revision), outcome.revision)
        return {"applied": outcome.revision}

    def _delete(self, key: str) -> Frame:
        revision = self._table.delete(key)
        if revision is not None:
            self._tell(key, None, revision)
        return {"deleted": revision}

    def _tell(self, key: str, value: Versioned | None, revision: int) -> None:
        frame: Frame = {"key": key, "value": pack(value), "revision": revision}
        for inbox, prefix in self._watchers.items():
            if key.startswith(prefix):
                inbox.put(key, frame)

    async def _watch(self, prefix: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inbox: Inbox[Frame] = Inbox()
        listing = [pack(found) for found in self._table.read_all(prefix)]
        writer.write(encode({"listing": listing, "revision": self._table.revision}))
        self._watchers[inbox] = prefix  # nothing was awaited since the listing, so no change is missed
        gone = asyncio.create_task(_close_when_gone(reader, inbox))
        try:
            await writer.drain()
            while frames := await inbox.take():
                writer.writelines([encode(frame) for frame in frames])
                await writer.drain()
        finally:
            gone.cancel()
            del self._watchers[inbox]


async def _close_when_gone(reader: asyncio.StreamReader, inbox: Inbox[Frame]) -> None:
    """A watching client says nothing more; whatever its side of the stream does next is its end."""
    try:
        await reader.read(1)
    except OSError:
        pass
    finally:
        inbox.close()


def _field(request: Frame, name: str, kind: type[T]) -> T:
    found = request.get(name)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise PeerError(f"The embedded store got a request without {name!r}: run one version of Twinstar.")
    return found


def _value(request: Frame) -> bytes:
    try:
        value = base64.b64decode(_field(request, "value", str), validate=True)
    except binascii.Error:
        raise PeerError("The embedded store got a value that is no base64: run one version of Twinstar.") from None
    if len(value) > MAX_VALUE_BYTES:
        raise PeerError(f"The embedded store takes values of {MAX_VALUE_BYTES} bytes, not of {len(value)}.")
    return value
