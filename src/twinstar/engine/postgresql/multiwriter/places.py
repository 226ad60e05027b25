"""Places: what two nodes must have before one receives from the other, and how far everyone is.

The sender keeps a slot for the receiver, from a position on; the receiver's origin says how far it has the sender's
log. The slot is first. A newcomer that is a copy of its donor has the donor's progress for everybody else; for the
donor itself, and for whoever is new to a node, the origin begins where the slot does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from twinstar.engine.postgresql.multiwriter.names import origin_name, slot_name
from twinstar.model.position import format_lsn, parse_lsn

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of this node. `receiver` has confirmed everything up to `confirmed`; `retained_bytes` are kept for it."""

    receiver: int
    active: bool
    restart: int
    confirmed: int
    wal_status: str
    """As PostgreSQL says it: `reserved`, `extended`, `unreserved`, `lost`."""
    retained_bytes: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a node is: of its own log, of each sender's, and what it keeps for each receiver."""

    log_end: int
    applied: dict[int, int]
    """Sender -> up to where its log is durably applied here. Not of senders from whom nothing ever was."""
    places: dict[int, Place]
    """By receiver."""
    dead_letters: int
    """Changes that could not be applied, and wait for somebody to help."""


async def make_place(connection: Connection, receiver: int) -> int:
    """At the sender, once: from now on it keeps what the receiver has not received. Returns from where on.

    A slot that is there already stays as it is. Waits for transactions that run now to end. Raises psycopg.Error.
    """
    slot = slot_name(receiver)
    cursor = await connection.execute(
        "SELECT coalesce(confirmed_flush_lsn, '0/0')::text FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    )
    row = await cursor.fetchone()
    if row is None:
        cursor = await connection.execute(
            "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
        )
        row = await cursor.fetchone()
    assert row is not None, "a slot that is made has a position"
    return parse_lsn(row[0])


async def give_up_place(connection: Connection, receiver: int) -> None:
    """At the sender: keeps nothing for the receiver any more. Raises psycopg.errors.ObjectInUse while it receives."""
    await connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
        (slot_name(receiver),),
    )


async def begin_at(connection: Connection, sender: int, position: int) -> None:
    """At the receiver, before its applier first runs: it has the sender's log up to this position.

    Does nothing where the origin has progress already: what is here is known better here. Raises psycopg.Error.
    """
    names = {"origin": origin_name(sender), "position": format_lsn(position)}
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_replication_origin_create(%(origin)s) WHERE pg_replication_origin_oid(%(origin)s) IS NULL", names
        )
        await connection.execute(
            "SELECT pg_replication_origin_advance(%(origin)s, %(position)s::pg_lsn) "
            "WHERE pg_replication_origin_progress(%(origin)s, false) IS NULL",
            names,
        )


async def forget(connection: Connection, sender: int) -> None:
    """At a receiver, when the sender is gone for good. Raises psycopg.errors.ObjectInUse while it is applied."""
    await connection.execute(
        "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = %s", (origin_name(sender),)
    )


_PLACES = r"""
SELECT substr(slot_name, 10)::int, active, coalesce(restart_lsn, '0/0')::text,
  coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, 'reserved'),
  coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8
FROM pg_replication_slots WHERE slot_name ~ '^twinstar_\d+$' AND database = current_database()
"""
_APPLIED = r"""
SELECT substr(roname, 10)::int, pg_replication_origin_progress(roname, true)::text
FROM pg_replication_origin WHERE roname ~ '^twinstar_\d+$'
"""


async def applied_from(connection: Connection) -> dict[int, int]:
    """Sender -> up to where its log is durably applied here. Not of senders from whom nothing ever was."""
    applied = await _rows(connection, _APPLIED)
    return {sender: parse_lsn(position) for sender, position in applied if position}


async def standing(connection: Connection) -> Standing:
    """How far this node is; for a session of any role that may read these views. Raises psycopg.Error."""
    places = await _rows(connection, _PLACES)
    applied = await applied_from(connection)
    ((end, letters),) = await _rows(
        connection, "SELECT pg_current_wal_flush_lsn()::text, (SELECT count(*) FROM twinstar.dead_letters)"
    )
    return Standing(
        log_end=parse_lsn(end),
        applied=applied,
        places={
            receiver: Place(receiver, active, parse_lsn(restart), parse_lsn(confirmed), status, retained)
            for receiver, active, restart, confirmed, status, retained in places
        },
        dead_letters=letters,
    )


async def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()
