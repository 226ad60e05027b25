"""Connections to servers: to our own by its local socket, to other members by TCP.

All of them speak the replication protocol to a database (``replication=database``): SQL and replication commands work
side by side, and PostgreSQL counts them against ``max_wal_senders``, so that an application that has used up
``max_connections`` shuts nobody of us out.

A connection whose question is given up is closed and never sends a cancel request: a cancelled commit wait would
answer *success* (`docs/protocol.md`, "What it does not protect against"), and a server that hangs answers neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo

from twinstar.engine.postgresql.settings import (
    AGENT_ROLE,
    MAINTENANCE_DATABASE,
    REPLICATION_ROLE,
    SUPERUSER,
    Settings,
)
from twinstar.model.address import Address
from twinstar.model.errors import EngineError
from twinstar.ports.clock import Clock

Rows = list[tuple[Any, ...]]
T = TypeVar("T")

CROWDED = ("max_wal_senders", "too many clients", "remaining connection slots")
"""Words of a server that says it is full: it answers."""

# The user's own timeouts are for the user's sessions.
_OPTIONS = (
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 "
    "-c default_transaction_read_only=off"
)


class DroppingConnection(AsyncConnection[tuple[Any, ...]]):
    """A connection that is closed when the task that waits for its answer is cancelled."""

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


def sentence(error: psycopg.Error) -> str:
    """The first line of what a server or the library said."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


async def fetch(connection: AsyncConnection[tuple[Any, ...]], sql: str) -> Rows:
    """Runs one statement or replication command by the simple protocol; empty when it returns no rows."""
    cursor = connection.cursor()
    await cursor.execute(sql.encode())
    return await cursor.fetchall() if cursor.description else []


async def connect(parameters: Mapping[str, str | int]) -> DroppingConnection:
    """Opens a connection in autocommit. Raises psycopg.Error."""
    return await DroppingConnection.connect(
        "", autocommit=True, prepare_threshold=None, **cast(dict[str, Any], parameters)
    )


def local_parameters(settings: Settings, role: str = AGENT_ROLE) -> dict[str, str | int]:
    """To this member's own server, by its socket; the operating system vouches for us (``peer``)."""
    return {
        "host": str(settings.paths.run),
        "port": settings.port,
        "user": role,
        "dbname": MAINTENANCE_DATABASE,
        "replication": "database",
        "application_name": "twinstar",
        "options": _OPTIONS,
        "sslmode": "disable",
        "gssencmode": "disable",
        "target_session_attrs": "any",
    }


def superuser_parameters(settings: Settings, database: str) -> dict[str, str | int]:
    """To a database of this member's own server as its superuser, whose commits wait for nobody else."""
    parameters = local_parameters(settings, SUPERUSER) | {"dbname": database}
    del parameters["replication"]
    parameters["options"] = f"{parameters['options']} -c synchronous_commit=local"
    return parameters


def remote_parameters(settings: Settings, address: Address, role: str = REPLICATION_ROLE) -> dict[str, str | int]:
    """To another member's server, without `replication` and `application_name`, which differ by purpose."""
    parameters: dict[str, str | int] = {
        "host": address.host,
        "port": address.port,
        "user": role,
        "dbname": MAINTENANCE_DATABASE,
        "passfile": str(settings.paths.passfile),
        "sslmode": settings.sslmode,
        "gssencmode": "disable",
        "target_session_attrs": "any",
        # libpq counts whole seconds and takes 1 for 2; a dead host is noticed by the second one earlier.
        "connect_timeout": 2,
        "tcp_user_timeout": settings.wal_timeout_ms,
    }
    if settings.tls:
        parameters["sslrootcert"] = str(settings.paths.conf / "authority.crt")
    return parameters


def conninfo(parameters: Mapping[str, str | int]) -> str:
    """A libpq connection string: for ``primary_conninfo`` and for the options of PostgreSQL's tools."""
    return make_conninfo("", **cast(dict[str, Any], parameters))


class LocalConnection:
    """A connection to our own server that is kept, and opened again when it is broken. One question at a time."""

    def __init__(self, settings: Settings, clock: Clock, parameters: Mapping[str, str | int] | None = None) -> None:
        """`parameters`: other ones than the agent's."""
        self._settings = settings
        self._clock = clock
        self._parameters = local_parameters(settings) if parameters is None else parameters
        self._lock = asyncio.Lock()
        self._connection: DroppingConnection | None = None

    async def query(self, sql: str, deadline_ms: float) -> Rows:
        """Raises EngineError: not answered within the deadline (which includes waiting for one's turn), or refused."""
        return (await self.queries((sql,), deadline_ms))[0]

    async def queries(self, statements: tuple[str, ...], deadline_ms: float) -> list[Rows]:
        """Several statements one after the other on the same connection, nobody else's in between."""
        try:
            async with self._clock.timeout_ms(deadline_ms), self._lock:
                connection = await self._ready()
                return [await fetch(connection, sql) for sql in statements]
        except TimeoutError:
            raise not_in_time(self._settings, deadline_ms) from None
        except psycopg.Error as error:
            raise refused(self._settings, error) from error

    async def _ready(self) -> DroppingConnection:
        if self._connection is None or not _is_usable(self._connection):
            await self.close()
            self._connection = await connect(self._parameters)
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _is_usable(connection: DroppingConnection) -> bool:
    """Whether the server's end is still there, seen before anything is asked: an answer that is lost on the way would
    leave open whether the question was heard.
    """
    if connection.closed:
        return False
    try:
        # What the server said at its end takes the first two reads; then comes the end.
        for _ in range(3):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


async def query_fresh(settings: Settings, clock: Clock, sql: str, deadline_ms: float, role: str = AGENT_ROLE) -> Rows:
    """One statement on a connection of its own. Raises EngineError."""
    connection: DroppingConnection | None = None
    try:
        async with clock.timeout_ms(deadline_ms):
            connection = await connect(local_parameters(settings, role))
            return await fetch(connection, sql)
    except TimeoutError:
        raise not_in_time(settings, deadline_ms) from None
    except psycopg.Error as error:
        raise refused(settings, error) from error
    finally:
        if connection is not None:
            await connection.close()


def not_in_time(settings: Settings, deadline_ms: float) -> EngineError:
    return EngineError(
        f"The database of {settings.member} did not answer within {deadline_ms:.0f} ms: "
        f"see {settings.paths.server_log}."
    )


def refused(settings: Settings, error: psycopg.Error) -> EngineError:
    return EngineError(
        f"The database of {settings.member} refused ({sentence(error)}): see {settings.paths.server_log}."
    )
