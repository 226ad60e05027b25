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

TEXT_OPTIONS = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c TimeZone=UTC "
    "-c lc_monetary=C -c search_path="
)
"""What a value's text depends on: the same in the session that writes it and in the one that reads it."""

_NO_TIMEOUTS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0"
_READ_AT_ONCE_BYTES = 256 * 1024
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

    async def read(self) -> list[bytes]:
        """Messages of ``pgoutput``, as many as are there (some hundred kilobytes); waits while there is nothing.

        Empty when only the peer's positions moved.
        """
        while True:
            heard, messages = self._read_what_is_there()
            if heard:
                self.heard_ms = self._clock.now_ms()
                self.ahead_ms = self._clock.wall_ms() - (self._sent_us + EPOCH_US) / 1000
                return messages
            await self._readable()

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
        await self.connection.close()

    def _read_what_is_there(self) -> tuple[bool, list[bytes]]:
        pgconn = self.connection.pgconn
        messages: list[bytes] = []
        last: bytes | memoryview = b""
        heard, size = False, 0
        while size < _READ_AT_ONCE_BYTES:
            pgconn.consume_input()
            before = size
            while True:
                length, data = pgconn.get_copy_data(1)
                if length <= 0:
                    break
                size += length
                if data[0] == _DATA:
                    message = bytes(data[_data.size :])
                    messages.append(message)
                    # Only then has everything come that ends up to there.
                    if message[0] == _COMMIT:
                        self.received = max(self.received, _data.unpack_from(data)[2])
                    last = data
                else:
                    self._take_keepalive(data)
            if last:
                self._sent_us = _data.unpack_from(last)[3]
            if length < 0:
                self._raise_end(messages)
                break
            if size == before:
                break
            heard = True
        return heard or bool(messages), messages

    def _take_keepalive(self, data: bytes | memoryview) -> None:
        if data[0] == _KEEPALIVE:
            _, end, self._sent_us, reply = _keepalive.unpack_from(data)
            self.received = max(self.received, end)
            self.asked = self.asked or bool(reply)

    def _raise_end(self, messages: list[bytes]) -> None:
        """The stream is over. What has come before is handed on first; the end is met again then."""
        if not messages:
            result = self.connection.pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding="utf-8")
            raise psycopg.OperationalError("the peer ended the stream")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        socket = self.connection.pgconn.socket
        readable = loop.create_future()
        loop.add_reader(socket, _resolve, readable)
        self.waiting = True
        try:
            await readable
        finally:
            self.waiting = False
            loop.remove_reader(socket)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _literal(text: str) -> str:
    return Literal(text).as_string()
