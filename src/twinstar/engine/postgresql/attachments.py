"""Standbys as their leader sees them.

``application_name`` is what PostgreSQL counts by, and proves nothing: whoever calls itself ``b@3`` is counted. Genuine
is only the attachment that also has the replication role and holds the slot of that member, which one process at a
time can.
"""

from __future__ import annotations

from twinstar.engine.postgresql.connections import Rows
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import REPLICATION_ROLE
from twinstar.engine.postgresql.slots import slot_name
from twinstar.engine.postgresql.standby_names import untagged
from twinstar.model.engine import Attachment, Primary
from twinstar.model.errors import EngineError
from twinstar.model.position import Position, parse_lsn
from twinstar.ports.processes import Signal

_SENDER = "walsender"
_ATTACHED = """
SELECT r.application_name, r.usename, r.pid, r.state, coalesce(r.flush_lsn, '0/0')::text,
       coalesce(r.replay_lsn, '0/0')::text, coalesce(s.slot_name, '')
FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
"""
# One question instead of three: an agent asks it all the time. LATERAL because the end must be read before the
# attachments: then whoever has flushed up to it is seen to have done so.
_PRIMARY = f"""
SELECT here.in_recovery, here.flushed, here.file, attached.*
FROM (SELECT pg_is_in_recovery() AS in_recovery,
             CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END AS flushed,
             CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END AS file
      OFFSET 0) AS here
LEFT JOIN LATERAL ({_ATTACHED} WHERE here.flushed IS NOT NULL) AS attached ON true
"""
_TIMELINE_DIGITS = 8
"""A log file's name begins with its timeline, in hexadecimal."""


async def attachments(server: Server) -> tuple[Attachment, ...]:
    """Everyone who streams under a member's name. Raises EngineError."""
    return _attachments(await server.query(_ATTACHED))


async def primary(server: Server) -> Primary:
    """See `engine.base.Engine.primary`."""
    rows = await server.query(_PRIMARY)
    in_recovery, flushed, file = rows[0][:3]
    if in_recovery:
        raise EngineError(f"The database of {server.settings.member} is a standby: ask the leader.")
    position = Position(int(file[:_TIMELINE_DIGITS], 16), parse_lsn(flushed))
    return Primary(position, _attachments([row[3:] for row in rows if row[3] is not None]))


def _attachments(rows: Rows) -> tuple[Attachment, ...]:
    found = []
    for name, role, pid, state, flushed, replayed, slot in rows:
        said = untagged(name)
        if said is not None:
            member, epoch = said
            found.append(
                Attachment(
                    member=member,
                    epoch=epoch,
                    flush_lsn=parse_lsn(flushed),
                    replay_lsn=parse_lsn(replayed),
                    streaming=state == "streaming",
                    genuine=role == REPLICATION_ROLE and slot == slot_name(member),
                    pid=pid,
                )
            )
    return tuple(found)


async def end_walsenders(server: Server, pids: frozenset[int]) -> None:
    """Ends these log senders. Pids that are nobody's, or somebody else's by now, are passed over."""
    for process in server.children():
        if process.pid in pids and _SENDER in process.title:
            server.signal(process.pid, Signal.TERMINATE)
