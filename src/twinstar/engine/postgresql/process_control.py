"""The server's processes: started, stopped, killed, and known to have ended.

A server is always started as a standby that follows nobody and whose commits nobody can confirm, whatever it was
before: a data directory is no evidence that one may lead. The one exception is the first start of a new database
(`bootstrap`). It is started in a session of its own and outlives this process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.conf_files import scrub, write_conf_files
from twinstar.engine.postgresql.configuration import at_start, floors
from twinstar.engine.postgresql.launching import begin
from twinstar.engine.postgresql.own_conf import replace_own
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import Settings
from twinstar.model.errors import EngineError
from twinstar.ports.processes import Signal

_LARGEST_LOG_BYTES = 10 * 1024 * 1024
_FIRST_POLLS = 200
_FIRST_POLL_MS = 5.0
_LATER_POLL_MS = 10.0
_RECORDED = re.compile(r"^(max_\w+) setting:\s+(\d+)$", re.MULTILINE)
_RECORDED_NAMES = {"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}


async def start(server: Server, changes: Mapping[str, str] | None = None) -> None:
    """Starts as a standby; returns when it accepts connections, although replay may go on. Clients are let in when it
    follows somebody or by `admit`.

    `changes`: settings that differ from "nobody is followed, nobody can confirm", such as an upstream for a copy that
    needs more log before it is consistent; whoever gives them is at work on a copy that is known to be incomplete.
    Raises EngineError.
    """
    await _refuse_or_clear(server)
    settings = server.settings
    _check_directory(settings, may_be_half_done=bool(changes))
    files.prepare_directories(settings.paths, settings.account)
    write_conf_files(settings, closed=True)
    scrub(settings)
    files.remove_placeholders(settings.paths.data)
    replace_own(settings.paths, {**at_start(), **await _floors(server), **(changes or {})}, settings.account)
    _make_standby(settings)
    await launch(server)


async def start_new_primary(server: Server) -> None:
    """The first start of a database that was just made: as a primary on timeline 1 on which no commit returns."""
    settings = server.settings
    write_conf_files(settings)
    replace_own(settings.paths, at_start(), settings.account)
    await launch(server)


async def launch(server: Server) -> None:
    """Starts the server with the files as they are. Raises EngineError with the log's last words."""
    paths = server.paths
    _rotate_log(server.settings)
    told_before = paths.server_log.stat().st_size
    command = [server.settings.tool("postgres"), "-D", str(paths.data), "-c", f"config_file={paths.main_conf}"]
    pid = await begin(server, command)
    run = server.processes.run_id(pid)
    polls = 0
    while run is not None and server.processes.is_running(run):
        said = files.pid_file(paths.data)
        if said and said.pid == pid and said.status == "ready":
            return
        await server.clock.sleep_ms(_FIRST_POLL_MS if polls < _FIRST_POLLS else _LATER_POLL_MS)
        polls += 1
    raise EngineError(last_words(server.settings, told_before))


async def stop(server: Server, deadline_ms: float) -> bool:
    """A fast stop: sessions are ended, then a checkpoint. False when something of it is left at the deadline.

    What was stopped in order another program would start as the primary that it was: it is left as a standby of nobody.
    """
    if not await stop_as_is(server, deadline_ms):
        return False
    if files.version_of(server.paths.data) is not None:
        server.write_settings(at_start())
        _make_standby(server.settings)
    return True


async def stop_as_is(server: Server, deadline_ms: float) -> bool:
    """A fast stop of a database that any program may start again as what it was."""
    run = server.run()
    try:
        async with server.clock.timeout_ms(deadline_ms):
            if run is not None:
                server.signal(int(run.partition(":")[0]), Signal.INTERRUPT)
                await server.processes.ended(run)
            while server.processes.of_directory(server.paths.data):
                await server.clock.sleep_ms(_FIRST_POLL_MS)
    except TimeoutError:
        return False
    return True


async def kill(server: Server) -> None:
    """Kills every process of the database, and returns when none is left."""
    # The main process first: it forks no more, and takes no notice of the others' ends.
    run = server.run()
    if run is not None:
        server.signal(int(run.partition(":")[0]), Signal.KILL)
    await server.processes.end_all_of(server.paths.data)
    if run is not None:
        # In its last instant a process stands nowhere, and is not yet gone.
        await server.processes.ended(run)


