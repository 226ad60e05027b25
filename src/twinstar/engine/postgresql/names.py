"""Changes who must confirm on a running primary, and knows when the change is in effect (`docs/protocol.md`, "Changing
who must confirm").

A commit waits if the *checkpointer* says so and is released by a *log sender*, each by what it has read itself; a
session that shows the new value proves neither. What does:

* The main process signals all others before it lets another one begin. So once a fresh session shows the new value,
  the signal is out, and every sender that begins later has the value from the start. A sender heeds the signal before
  each time that it takes confirmations; so one that has taken the confirmation of a record written after that moment
  has read the value. Whoever has not in time is ended, and its standby is back in tens of milliseconds.
* From *no* names to some, commits return at once until the checkpointer has read the change. So the way leads through
  names that nobody can fulfil, and a probe commit that is seen waiting is the proof.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from twinstar.engine.postgresql.attachments import end_walsenders
from twinstar.engine.postgresql.connections import DroppingConnection, connect, fetch, local_parameters, refused
from twinstar.engine.postgresql.promotion import where
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.standby_names import NAMES_SETTING, names_settings, parse_names, standby_names, untagged
from twinstar.model.engine import BLOCKED, Names
from twinstar.model.errors import EngineError
from twinstar.model.position import Position, format_lsn
from twinstar.ports.processes import Signal

_POLL_MS = 3.0
_PATIENCE_MS = 300.0
"""How long a log sender may take to confirm before it is ended."""
_FRESH_MS = 5_000.0
_SENDERS = "SELECT pid, application_name, coalesce(flush_lsn, '0/0') >= '{lsn}' FROM pg_stat_replication"
_RECORD = (
    "SELECT set_config('synchronous_commit', '{wait}', true), pg_logical_emit_message(true, 'twinstar', '{text}')::text"
)


async def open_names(server: Server, names: Names) -> Position:
    """See `engine.base.Engine.open_names`."""
    await _refuse_standby(server)
    set_before = parse_names(server.read_settings().get(NAMES_SETTING, ""))
    if names.required and (set_before is None or not set_before.required):
        await _from_nobody(server)
    await _change(server, names_settings(names))
    return await _in_effect(server, names)


async def write_record(server: Server) -> int:
    """Commits a record of our own, flushed here and waiting for nobody; the log's end after it."""
    await server.query(_RECORD.format(wait="local", text="mark"))
    return (await where(server))[1].lsn


async def _change(server: Server, settings: dict[str, str | None]) -> None:
    """Durably sets, reloads, and returns when a fresh session shows the values."""
    server.write_settings(settings)
    server.reload_signal()
    shown = ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in settings)
    expected = tuple(value or "" for value in settings.values())
    while await server.query_fresh(f"SELECT {shown}", _FRESH_MS) != [expected]:
        await server.clock.sleep_ms(_POLL_MS)


async def _in_effect(server: Server, names: Names) -> Position:
    """Waits until every log sender has read the names; the log's end read after that."""
    old = {pid for pid, _, _ in await _tagged_senders(server, 0)}
    mark = await write_record(server)
    deadline = server.clock.now_ms() + _PATIENCE_MS
    while names.required and (old := old & await _silent(server, mark)):
        if server.clock.now_ms() > deadline:
            await _end(server, old)
        await server.clock.sleep_ms(_POLL_MS)
    return (await where(server))[1]


async def _silent(server: Server, mark: int) -> set[int]:
    return {pid for pid, _, confirmed in await _tagged_senders(server, mark) if not confirmed}


async def _tagged_senders(server: Server, lsn: int) -> list[tuple[int, tuple[str, int], bool]]:
    """Log senders under a member's name, the only ones that can be counted, and whether they have confirmed `lsn`."""
    rows = await server.query(_SENDERS.format(lsn=format_lsn(lsn)))
    return [(pid, tag, confirmed) for pid, name, confirmed in rows if (tag := untagged(name))]


async def _end(server: Server, pids: set[int]) -> None:
    await end_walsenders(server, frozenset(pids))
    while pids & {pid for pid, _, _ in await _tagged_senders(server, 0)}:
        await server.clock.sleep_ms(_POLL_MS)


# -- from no names to some ---------------------------------------------------------------------------------------------


async def _from_nobody(server: Server) -> None:
    """Sets names that nobody can fulfil. What was meant (`NAMES_SETTING`) stays "nobody" until a commit is seen
    waiting, so that whoever repeats this after a crash does not take the proof for given.
    """
    await _change(server, {"synchronous_standby_names": standby_names(BLOCKED)})
    try:
        while not await _probe_waits(server):
            await server.clock.sleep_ms(_POLL_MS)
    except psycopg.Error as error:
        raise refused(server.settings, error) from error


async def _probe_waits(server: Server) -> bool:
    """Whether a commit waits for standbys."""
    connection = await connect(local_parameters(server.settings))
    pid = connection.info.backend_pid
    probe = asyncio.create_task(_commit(connection))
    try:
        while not probe.done():
            ((waits_for,),) = await server.query(f"SELECT max(wait_event) FROM pg_stat_activity WHERE pid = {pid}")
            if waits_for == "SyncRep":
                return True
            await server.clock.sleep_ms(1.0)
        await probe
        return False
    finally:
        probe.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error):
            await probe
        # Nobody would ever tell it to stop waiting.
        server.signal(pid, Signal.TERMINATE)
        await connection.close()


async def _commit(connection: DroppingConnection) -> None:
    await fetch(connection, _RECORD.format(wait="on", text="probe"))


async def _refuse_standby(server: Server) -> None:
    in_recovery, _ = await where(server)
    if in_recovery:
        raise EngineError(f"The database of {server.settings.member} is a standby: names are set by its promotion.")
