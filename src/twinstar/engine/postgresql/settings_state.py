"""Which settings wait for a restart of the server, and which of ours are not as we have written them.

Asked seldom: it changes only when the server reads its configuration, or a file does.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.engine.postgresql import files
from twinstar.engine.postgresql.configuration import SAME_OR_HIGHER, own_names, own_settings
from twinstar.engine.postgresql.server import Server

_ASK_MS = 200.0

_SETTINGS = "SELECT name, setting, source, coalesce(sourcefile, ''), pending_restart FROM pg_settings"
# Ours must come from our files. What was given in another way counts, although its value may be the same today: on the
# command line it could not be changed any more.
_GIVEN = ("command line", "configuration file", "environment variable")
# The server replaces these by what it found, and forgets where they came from.
_RESOLVED = ("hba_file", "ident_file")


@dataclass(frozen=True, slots=True)
class SettingsState:
    restart_pending: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()


class SettingsLook:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.last = SettingsState()
        self._key: tuple[object, ...] = ()

    async def state(self, run: str, loaded: str) -> SettingsState:
        """Of the server that runs as `run` and has read its configuration at `loaded` (`pg_conf_load_time`). Raises
        EngineError.
        """
        data = self._server.paths.data
        auto = data / "postgresql.auto.conf"
        key = (run, loaded, auto.stat().st_mtime_ns if auto.exists() else 0)
        if key != self._key:
            self.last = await self._read()
            self._key = key
        return self.last

    async def _read(self) -> SettingsState:
        server = self._server
        rows = await server.watch.query(_SETTINGS, _ASK_MS)
        own = server.read_settings()
        constant = own_settings(server.settings)
        here = constant.keys() | {name for name in own if not name.startswith("twinstar.")}
        conf = f"{server.paths.conf}/"
        drift = set(files.settings_in_auto_conf(server.paths.data, own_names()))
        for name, setting, source, file, _ in rows:
            if name in _RESOLVED:
                foreign = setting != constant[name]
            else:
                foreign = (name in here or source in _GIVEN) and not file.startswith(conf)
            if foreign and name in here | own_names():
                drift.add(name)
        pending = {name for name, *_, waits in rows if waits}
        # Started with more than is configured, because the log asked for it: waits for a restart as well.
        pending |= own.keys() & set(SAME_OR_HIGHER)
        return SettingsState(tuple(sorted(pending)), tuple(sorted(drift)))