async def ended(server: Server) -> None:
    """Returns as soon as the main process that runs now has ended."""
    run = server.run()
    if run is not None:
        await server.processes.ended(run)


def last_words(settings: Settings, since: int) -> str:
    """Why the server did not start, from what it logged after byte `since`: what happened, and what to do."""
    with settings.paths.server_log.open("rb") as log:
        log.seek(since)
        text = log.read().decode("utf-8", "replace")
    for sign, meaning in _KNOWN_WORDS:
        if sign in text:
            return meaning.format(settings=settings, log=settings.paths.server_log)
    wrong = _WRONG_SETTING.search(text)
    if wrong:
        return f"The database of {settings.member} did not start ({wrong[1]}): correct `postgresql.parameters`."
    telling = _TELLING.findall(text) or text.split("\n")[-2:-1] or ["it said nothing"]
    return f"The database of {settings.member} did not start ({telling[-1].strip()}): see {settings.paths.server_log}."


_WRONG_SETTING = re.compile(
    r"LOG:\s+((?:invalid value|unrecognized configuration parameter|.* is outside the valid).*)"
)
_TELLING = re.compile(r"(?:FATAL|PANIC|ERROR|error):\s*(.*)")
_KNOWN_WORDS = (
    (
        "Address already in use",
        "Port {settings.address} of {settings.member}'s database is taken by another program: end that one, "
        "or give the node another `port`.",
    ),
    (
        "Cannot assign requested address",
        "{settings.address.host} is no address of this machine: correct the `host` of {settings.member}.",
    ),
    (
        "could not create any TCP/IP sockets",
        "The database of {settings.member} cannot listen on {settings.address}: see {log}.",
    ),
    (
        "No space left on device",
        "The disk of {settings.member}'s database or its shared memory is full: make room, and its agent starts it "
        "again (details in {log}).",
    ),
    (
        "could not map anonymous shared memory",
        "{settings.member}'s database does not get the memory it asks for: lower `shared_buffers`, see {log}.",
    ),
    (
        "could not load",
        "A line under `postgresql.hba`, or a file under `tls`, is wrong: correct the one that {log} names at its end.",
    ),
    (
        "requires minimum parameter settings",
        "{settings.member}'s database has less of a setting than its leader had: see {log}, and raise it.",
    ),
)


async def _refuse_or_clear(server: Server) -> None:
    """Nothing of an earlier run may be left: neither processes nor a pid file whose pid somebody else has by now."""
    if server.postmaster() is not None:
        raise EngineError(f"The database of {server.settings.member} is running already: stop it first.")
    await server.processes.end_all_of(server.paths.data)
    paths = server.paths
    stale = [paths.data / "postmaster.pid", paths.run / f".s.PGSQL.{server.settings.port}.lock"]
    for path in stale:
        path.unlink(missing_ok=True)


def _check_directory(settings: Settings, *, may_be_half_done: bool) -> None:
    data = settings.paths.data
    if files.is_empty(data):
        raise EngineError(f"{data} is empty: make a new database, or clone one into it.")
    half = files.incomplete(settings.paths)
    if half and not may_be_half_done:
        raise EngineError(f"{data} was left half done by a {half}: make or clone it anew.")
    version = files.version_of(data)
    if version is None or files.control(data) is None:
        raise EngineError(f"{data} is no data directory of PostgreSQL: point the node's `directory` elsewhere.")
    if version != settings.major:
        raise EngineError(
            f"{data} was made by PostgreSQL {version}, and the programs in {settings.bin_dir} are {settings.major}: "
            "set `postgresql.bin_dir` to the version that fits."
        )


def _make_standby(settings: Settings) -> None:
    files.keep_durably(settings.paths.data / "standby.signal", "", account=settings.account)


async def _floors(server: Server) -> dict[str, str]:
    """What the log still asks of a standby, where less is configured (`configuration.floors`)."""
    done = await server.tool("pg_controldata", "-D", str(server.paths.data))
    if done.code:
        raise EngineError(f"pg_controldata cannot read {server.paths.data} ({done.err}): check the file system.")
    recorded = {_RECORDED_NAMES.get(name, name): int(value) for name, value in _RECORDED.findall(done.out)}
    return floors(server.settings, recorded)


def _rotate_log(settings: Settings) -> None:
    log = settings.paths.server_log
    if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o640)
