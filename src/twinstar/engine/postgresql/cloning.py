"""Builds a copy of the leader beside the old one, and swaps the two when the new one is complete."""

from __future__ import annotations

import asyncio
import re

from twinstar.engine.base import Progress
from twinstar.engine.postgresql import files, process_control
from twinstar.engine.postgresql.conf_files import is_closed, write_conf_files
from twinstar.engine.postgresql.connections import fetch
from twinstar.engine.postgresql.following import branch
from twinstar.engine.postgresql.forks import save_fork
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.slots import create_statement, slot_name
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import parse_lsn

_ASK_MS = 10_000.0
_END = re.compile(r"write-ahead log end point: ([0-9A-F]+/[0-9A-F]+)")
_PERCENT = re.compile(r"\((\d+)%\)")
_STEP_PERCENT = 10


async def clone(server: Server, upstream: Upstream, progress: Progress) -> None:
    """See `engine.base.Engine.clone`. The old copy, if there is one, may run until the new one is complete.

    Raises EngineError; until the swap the old copy is as it was.
    """
    paths, account = server.paths, server.settings.account
    files.prepare_directories(paths, account)
    # The password file above all: a new member has none yet.
    write_conf_files(server.settings, closed=is_closed(server.settings))
    new, old = paths.root / "data.new", paths.root / "data.old"
    await server.end_tools()
    for left in (new, old):
        await asyncio.to_thread(files.wipe, left)
    # An old copy of another database is refused here.
    leaders = await branch(server, upstream)
    await _make_slot(server, upstream)
    files.make_directory(new, account)
    await base_backup(server, upstream, str(new), progress)
    files.mark_incomplete(paths, "clone")
    await process_control.kill(server)
    await save_fork(server, upstream, leaders, progress)
    if paths.data.exists():
        paths.data.rename(old)
    new.rename(paths.data)
    files.sync_directory(paths.root)
    files.mark_complete(paths)
    await asyncio.to_thread(files.wipe, old)


async def _make_slot(server: Server, upstream: Upstream) -> None:
    """So that the leader keeps the log from the beginning of the copy until its first attachment."""
    name = slot_name(server.settings.member)
    try:
        async with server.clock.timeout_ms(_ASK_MS), server.remote(upstream) as remote:
            if not await fetch(remote, f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{name}'"):
                await fetch(remote, create_statement(name))
    except TimeoutError:
        raise EngineError(
            f"{upstream.member} at {upstream.address} did not answer within {_ASK_MS:.0f} ms: check that it runs."
        ) from None


async def base_backup(server: Server, upstream: Upstream, target: str, progress: Progress) -> int:
    """A complete copy of the upstream in `target`, an empty directory, and up to where its log is in it. Raises
    EngineError.
    """
    progress(f"copying from {upstream.member}")
    done = await server.tool(
        "pg_basebackup",
        f"--pgdata={target}",
        f"--dbname={server.conninfo(upstream, application_name='twinstar-clone')}",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--progress",
        "--verbose",
        "--no-password",
        progress=_Percent(progress),
    )
    if done.code:
        said = (done.err.splitlines() or [f"exit status {done.code}"])[-1]
        raise EngineError(
            f"Copying the database of {upstream.member} failed ({said}): check its disk and the connection to it."
        )
    end = _END.search(done.err)
    if end is None:
        raise EngineError("pg_basebackup does not say where its copy ends: use the programs of PostgreSQL 15 to 18.")
    return parse_lsn(end[1])


class _Percent:
    """Passes on one sentence for every tenth."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = _STEP_PERCENT

    def __call__(self, line: str) -> None:
        found = _PERCENT.search(line)
        if found and int(found[1]) >= self._next:
            self._next = int(found[1]) // _STEP_PERCENT * _STEP_PERCENT + _STEP_PERCENT
            self._progress(f"copied {found[1]} %")
