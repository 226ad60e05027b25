"""Ends a standby's receiving for good, and finds out how far its log reaches (`docs/protocol.md`, "Seal").

Clearing ``primary_conninfo`` and reloading is not enough: the startup process reads settings between two records only,
and while a query holds up replay the receiver goes on confirming for seconds, although every new session shows the new
value. SIGTERM ends the receiver at once; but only when the startup process has *read* the setting is it sure that none
comes back, and only when all of the local log is replayed does the position stand still.

Both are proved by one messenger, ``restore_command``. It is set together with the upstream, so the startup process can
run the new one only after it has read the new upstream, and then no receiver is left and none is begun (it ends the
one there is before it looks anywhere else for log). What it asks for tells the rest: having run out of log it looks for
the history of a next timeline, then for the segment it is in, then reads what there is of that segment; and only when
every record of it is replayed does it look for the history again. A segment and *then* a history: drained. That takes
some ten milliseconds, where watching the position stand still would take several retry intervals.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from twinstar.engine.postgresql.configuration import DETACHED
from twinstar.engine.postgresql.files import read_text
from twinstar.engine.postgresql.history_files import newest_received
from twinstar.engine.postgresql.server import Server
from twinstar.model.errors import EngineError
from twinstar.model.position import Position, parse_lsn
from twinstar.ports.processes import Signal

RECEIVER = "walreceiver"
STARTUP = "startup"
PARKED_INTERVAL_MS = 1_000
"""wal_retrieve_retry_interval of a detached standby: it writes a line to its log each time, and a promotion or a change
of settings wakes it anyway."""

_COUNT_SETTING = "twinstar.asked"
"""Counts the messengers of a run of the server: one that has the command of an earlier seal proves nothing."""
_POLL_MS = 2.0
_PATIENCE_MS = 20.0
"""How long replay may take before it is asked whether a session holds it up."""
_DETACH_PATIENCE_MS = 100.0

_HELD_UP = """
SELECT wait_event = 'RecoveryPause',
       wait_event LIKE 'RecoveryConflict%' OR wait_event_type IN ('Lock', 'BufferPin', 'Buffer')
FROM pg_stat_activity WHERE backend_type = 'startup'
"""
_HOLDERS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)
"""


async def seal(server: Server) -> Position:
    """See `engine.base.Engine.seal`. Sessions that hold up replay are ended. Raises EngineError when the database is
    not running as a standby, or ends meanwhile.
    """
    return await _drain(server, await _begin(server))


async def detach(server: Server) -> Position | None:
    """See `engine.base.Engine.detach`: sessions are left alone. The position is the end of the last complete record if
    replay gets there at once, else of what was received; where that is not known either, it is waited for as in `seal`.
    """
    if server.postmaster() is None:
        server.write_settings(DETACHED)
        return None
    messenger = await _begin(server)
    began = server.clock.now_ms()
    while not messenger.drained() and server.clock.now_ms() - began < _DETACH_PATIENCE_MS:
        await server.clock.sleep_ms(_POLL_MS)
    if messenger.drained():
        _finish(server, messenger)
        return await replayed(server)
    # The messenger stays: when replay gets on, the startup process finds no upstream, and an empty answer.
    return await _held(server) or await _drain(server, messenger)


async def _drain(server: Server, messenger: _Messenger) -> Position:
    """Waits until all local log is replayed, and ends the sessions that hold it up."""
    waited_ms = 0.0
    while not messenger.drained():
        await server.clock.sleep_ms(_POLL_MS)
        waited_ms += _POLL_MS
        if waited_ms >= _PATIENCE_MS:
            waited_ms = 0.0
            await _release_replay(server)
    _finish(server, messenger)
    return await replayed(server)


async def replayed(server: Server) -> Position:
    """The end of the last complete record that a standby has replayed, with its timeline."""
    ((_, timeline, _, _),) = await server.query("IDENTIFY_SYSTEM")
    ((lsn,),) = await server.query("SELECT pg_last_wal_replay_lsn()::text")
    return Position(int(timeline), parse_lsn(lsn))


async def end_receivers(server: Server) -> None:
    """Ends the log receiver, if there is one, and waits until it is gone."""
    for process in server.children():
        if RECEIVER in process.title:
            run = server.processes.run_id(process.pid)
            server.signal(process.pid, Signal.TERMINATE)
            while run is not None and server.processes.is_running(run):
                await server.clock.sleep_ms(_POLL_MS)


@dataclass(frozen=True, slots=True)
class _Messenger:
    """The file to which the startup process says what it looks for."""

    file: Path

    def command(self) -> str:
        """A ``restore_command`` that never finds anything."""
        place = shlex.quote(str(self.file)).replace("%", "%%")
        return f"echo %f >> {place}; exit 1"

    def drained(self) -> bool:
        """Whether a history was looked for after a segment."""
        asked = [name.endswith(".history") for name in read_text(self.file).split()]
        return False in asked and True in asked[asked.index(False) :]


async def _begin(server: Server) -> _Messenger:
    """Everything up to here works without SQL: a standby whose connections are used up can be sealed."""
    for left in server.paths.run.glob("asked-*"):
        left.unlink(missing_ok=True)
    count = int(server.read_settings().get(_COUNT_SETTING, "0")) + 1
    messenger = _Messenger(server.paths.run / f"asked-{count}")
    server.write_settings(
        {
            **DETACHED,
            "restore_command": messenger.command(),
            "wal_retrieve_retry_interval": None,
            _COUNT_SETTING: str(count),
        }
    )
    _signal_reload(server)
    await end_receivers(server)
    ((in_recovery,),) = await server.query("SELECT pg_is_in_recovery()")
    if not in_recovery:
        raise EngineError(
            f"The database of {server.settings.member} runs as a primary and cannot be sealed: "
            "stop it and start it as a standby first."
        )
    return messenger


def _finish(server: Server, messenger: _Messenger) -> None:
    server.write_settings({**DETACHED, "wal_retrieve_retry_interval": f"{PARKED_INTERVAL_MS}ms"})
    _signal_reload(server)
    messenger.file.unlink(missing_ok=True)


def _signal_reload(server: Server) -> None:
    if not server.reload_signal():
        raise EngineError(f"The database of {server.settings.member} is not running: start it as a standby first.")


async def _release_replay(server: Server) -> None:
    """Ends the sessions with a snapshot or locks if replay waits for one."""
    rows = await server.query(_HELD_UP)
    if not rows:
        raise EngineError(
            f"The database of {server.settings.member} recovers no longer: see {server.paths.server_log}."
        )
    ((paused, held_up),) = rows
    if paused:
        await server.query("SELECT pg_wal_replay_resume()")
    if held_up:
        for (pid,) in await server.query(_HOLDERS):
            server.signal(pid, Signal.TERMINATE)
        # Replay that waits for a conflict to end sleeps up to a second at a time; a signal wakes it to look again.
        for process in server.children():
            if STARTUP in process.title:
                server.signal(process.pid, Signal.HANGUP)


async def _held(server: Server) -> Position | None:
    """The end of what was received, if that is all there is; None while only replay can find out.

    A server that has begun anew knows nothing of what it received before: once it has asked for more, it had replayed
    all of that. And as long as nothing of a later timeline is replayed, what was received on it is not shown.
    """
    ((_, timeline, lsn, _),) = await server.query("IDENTIFY_SYSTEM")
    ((received,),) = await server.query("SELECT pg_last_wal_receive_lsn()::text")
    if received is None or newest_received(server.paths.data) > int(timeline):
        return None
    return Position(int(timeline), parse_lsn(lsn))
