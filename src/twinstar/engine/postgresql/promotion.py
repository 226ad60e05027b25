"""Makes a sealed standby the primary of the timeline whose number is the epoch (`docs/protocol.md`, "Timelines").

Who must confirm is set before. The server started with names that nobody fulfils, so at no moment are there no names,
and the first commit already waits.
"""

from __future__ import annotations

from twinstar.engine.postgresql.history_files import newest_known, place_holders
from twinstar.engine.postgresql.seal import RECEIVER
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.slots import make_missing
from twinstar.engine.postgresql.standby_names import UPSTREAM_SETTING, names_settings
from twinstar.model.engine import Names
from twinstar.model.errors import EngineError, EpochSpent, ProtocolBreach
from twinstar.model.position import Position, parse_lsn

_POLL_MS = 3.0
_CHECKPOINT_MS = 3_600_000.0


async def promote(server: Server, epoch: int, names: Names) -> Position:
    """See `engine.base.Engine.promote`. Repeating it for an epoch that has begun is harmless."""
    in_recovery, position = await where(server)
    if in_recovery:
        _allow(server, epoch, position)
    elif position.timeline != epoch:
        raise ProtocolBreach(
            f"{server.settings.member} was to be promoted for epoch {epoch}, but is a primary of {position.timeline}: "
            "stop it, and look at its history before it is started again."
        )
    server.write_settings(names_settings(names))
    server.reload_signal()
    if in_recovery:
        place_holders(server.paths.data, epoch, server.settings.account)
        await server.query("SELECT pg_promote(false)")
    while in_recovery:
        await server.clock.sleep_ms(_POLL_MS)
        in_recovery, position = await where(server)
    if position.timeline != epoch:
        raise ProtocolBreach(
            f"The promotion of {server.settings.member} for epoch {epoch} began timeline {position.timeline}: stop it, "
            "and rebuild it from the leader of a later epoch."
        )
    await make_missing(server, names.voters)
    return position


async def checkpoint(server: Server) -> None:
    """Writes what is dirty. pg_rewind compares with the last checkpoint's timeline, so a new leader needs one soon;
    and an orderly stop is short after one.
    """
    await server.query_fresh("CHECKPOINT", _CHECKPOINT_MS)


async def where(server: Server) -> tuple[bool, Position]:
    """Whether the server is in recovery, and its log's end: flushed on a primary."""
    # In this order: a promotion in between makes a standby of what is a primary already, never the reverse.
    ((in_recovery,),) = await server.query("SELECT pg_is_in_recovery()")
    ((_, timeline, lsn, _),) = await server.query("IDENTIFY_SYSTEM")
    return bool(in_recovery), Position(int(timeline), parse_lsn(lsn))


def _allow(server: Server, epoch: int, position: Position) -> None:
    member = server.settings.member
    if position.timeline >= epoch:
        raise ProtocolBreach(
            f"{member} was to be promoted for epoch {epoch}, but its log is of epoch {position.timeline}: rebuild it "
            "from the leader of a later epoch."
        )
    if newest_known(server.paths.data) >= epoch:
        raise EpochSpent(f"{member} has begun to be promoted for epoch {epoch} before: it needs a later one.")
    followed = server.read_settings().get(UPSTREAM_SETTING)
    if followed or any(RECEIVER in process.title for process in server.children()):
        raise EngineError(f"{member} still follows {followed or 'a leader'} and cannot be promoted: seal it first.")
