"""Makes a diverged copy a prefix of the leader's branch with ``pg_rewind``.

Tried out first (``--dry-run``), so that what cannot be done, or cannot be done now, leaves the copy as it was; and the
leader is asked again at the last moment, since keeping the fork may have taken long: a copy that is begun on when its
source has gone is lost to the next election. From the first change until the copy is consistent again it is marked
incomplete. That takes more than ``pg_rewind``: the copy needs the leader's log up to where the leader was *after* its
files were copied, so it is started once more, following the leader under a name that counts for no epoch, and stopped
when it accepts connections.
"""

from __future__ import annotations

from twinstar.engine.base import Progress, RewindResult
from twinstar.engine.postgresql import files, process_control
from twinstar.engine.postgresql.connections import fetch
from twinstar.engine.postgresql.following import branch, upstream_settings
from twinstar.engine.postgresql.forks import save_fork
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import MAINTENANCE_DATABASE, REWIND_ROLE
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Branch
from twinstar.ports.processes import Finished

NOBODYS_EPOCH = 0
_STOPPED_IN_ORDER = (files.ControlState.SHUT_DOWN, files.ControlState.SHUT_DOWN_IN_RECOVERY)
_STOP_MS = 120_000.0
_CATCH_UP_MS = 600_000.0
_CHECKPOINT_MS = 60_000.0
_POLL_MS = 50.0


async def rewind(server: Server, upstream: Upstream, progress: Progress) -> RewindResult:
    """See `engine.base.Engine.rewind`. Raises EngineError, and has changed nothing, when the leader does not answer."""
    _refuse_running(server)
    if files.incomplete(server.paths):
        return RewindResult.IMPOSSIBLE
    await _stop_in_order(server, progress)
    leaders = await branch(server, upstream)
    await _await_checkpoint(server, upstream, leaders)
    tried = await _pg_rewind(server, upstream, None, "--dry-run")
    if tried.code:
        return _impossible(upstream, tried, progress)
    if "no rewind required" in tried.err:
        return RewindResult.DONE
    await save_fork(server, upstream, leaders, progress)
    if await branch(server, upstream) != leaders:
        raise EngineError(f"{upstream.member} began another epoch while the fork was kept: try again.")
    files.mark_incomplete(server.paths, "rewind")
    done = await _pg_rewind(server, upstream, progress)
    if done.code:
        return _impossible(upstream, done, progress)
    await _make_consistent(server, upstream, progress)
    files.mark_complete(server.paths)
    return RewindResult.DONE


def _refuse_running(server: Server) -> None:
    if server.processes.of_directory(server.paths.data):
        raise EngineError(f"The database of {server.settings.member} is running: stop it before it is rewound.")


async def _stop_in_order(server: Server, progress: Progress) -> None:
    """pg_rewind wants a data directory that was shut down. One that was not is recovered as a standby, never as a
    primary, which would begin a timeline or write log of its own.
    """
    found = files.control(server.paths.data)
    if found is None or found.state in _STOPPED_IN_ORDER:
        return
    progress("recovering the local log")
    await _run_once(server, {})


async def _run_once(server: Server, changes: dict[str, str]) -> None:
    """Starts as a standby and stops again as soon as it is consistent."""
    try:
        async with server.clock.timeout_ms(_CATCH_UP_MS):
            await process_control.start(server, changes)
        stopped = await process_control.stop(server, _STOP_MS)
    except TimeoutError:
        stopped = False
    finally:
        await process_control.kill(server)
    if not stopped:
        raise EngineError(
            f"The database of {server.settings.member} did not become consistent: see {server.paths.server_log}."
        )


async def _await_checkpoint(server: Server, upstream: Upstream, leaders: Branch) -> None:
    """Until its first checkpoint a new leader's control file shows the timeline of before, and pg_rewind (before
    version 16) takes the two for one and finds nothing to do.
    """
    try:
        async with server.clock.timeout_ms(_CHECKPOINT_MS), server.remote(upstream) as remote:
            while await fetch(remote, "SELECT timeline_id FROM pg_control_checkpoint()") != [(leaders.timeline,)]:
                await server.clock.sleep_ms(_POLL_MS)
    except TimeoutError:
        raise EngineError(
            f"{upstream.member} has made no checkpoint since it was promoted: try again when its disk has caught up."
        ) from None


async def _pg_rewind(server: Server, upstream: Upstream, progress: Progress | None, *options: str) -> Finished:
    source = server.conninfo(upstream, REWIND_ROLE, dbname=MAINTENANCE_DATABASE, application_name="twinstar")
    return await server.tool(
        "pg_rewind",
        f"--target-pgdata={server.paths.data}",
        f"--source-server={source}",
        f"--config-file={server.paths.main_conf}",
        "--no-ensure-shutdown",
        *options,
        progress=progress,
    )


def _impossible(upstream: Upstream, done: Finished, progress: Progress) -> RewindResult:
    """Told apart from a leader that is out of reach, with which the copy has nothing to do."""
    said = (done.err.splitlines() or [f"exit status {done.code}"])[-1]
    if "connection to server" in done.err or "could not connect" in done.err:
        raise EngineError(f"{upstream.member} at {upstream.address} was lost while rewinding ({said}): try again.")
    progress(f"pg_rewind cannot do it: {said}")
    return RewindResult.IMPOSSIBLE


async def _make_consistent(server: Server, upstream: Upstream, progress: Progress) -> None:
    progress(f"following {upstream.member} until the copy is consistent")
    settings = upstream_settings(server, upstream, NOBODYS_EPOCH)
    await _run_once(server, {name: value for name, value in settings.items() if value is not None})
