"""One node's database: made or copied, made a node of its own, started as a primary, opened and shut to clients.

What is in the data directory stands in a *mark* beside it, written before and after each step, so that whoever comes
after a stop knows: nothing; something unfinished; a complete database that is not yet a node of its own; or a node, and
which (`docs/decisions/active-active-life.md`). Two databases of one cluster may have the same system identifier, since
one is a physical copy of the other: the number tells them apart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import psycopg

from twinstar.engine.base import Progress
from twinstar.engine.postgresql import access, bootstrap, cloning, connections, files, process_control, reloading
from twinstar.engine.postgresql.conf_files import is_closed, open_to_clients, scrub, write_conf_files
from twinstar.engine.postgresql.connections import DroppingConnection, LocalConnection
from twinstar.engine.postgresql.multiwriter import objects, places, sequences
from twinstar.engine.postgresql.multiwriter.names import slot_name
from twinstar.engine.postgresql.multiwriter.session import BY_HAND, connect_locally
from twinstar.engine.postgresql.multiwriter.table import describe
from twinstar.engine.postgresql.own_conf import replace_own
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import APPLIER_ROLE, SUPERUSER
from twinstar.engine.postgresql.settings_state import SettingsLook, SettingsState
from twinstar.model.address import Address
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import parse_lsn
from twinstar.ports.processes import Signal

_PREFIX = "twinstar_"
_LONG_MS = 60_000.0
_CLIENT = (
    f"backend_type = 'client backend' AND (application_name = '{BY_HAND}' "
    f"OR (usename NOT LIKE '{_PREFIX}%' AND usename <> '{SUPERUSER}'))"
)
_KNOWN = "SELECT pid FROM pg_stat_activity WHERE usename IS NOT NULL OR backend_type <> 'client backend'"
_STATE = f"""
SELECT pg_current_wal_flush_lsn()::text,
  coalesce((SELECT json_object_agg(substr(slot_name, {len(_PREFIX) + 1}), confirmed_flush_lsn::text)
    FROM pg_replication_slots WHERE slot_type = 'logical' AND slot_name ~ '^{_PREFIX}[0-9]+$'
      AND wal_status IS DISTINCT FROM 'lost' AND confirmed_flush_lsn IS NOT NULL), '{{}}'),
  coalesce((SELECT json_agg(substr(slot_name, {len(_PREFIX) + 1})::int)
    FROM pg_replication_slots WHERE slot_type = 'logical' AND slot_name ~ '^{_PREFIX}[0-9]+$' AND active), '[]'),
  coalesce((SELECT json_object_agg(substr(external_id, {len(_PREFIX) + 1}), remote_lsn::text)
    FROM pg_replication_origin_status WHERE external_id ~ '^{_PREFIX}[0-9]+$'), '{{}}'),
  (SELECT count(*) FROM pg_stat_activity WHERE {_CLIENT}),
  (SELECT number FROM twinstar.node),
  (SELECT count(*) FROM twinstar.dead_letters), (SELECT count(*) FROM twinstar.conflicts), pg_conf_load_time()::text
"""
_PULSE = """
INSERT INTO twinstar.reports AS r (member, applied, floor) VALUES (twinstar.this_node(), '{}', 0)
ON CONFLICT (member) DO UPDATE SET floor = r.floor
"""
_SLOTS = f"SELECT slot_name FROM pg_replication_slots WHERE slot_name ~ '^{_PREFIX}[0-9]+$' AND slot_type = 'logical'"


class Stage(StrEnum):
    NONE = "none"
    UNFINISHED = "unfinished"
    """A database or a copy is being made, or was when its maker stopped."""
    MADE = "made"
    """Complete, and not yet a node of its own."""
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Mark:
    stage: Stage = Stage.NONE
    number: int = 0
    """Which node it is, or is made for."""
    end: int = 0
    """`MADE` by a copy: up to where the donor's log is in it."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a running node says. Positions are bytes of the log that they are of."""

    end: int
    """How far its own log reaches."""
    slots: Mapping[int, int] = field(default_factory=dict)
    """Receiver's number -> from where its slot here sends; without those that are lost."""
    attached: frozenset[int] = frozenset()
    """Receivers that read now."""
    applied: Mapping[int, int] = field(default_factory=dict)
    """Sender's number -> how far its log is durably applied."""
    sessions: int = 0
    """Of clients, under whatever role: those that `shut_out` ends."""
    number: int = 0
    dead_letters: int = 0
    conflicts: int = 0
    settings: SettingsState = field(default_factory=SettingsState)


