"""Whom to follow: asking a leader for its branch, and attaching to it."""

from __future__ import annotations

import re

from twinstar.engine.postgresql.conf_files import open_to_clients
from twinstar.engine.postgresql.connections import DroppingConnection, fetch
from twinstar.engine.postgresql.files import control
from twinstar.engine.postgresql.history_files import parse_history
from twinstar.engine.postgresql.seal import end_receivers
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.slots import slot_name
from twinstar.engine.postgresql.standby_names import UPSTREAM_SETTING, tagged
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Branch, Position

_ASK_MS = 5_000.0
_LOG_FILE = re.compile(r"[0-9A-F]{24}")


async def branch(server: Server, upstream: Upstream) -> Branch:
    """See `engine.base.Engine.branch`."""
    try:
        async with server.clock.timeout_ms(_ASK_MS), server.remote(upstream) as remote:
            return await _branch(server, upstream, remote)
    except TimeoutError:
        raise _no_answer(upstream) from None


async def _branch(server: Server, upstream: Upstream, remote: DroppingConnection) -> Branch:
    ((identifier, timeline, _, _),) = await fetch(remote, "IDENTIFY_SYSTEM")
    own = control(server.paths.data)
    if own is not None and own.system_identifier != identifier:
        raise EngineError(
            f"{upstream.member} at {upstream.address} is another database (system identifier {identifier}) than this "
            f"one ({own.system_identifier}): correct the addresses, or move {server.paths.data} away."
        )
    ((in_recovery,),) = await fetch(remote, "SELECT pg_is_in_recovery()")
    if in_recovery:
        raise EngineError(f"{upstream.member} at {upstream.address} does not lead yet: try again.")
    if timeline == 1:
        return Branch(1)
    ((_, content),) = await fetch(remote, f"TIMELINE_HISTORY {timeline}")
    text = content.decode() if isinstance(content, bytes) else str(content)
    return parse_history(int(timeline), text)


async def has_log_from(server: Server, upstream: Upstream, position: Position) -> bool:
    """See `engine.base.Engine.has_log_from`. By the oldest file that the leader has left, on whatever timeline."""
    try:
        async with server.clock.timeout_ms(_ASK_MS), server.remote(upstream) as remote:
            ((size,),) = await fetch(remote, "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
            names = await fetch(remote, "SELECT name FROM pg_ls_waldir()")
    except TimeoutError:
        raise _no_answer(upstream) from None
    files = [str(name) for (name,) in names if _LOG_FILE.fullmatch(str(name))]
    per_log = (1 << 32) // int(size)
    oldest = min((int(name[8:16], 16) * per_log + int(name[16:24], 16) for name in files), default=0)
    return oldest <= position.lsn // int(size)


def _no_answer(upstream: Upstream) -> EngineError:
    return EngineError(
        f"The database of {upstream.member} at {upstream.address} did not answer within {_ASK_MS:.0f} ms: "
        "check that it runs and is reached from here."
    )


async def follow(server: Server, upstream: Upstream) -> None:
    """See `engine.base.Engine.follow`. A receiver that is left is ended: it would go on under its old name."""
    server.write_settings(upstream_settings(server, upstream, upstream.epoch))
    open_to_clients(server.settings)
    server.reload_signal()
    await end_receivers(server)


def upstream_settings(server: Server, upstream: Upstream, epoch: int) -> dict[str, str | None]:
    """The settings with which a standby follows and is counted for `epoch`; for epoch 0 nobody counts it."""
    conninfo = server.conninfo(
        upstream,
        application_name=tagged(server.settings.member, epoch),
        # A leader whose machine is gone sends no reset: the receiver's own timeout is the other half.
        keepalives_idle=1,
        keepalives_interval=1,
        keepalives_count=3,
    )
    return {
        "primary_conninfo": conninfo,
        "primary_slot_name": slot_name(server.settings.member),
        "restore_command": "",
        "wal_retrieve_retry_interval": None,
        UPSTREAM_SETTING: tagged(upstream.member, upstream.epoch),
    }
