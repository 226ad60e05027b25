"""What one slot of a peer sends, read by libpq's COPY BOTH as much as is there at once.

Positions are told to the peer as soon as they move and with each `report`. `flushed` lets the peer forget its log and
lets its synchronous commits return: it is for what will never have to be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

import psycopg
from psycopg import AsyncConnection, generators, pq, waiting
from psycopg.sql import Literal

from twinstar.engine.postgresql.connections import connect, fetch
from twinstar.engine.postgresql.multiwriter.pgoutput import EPOCH_US
from twinstar.model.position import format_lsn, parse_lsn
from twinstar.ports.clock import Clock
from twinstar.ports.descriptors import bound_window, waits

TEXT_OPTIONS = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c TimeZone=UTC "
    "-c lc_monetary=C -c search_path="
)
"""What a value's text depends on: the same in the session that writes it and in the one that reads it."""

_NO_TIMEOUTS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0"
_INBOX_BYTES = 1024 * 1024
"""With more, nothing is read until it is taken."""
_GATHER_MS, _MESSAGES_IN_MS = 8, 60
"""So long it waits for more at most: a millisecond for each so many messages that it has just been sent. Nobody listens
meanwhile: to wake somebody for each message costs the peer more than to send it, and a connection by TCP holds more."""
_ROOM_BYTES, _ROOM_LEFT_BYTES, _MOST_ROOM_BYTES = 16 * 1024, 8 * 1024, 1024 * 1024
"""What libpq has for what it has read: at first; with less than how much left it makes that twice as large when it is
to read on; and how large we let it become, since it never becomes smaller, and reads until it is full."""
_FRAME_BYTES = 5
"""Around a message."""
_WINDOW_BYTES = 96 * 1024
"""For how much of what a peer on this machine sends there is room here: less than it sends while nobody listens, so
that it sends many at once (`bound_window`)."""
_data = Struct("!cqqq")
_keepalive = Struct("!cqqB")
_status = Struct("!cqqqqB")
_DATA, _KEEPALIVE, _COMMIT = b"wkC"


@dataclass(frozen=True, slots=True)
class Slot:
    """`confirmed`: below it the peer sends nothing any more. `lost`: it no longer keeps what comes next."""

    confirmed: int
    active: bool
    lost: bool