class NodeDatabase:
    """One member's PostgreSQL that takes writes. All operations may be repeated after a stop in their middle."""

    def __init__(self, server: Server) -> None:
        self.server = server
        settings = server.settings
        superuser = connections.superuser_parameters(settings, settings.database)
        self._watch = LocalConnection(settings, server.clock, superuser)
        self._work = LocalConnection(settings, server.clock, superuser)
        self._names: str | None = None
        """What the server was told of who must confirm; None: not by this process."""
        self._settings = SettingsLook(server)

    # -- what is there -------------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Raises EngineError when the data directory holds something that nobody here has made."""
        text = files.read_text(self._mark_file)
        if not text:
            if not files.is_empty(self.server.paths.data):
                raise EngineError(
                    f"{self.server.paths.data} holds something that was not made here: move it away, or give the node "
                    "another `directory`."
                )
            return Mark()
        raw = json.loads(text)
        return Mark(Stage(raw["stage"]), int(raw["number"]), int(raw["end"]))

    def running(self) -> bool:
        """Whether it accepts connections, by its pid file."""
        said = files.pid_file(self.server.paths.data)
        return self.server.run() is not None and said is not None and said.status == "ready"

    async def state(self, deadline_ms: float) -> NodeState:
        """Raises EngineError when it does not answer, or is no node yet."""
        ((end, slots, attached, applied, sessions, number, letters, conflicts, loaded),) = await self._watch.query(
            _STATE, deadline_ms
        )
        return NodeState(
            end=parse_lsn(end),
            slots=_positions(slots),
            attached=frozenset(attached),
            applied=_positions(applied),
            sessions=int(sessions),
            number=int(number),
            dead_letters=int(letters),
            conflicts=int(conflicts),
            settings=await self._settings_state(loaded),
        )

    async def _settings_state(self, loaded: str) -> SettingsState:
        """As it was, when that is not answered in time: it is asked again at the next look, and clients need not go
        because of it.
        """
        run = self.server.run()
        with suppress(EngineError):
            return await self._settings.state(run or "", loaded)
        return self._settings.last

    async def answers(self, deadline_ms: float) -> bool:
        """Whether a real query on a fresh connection returned within the deadline; one that says it is full has."""
        try:
            await connections.query_fresh(
                self.server.settings, self.server.clock, "SELECT count(*) FROM pg_class", deadline_ms
            )
        except EngineError as error:
            return any(words in str(error) for words in connections.CROWDED)
        return True

    async def ended(self) -> None:
        """Returns as soon as the main process that runs now has ended."""
        await process_control.ended(self.server)

    # -- being made ----------------------------------------------------------------------------------------------------

    async def make(self, number: int, progress: Progress) -> None:
        """The cluster's first database, empty and running, with its roles, clients shut out."""
        server = self.server
        await self._begin(number)
        await asyncio.to_thread(files.wipe, server.paths.data)
        files.make_directory(server.paths.data, server.settings.account)
        progress(f"making a new database in {server.paths.data}")
        await bootstrap.initdb(server)
        await self._launch()
        await bootstrap.create_roles_of_new(server)
        self._write(Mark(Stage.MADE, number))

    async def copy(self, donor: str, address: Address, number: int, progress: Progress) -> None:
        """A complete copy of another node's database, not running. What was here is kept beside it as ``data.old``."""
        server, paths = self.server, self.server.paths
        await self._begin(number)
        write_conf_files(server.settings, closed=True)
        new, old = paths.root / "data.new", paths.root / "data.old"
        await asyncio.to_thread(files.wipe, new)
        files.make_directory(new, server.settings.account)
        end = await cloning.base_backup(server, Upstream(donor, 0, address), str(new), progress)
        if files.control(paths.data) is not None:
            await asyncio.to_thread(files.wipe, old)
            paths.data.rename(old)
        else:
            await asyncio.to_thread(files.wipe, paths.data)
        new.rename(paths.data)
        files.sync_directory(paths.root)
        self._write(Mark(Stage.MADE, number, end))

    async def become(self, number: int) -> None:
        """Makes the running, complete copy node `number`: its stamps and sequences are its own from here on."""
        async with self.superuser() as connection:
            try:
                donor = await objects.node_number(connection)
                if donor is None:
                    await objects.install(connection, number)
                elif donor != number:
                    # What the copy has of its donor's log must be known, no more and no less: others rely on it.
                    await places.begin_at(connection, donor, self.mark().end)
                    await objects.renumber(connection, number)
                for schema, name in await objects.taken_in(connection):
                    table = await describe(connection, schema, name)
                    above = await sequences.highest_in_use(connection, table)
                    await sequences.node_aware_sequences(connection, table, number, above=above)
            except psycopg.Error as error:
                raise connections.refused(self.server.settings, error) from error
        self._write(Mark(Stage.NODE, number))

    async def _begin(self, number: int) -> None:
        server = self.server
        self.mark()
        files.prepare_directories(server.paths, server.settings.account)
        await server.end_tools()
        await self.kill()
        self._write(Mark(Stage.UNFINISHED, number))

    # -- life of the processes -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts it as a primary, with clients shut out; returns when it accepts connections. Raises EngineError."""
        server = self.server
        if server.postmaster() is not None:
            return
        await server.processes.end_all_of(server.paths.data)
        for stale in (server.paths.data / "postmaster.pid", server.paths.run / f".s.PGSQL.{server.settings.port}.lock"):
            stale.unlink(missing_ok=True)
        await self._launch()

    async def _launch(self) -> None:
        server = self.server
        files.prepare_directories(server.paths, server.settings.account)
        write_conf_files(server.settings, closed=True)
        scrub(server.settings)
        replace_own(server.paths, {"synchronous_standby_names": self._names or ""}, server.settings.account)
        await process_control.launch(server)

    async def stop(self, deadline_ms: float) -> bool:
        """An orderly stop; False when it has not ended by the deadline."""
        return await process_control.stop_as_is(self.server, deadline_ms)

    async def kill(self) -> None:
        await process_control.kill(self.server)

    # -- clients, and who must confirm ---------------------------------------------------------------------------------

    async def admit(self) -> None:
        """Lets clients in. Harmless if repeated."""
        if open_to_clients(self.server.settings):
            self.server.reload_signal()

    async def shut_out(self) -> None:
        """Lets no client in any more, and ends the sessions of those that are there, or are about to be: a session goes
        by the rules that the main process had when it was forked, and may take long to say who it is.
        """
        server, deadline_ms = self.server, self.server.settings.query_deadline_ms
        if not is_closed(server.settings):
            text = access.hba_conf(server.settings, closed=True)
            files.keep_durably(server.paths.conf / "pg_hba.conf", text, account=server.settings.account)
            server.reload_signal()
        # The main process heeds the signal before it forks another one.
        await server.query_fresh("SELECT 1", deadline_ms)
        there = server.children()
        known = {pid for (pid,) in await self._work.query(_KNOWN, deadline_ms)}
        for process in there:
            if process.pid not in known:
                server.signal(process.pid, Signal.TERMINATE)
        await self._work.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_CLIENT}", deadline_ms)

    def confirmed_by(self, numbers: frozenset[int], required: int) -> None:
        """Commits return when `required` of these nodes have durably received them; 0: at once."""
        names = ", ".join(f'"{slot_name(number)}"' for number in sorted(numbers))
        wanted = f"ANY {required} ({names})" if required else ""
        if wanted != self._names:
            replace_own(self.server.paths, {"synchronous_standby_names": wanted}, self.server.settings.account)
            self.server.reload_signal()
            self._names = wanted

    async def reload(self, parameters: Mapping[str, str], hba: tuple[str, ...]) -> None:
        """Applies the user's settings and access rules, all of them or none; what needs a restart of the database shows
        in `NodeState.settings`. Raises EngineError.
        """
        await reloading.reload(self.server, parameters, hba)

    # -- places and origins --------------------------------------------------------------------------------------------

    async def keep_places(self, receivers: frozenset[int]) -> None:
        """Makes a slot for each of these receivers, and drops those of others that nobody reads. Making one waits for
        the transactions that run. Raises EngineError.
        """
        wanted = {slot_name(number) for number in receivers}
        there = {name for (name,) in await self._work.query(_SLOTS, self.server.settings.query_deadline_ms)}
        for name in sorted(there - wanted):
            # One that is read is dropped at the next look: its reader ends first.
            await self._work.query(
                f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                f"WHERE slot_name = '{name}' AND NOT active",
                self.server.settings.query_deadline_ms,
            )
        for name in sorted(wanted - there):
            await self._work.query(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')", _LONG_MS)

    async def pulse(self) -> None:
        """Writes something that the others apply. Progress is kept with what is applied, and a copy has what was kept:
        so a donor that hears nothing new would never be known to have what a newcomer's slot begins with.
        """
        await self._work.query(_PULSE, self.server.settings.query_deadline_ms)

    async def begin_at(self, sender: int, position: int) -> None:
        """Notes, where nothing is known of it, that the sender's log is here up to this position."""
        async with self.superuser() as connection:
            try:
                await places.begin_at(connection, sender, position)
            except psycopg.Error as error:
                raise connections.refused(self.server.settings, error) from error

    @asynccontextmanager
    async def superuser(self) -> AsyncIterator[DroppingConnection]:
        """A session of its own in the application's database. Raises EngineError when it cannot be opened."""
        connection = await self.open_superuser()
        try:
            yield connection
        finally:
            await connection.close()

    async def open_superuser(self) -> DroppingConnection:
        """The same, for whoever closes it. Raises EngineError."""
        settings = self.server.settings
        try:
            return await connections.connect(connections.superuser_parameters(settings, settings.database))
        except psycopg.Error as error:
            raise connections.refused(settings, error) from error

    async def open_applier(self) -> DroppingConnection:
        """A session of the appliers' role, which may not do more than write rows. Raises psycopg.Error."""
        settings = self.server.settings
        parameters = connections.local_parameters(settings, APPLIER_ROLE) | {"dbname": settings.database}
        del parameters["replication"]
        return await connect_locally(parameters, "twinstar upkeep")

    async def close(self) -> None:
        """Lets go of connections. The database goes on running."""
        await self._watch.close()
        await self._work.close()
        await self.server.close()

    # -- the mark ------------------------------------------------------------------------------------------------------

    def _write(self, mark: Mark) -> None:
        files.write_durably(self._mark_file, json.dumps(asdict(mark)) + "\n")

    @property
    def _mark_file(self) -> Path:
        return self.server.paths.state / "node.json"


def _positions(raw: Mapping[str, str | None]) -> dict[int, int]:
    return {int(number): parse_lsn(position) if position else 0 for number, position in raw.items()}
