"""Makes a new database, so that a crash at any moment is no dead end.

The nonce is written beside the data directory before anything is made in it. Whoever finds it knows that what is there
was made by an attempt that the register may never have heard of, and may be wiped; without it nothing is touched.
"""

from __future__ import annotations

import asyncio

import psycopg

from twinstar.engine.base import Progress
from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.connections import connect, refused, superuser_parameters
from twinstar.engine.postgresql.process_control import kill, start_new_primary
from twinstar.engine.postgresql.roles import create_roles
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import MAINTENANCE_DATABASE, SUPERUSER, Settings
from twinstar.model.errors import EngineError


async def bootstrap(server: Server, nonce: str, progress: Progress) -> str:
    """A new database, running as a primary on timeline 1, on which no commit returns; its system identifier.

    Raises EngineError when there is a data directory that no bootstrap has begun.
    """
    paths = server.paths
    files.prepare_directories(paths, server.settings.account)
    if not files.is_empty(paths.data) and not files.nonce(paths):
        raise EngineError(
            f"{paths.data} holds something that was not made here: move it away, or give the node another `directory`."
        )
    _refuse_grown(server.settings)
    await server.end_tools()
    await kill(server)
    files.write_nonce(paths, nonce)
    files.mark_incomplete(paths, "bootstrap")
    await asyncio.to_thread(files.wipe, paths.data)
    files.make_directory(paths.data, server.settings.account)
    progress(f"making a new database in {paths.data}")
    await initdb(server)
    progress("starting it for the first time")
    await start_new_primary(server)
    await create_roles_of_new(server)
    files.mark_complete(paths)
    control = files.control(paths.data)
    assert control is not None
    return control.system_identifier


def _refuse_grown(settings: Settings) -> None:
    """A nonce that was left beside a database with a history of its own is no leave to wipe it."""
    control = files.control(settings.paths.data)
    if control is not None and control.checkpoint.timeline > 1:
        raise EngineError(
            f"{settings.paths.data} has led in epoch {control.checkpoint.timeline} and is no new database: "
            "restore the store that knows it, or move it away."
        )


async def initdb(server: Server) -> None:
    """Into the empty data directory. Raises EngineError."""
    done = await server.tool(
        "initdb",
        "-D",
        str(server.paths.data),
        f"--username={SUPERUSER}",
        "--auth=reject",
        "--encoding=UTF8",
        *_locale(server.settings),
        "--no-instructions",
        *(["--data-checksums"] if server.settings.data_checksums else _without_checksums(server.settings)),
    )
    if done.code:
        said = (done.err or done.out).splitlines()
        raise EngineError(
            f"initdb failed ({said[-1] if said else done.code}): see that {server.paths.root} is writable."
        )


def _locale(settings: Settings) -> list[str]:
    """Given explicitly, so that it does not depend on who starts the agent, and sorted by code point, so that indexes
    mean the same on members whose C libraries differ. PostgreSQL 17 brings its own UTF-8 locale; before, letters are
    told from digits by the system's C.UTF-8.
    """
    if settings.major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C", "--lc-ctype=C.UTF-8"]


def _without_checksums(settings: Settings) -> list[str]:
    return ["--no-data-checksums"] if settings.major >= 18 else []


async def create_roles_of_new(server: Server) -> None:
    """In the new database that runs. Raises EngineError."""
    # Nobody can confirm yet: these commits must not wait for it.
    parameters = superuser_parameters(server.settings, MAINTENANCE_DATABASE)
    parameters["options"] = f"{parameters['options']} -c log_statement=none"
    try:
        connection = await connect(parameters)
        try:
            await create_roles(connection, server.settings)
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise refused(server.settings, error) from error