class Stream:
    """A connection to a peer's walsender. Everything raises psycopg.Error when the peer refuses or is gone."""

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]], clock: Clock, log_end: int) -> None:
        self.connection = connection
        """For questions, until `start`."""
        self._clock = clock
        self._told = (0, 0, 0)
        self._sent_us = 0
        self._inbox: list[bytes] = []
        self._size, self._came_ms = 0, 0
        self._room_bytes = _ROOM_BYTES
        self._news = asyncio.Event()
        self._socket: int | None = None
        """That is listened to."""
        self._end: psycopg.Error | None = None
        self._gather_ms = 0
        self._holds_much = not connection.pgconn.host.startswith(b"/")
        """A local socket is full at once, and the peer would wait."""
        self.log_end = log_end
        """How far the peer's log reached when the connection was opened."""
        self.received = 0
        """How far the peer's log is known to reach."""
        self.asked = False
        """Whether the peer wants to hear at once how far we are, as it does when it is being stopped."""
        self.waiting = False
        """Whether somebody waits for the peer to send something."""
        self.heard_ms = clock.now_ms()
        self.ahead_ms = 0.0
        """This node's clock less the peer's, and the time that the last message was under way."""

    @classmethod
    async def open(cls, parameters: Mapping[str, str | int], clock: Clock) -> Stream:
        """Connects, but reads nothing yet."""
        options = f"{parameters.get('options', '')} {_NO_TIMEOUTS} {TEXT_OPTIONS}"
        connection = await connect(
            {**parameters, "replication": "database", "client_encoding": "UTF8", "options": options}
        )
        ((_, _, log_end, *_),) = await fetch(connection, "IDENTIFY_SYSTEM")
        return cls(connection, clock, parse_lsn(log_end))

    async def slot(self, name: str) -> Slot | None:
        rows = await fetch(
            self.connection,
            "SELECT coalesce(confirmed_flush_lsn, '0/0')::text, active, coalesce(wal_status, '') = 'lost' "
            f"FROM pg_replication_slots WHERE slot_name = {_literal(name)}",
        )
        return Slot(parse_lsn(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    async def start(self, slot: str, publication: str, position: int) -> None:
        """Begins to receive: only what was first written there, `position` on, whole transactions as they commit."""
        pgconn = self.connection.pgconn
        pgconn.send_query(
            f"START_REPLICATION SLOT {slot} LOGICAL {format_lsn(position)} "
            f"(proto_version '4', publication_names {_literal(publication)}, origin 'none')".encode()
        )
        results = await waiting.wait_async(generators.execute(pgconn), pgconn.socket, interval=1.0)
        if results[0].status != pq.ExecStatus.COPY_BOTH:
            raise psycopg.errors.error_from_result(results[0], encoding="utf-8")
        pgconn.nonblocking = 1
        self.received = position
        self._told = (position, position, position)
        self.heard_ms = self._clock.now_ms()
        bound_window(pgconn.socket, _WINDOW_BYTES)
        # Some may have come with the answer.
        self._read_what_is_there()
        self._listen()

    async def read(self, *, gather: bool = False) -> list[bytes]:
        """Messages of ``pgoutput``, as many as have come (up to a megabyte); waits while there is nothing.

        Empty when only the peer's positions moved. `gather`: under load it lets some more come first, since what is
        done once for all that is read costs more than these milliseconds; for those for whose answer no commit waits.
        """
        if gather and self._gather_ms:
            await self._clock.sleep_ms(self._gather_ms)
        self._listen()
        while not self._inbox:
            if self._end is not None:
                raise self._end
            self._news.clear()
            self.waiting = True
            try:
                await self._news.wait()
            finally:
                self.waiting = False
        messages = self._take(self._inbox)
        self._gather_ms = min(_GATHER_MS, len(messages) // _MESSAGES_IN_MS)
        self._inbox, self._size = [], 0
        if gather and self._gather_ms and self._holds_much:
            self._deafen()
        else:
            self._listen()
        self.heard_ms = self._clock.now_ms()
        self.ahead_ms = self._came_ms - (self._sent_us + EPOCH_US) / 1000
        return messages

    def report(self, written: int, flushed: int, applied: int, *, ask: bool = False) -> None:
        """Tells the peer how far we are. `ask`: it shall answer, so that one hears from it."""
        self._told = (
            max(written, self._told[0]),
            max(flushed, self._told[1]),
            max(applied, self._told[2]),
        )
        self.asked = False
        time_us = self._clock.wall_ms() * 1000 - EPOCH_US
        pgconn = self.connection.pgconn
        pgconn.put_copy_data(_status.pack(b"r", *self._told, time_us, ask))
        # What the socket does not take now goes with the next report.
        pgconn.flush()

    async def close(self) -> None:
        self._deafen()
        await self.connection.close()

    def _listen(self) -> None:
        if self._socket is None and self._end is None:
            self._socket = self.connection.pgconn.socket
            asyncio.get_running_loop().add_reader(self._socket, self._read_what_is_there)

    def _deafen(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = None

    def _read_what_is_there(self) -> None:
        """Called when the peer has sent something."""
        try:
            self._read_some()
        except psycopg.Error as error:
            self._end = error
        self._came_ms = self._clock.wall_ms()
        if self._end is not None or self._size >= _INBOX_BYTES:
            self._deafen()
        self._news.set()

    def _read_some(self) -> None:
        """First takes all that is there, up to a megabyte, then looks at it: so room is made in one go, and not bit by
        bit while the peer fills it (`_WINDOW_BYTES`).
        """
        pgconn, keep, room_bytes, had_bytes = self.connection.pgconn, self._inbox.append, self._room_bytes, self._size
        pgconn.consume_input()
        # What has come meanwhile may have found it full.
        while room_bytes < _MOST_ROOM_BYTES and waits(pgconn.socket):
            room_bytes *= 2
            pgconn.consume_input()
        while True:
            length, data = pgconn.get_copy_data(1)
            if length <= 0:
                break
            self._size += length + _FRAME_BYTES
            keep(bytes(data))
        # It makes itself more room only when what came now nearly filled it.
        needed_bytes = 2 * (self._size - had_bytes + _ROOM_LEFT_BYTES)
        self._room_bytes = max(self._room_bytes, min(room_bytes, needed_bytes))
        if length < 0:
            self._end = self._why_it_ended()

    def _take(self, inbox: list[bytes]) -> list[bytes]:
        messages = [data[_data.size :] for data in inbox if data[0] == _DATA]
        if len(messages) < len(inbox):
            for data in inbox:
                self._take_keepalive(data)
        if inbox[-1][0] == _DATA:
            self._sent_us = _data.unpack_from(inbox[-1])[3]
        # Only with a commit has everything come that ends up to there.
        for data in reversed(inbox):
            if data[0] == _DATA and data[_data.size] == _COMMIT:
                self.received = max(self.received, _data.unpack_from(data)[2])
                break
        return messages

    def _take_keepalive(self, data: bytes) -> None:
        if data[0] == _KEEPALIVE:
            _, end, self._sent_us, reply = _keepalive.unpack_from(data)
            self.received = max(self.received, end)
            self.asked = self.asked or bool(reply)

    def _why_it_ended(self) -> psycopg.Error:
        result = self.connection.pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return psycopg.errors.error_from_result(result, encoding="utf-8")
        return psycopg.OperationalError("the peer ended the stream")


def _literal(text: str) -> str:
    return Literal(text).as_string()
