"""What is the case right now: asked of the server in one go, or read from files and processes when it does not answer.

Asking takes about a millisecond. A server that has not answered within `_ASK_MS` is described by what its pid file, its
``pg_control`` and its processes show, without a position; whether it hangs is another question (`answers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings_state import SettingsLook, SettingsState
from twinstar.engine.postgresql.standby_names import NAMES_SETTING, UPSTREAM_SETTING, parse_names, untagged
from twinstar.model.engine import EngineState, EngineStatus
from twinstar.model.errors import EngineError
from twinstar.model.position import Position, parse_lsn

_ASK_MS = 100.0

_QUESTION = """
SELECT pg_is_in_recovery(), r.status, r.received_tli, r.flushed_lsn::text, pg_conf_load_time()::text
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS r ON true
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of itself."""

    in_recovery: bool
    position: Position
    receiving: bool
    loaded: str
    """When it last read its configuration."""


class Inspector:
    def __init__(self, server: Server) -> None:
        self._server, self._settings = server, SettingsLook(server)

    async def inspect(self) -> EngineState:
        server = self._server
        run = server.run()
        if run is None:
            return self._without_server()
        pid = int(run.partition(":")[0])
        said = files.pid_file(server.paths.data)
        status = said.status if said else "starting"
        if status == "stopping":
            return self._state(EngineStatus.STOPPING, pid, run)
        if status != "ready":
            return self._state(EngineStatus.STARTING, pid, run)
        try:
            answer = await self._ask()
            settings = await self._settings.state(run, answer.loaded)
        except EngineError:
            return self._state(self._status_by_files(), pid, run)
        status_said = EngineStatus.STANDBY if answer.in_recovery else EngineStatus.PRIMARY
        return self._state(status_said, pid, run, answer, settings)

    def _state(
        self,
        status: EngineStatus,
        pid: int | None = None,
        run: str = "",
        answer: Answer | None = None,
        settings: SettingsState | None = None,
    ) -> EngineState:
        paths = self._server.paths
        own = self._server.read_settings()
        control = files.control(paths.data)
        stopped = status is EngineStatus.STOPPED and control and control.state is files.ControlState.SHUT_DOWN
        known = settings or self._settings.last
        return EngineState(
            status=status,
            pid=pid,
            run=run,
            position=answer.position if answer else None,
            upstream=untagged(own.get(UPSTREAM_SETTING, "")),
            receiving=bool(answer and answer.receiving),
            names=parse_names(own.get(NAMES_SETTING, "")) if status is EngineStatus.PRIMARY else None,
            system_identifier=control.system_identifier if control else "",
            nonce=files.nonce(paths),
            shut_down_at=control.checkpoint if control and stopped else None,
            restart_pending=known.restart_pending if pid else (),
            drift=known.drift if pid else (),
        )

    def _without_server(self) -> EngineState:
        paths = self._server.paths
        if self._server.processes.of_directory(paths.data):
            return self._state(EngineStatus.REMAINS)
        if files.incomplete(paths):
            return self._state(EngineStatus.INCOMPLETE)
        return self._state(EngineStatus.ABSENT if files.is_empty(paths.data) else EngineStatus.STOPPED)

    def _status_by_files(self) -> EngineStatus:
        control = files.control(self._server.paths.data)
        primary = control is not None and control.state is files.ControlState.IN_PRODUCTION
        return EngineStatus.PRIMARY if primary else EngineStatus.STANDBY

    async def _ask(self) -> Answer:
        identified, (row,) = await self._server.watch.queries(("IDENTIFY_SYSTEM", _QUESTION), _ASK_MS)
        _, timeline, lsn, _ = identified[0]
        in_recovery, receiver, received_timeline, flushed, loaded = row
        position = Position(int(timeline), parse_lsn(lsn))
        if in_recovery and received_timeline and flushed:
            # Received on a later timeline than what is replayed so far.
            position = max(position, Position(int(received_timeline), parse_lsn(flushed)))
        return Answer(in_recovery, position, receiver == "streaming", loaded)
