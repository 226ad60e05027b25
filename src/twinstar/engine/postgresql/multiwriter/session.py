"""The local session in which a peer's changes are written: its triggers are silent, what it writes is not sent on to
other nodes, and how far the peer's stream has been applied is committed with what was applied.

It must be nobody's worse luck than its own: it looks for deadlocks long before anybody else does and gives way, waits
for locks only so long, and its commits wait for nothing, not even the disk: how far they are durable is asked now and
then, and only that is told to the peer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from psycopg import AsyncConnection

from twinstar.engine.postgresql.connections import DroppingConnection
from twinstar.engine.postgresql.multiwriter.applying import PLANNING
from twinstar.engine.postgresql.multiwriter.pgoutput import EPOCH_US
from twinstar.engine.postgresql.multiwriter.stream import TEXT_OPTIONS
from twinstar.model.position import format_lsn, parse_lsn

Connection = AsyncConnection[tuple[Any, ...]]

LOCK_TIMEOUT_MS = 1_000
DEADLOCK_TIMEOUT_MS = 20

SESSION_SETTINGS: Final = {
    "session_replication_role": "replica",
    # What a crash takes with it, its progress with it, comes again; and nobody else's commit waits for this one's disk.
    "synchronous_commit": "off",
    "lock_timeout": f"{LOCK_TIMEOUT_MS}ms",
    "deadlock_timeout": f"{DEADLOCK_TIMEOUT_MS}ms",
    **PLANNING,
}
"""What makes a session one that applies; all else is as in `connect_locally`."""

_OPTIONS = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off "
    "-c client_connection_check_interval=1000 -c client_min_messages=warning -c row_security=off "
    f"{TEXT_OPTIONS}"
)


BY_HAND = "twinstar by hand"
"""The application name of sessions in which an agent writes for a person: they count, and go, as clients' do."""


async def connect_locally(parameters: Mapping[str, str | int], application_name: str) -> DroppingConnection:
    """An ordinary session in autocommit whose values read as the peers'. Raises psycopg.Error."""
    return await DroppingConnection.connect(
        "",
        autocommit=True,
        **cast(
            dict[str, Any],
            {
                **parameters,
                "application_name": application_name,
                "client_encoding": "UTF8",
                "options": f"{parameters.get('options', '')} {_OPTIONS}",
            },
        ),
    )


class ApplySession:
    """One origin's session. Everything raises psycopg.Error."""

    def __init__(self, connection: DroppingConnection, origin: str) -> None:
        self.connection: Connection = connection
        self._origin = origin

    @classmethod
    async def open(cls, parameters: Mapping[str, str | int], origin: str) -> ApplySession:
        """Raises psycopg.errors.ObjectInUse while an earlier session of this origin is not over, UndefinedObject when
        there is no such origin.
        """
        connection = await connect_locally(parameters, origin)
        try:
            await apply_settings(connection)
            await connection.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
        except BaseException:
            await connection.close()
            raise
        return cls(connection, origin)

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")

    async def commit(self, end_lsn: int, time_us: int) -> None:
        """Commits what was written and, with it, that the stream is applied up to there, as of the peer's time."""
        await self.connection.execute(
            f"SELECT pg_replication_origin_xact_setup('{format_lsn(end_lsn)}', {_timestamp(time_us)}); COMMIT".encode()
        )

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")

    async def advance(self, end_lsn: int, time_us: int) -> None:
        """Commits that the stream is applied up to there although there was nothing to apply."""
        # A transaction without a number of its own leaves no trace in the log.
        await self.connection.execute("BEGIN; SELECT pg_current_xact_id()")
        await self.commit(end_lsn, time_us)

    async def close(self) -> None:
        await self.connection.close()


async def durable_progress(connection: Connection, origin: str) -> int:
    """How far the origin's stream is applied for good: what is visible now is made durable. 0: it was never said.

    For any session; raises psycopg.errors.UndefinedObject when there is no such origin.
    """
    cursor = await connection.execute("SELECT pg_replication_origin_progress(%s, true)::text", (origin,))
    row = await cursor.fetchone()
    return parse_lsn(row[0]) if row and row[0] else 0


@asynccontextmanager
async def quietly(connection: Connection) -> AsyncIterator[None]:
    """A transaction in which an ordinary session reads and writes values as appliers do, past all triggers.

    What it writes is sent on; the peers that have it already find nothing new in it.
    """
    async with connection.transaction():
        await exactly(connection)
        await connection.execute("SET LOCAL session_replication_role = replica")
        yield


async def exactly(connection: Connection) -> None:
    """Lets the rest of the transaction read and write values as text without losing anything."""
    for setting in TEXT_OPTIONS.removeprefix("-c ").split(" -c "):
        name, _, value = setting.strip().partition("=")
        await connection.execute("SELECT set_config(%s, %s, true)", (name, value))


async def apply_settings(connection: Connection) -> None:
    """Makes an ordinary session one that applies, but for the origin."""
    for name, value in SESSION_SETTINGS.items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _timestamp(time_us: int) -> str:
    """Exact to the microsecond, which a number of seconds as a float is not."""
    return f"(timestamptz '2000-01-01 00:00:00+00' + interval '{time_us - EPOCH_US} microseconds')"
