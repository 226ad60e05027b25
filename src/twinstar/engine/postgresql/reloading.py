"""Changed settings and access rules of the user's: all of them are taken over, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from twinstar.engine.postgresql import access, connections, files
from twinstar.engine.postgresql.conf_files import is_closed, scrub, write_conf_files
from twinstar.engine.postgresql.configuration import main_conf, refused_parameters
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import SUPERUSER, Settings
from twinstar.model.errors import EngineError

_COMPLAINT = re.compile(r"^.*?(?:LOG|FATAL|ERROR):\s+(.*)$", re.MULTILINE)
_WRONG_RULE = "SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY line_number LIMIT 1"


async def reload(server: Server, parameters: Mapping[str, str], hba: tuple[str, ...]) -> None:
    """Applies the user's settings and access rules; what needs a restart waits for it. Raises EngineError when one of
    them is wrong: then the old ones stay.
    """
    refused = refused_parameters(parameters)
    if refused:
        raise EngineError(refused[0])
    if files.control(server.paths.data) is None:
        raise EngineError("There is no database here yet: reload again once `twinstar status` shows that it runs.")
    wanted = replace(server.settings, parameters=dict(parameters), hba=hba)
    await _try_out(server, wanted)
    if hba != server.settings.hba:
        await _try_out_rules(server, wanted)
    server.settings = wanted
    write_conf_files(wanted, closed=is_closed(wanted))
    scrub(wanted)
    server.reload_signal()


async def _try_out(server: Server, wanted: Settings) -> None:
    """Has the server's program read the settings. A running server could not tell a wrong value from one that waits
    for a restart.
    """
    draft = server.paths.conf / "draft.conf"
    files.write_durably(draft, main_conf(wanted), account=wanted.account)
    try:
        arguments = ("-D", str(server.paths.data), "-c", f"config_file={draft}", "-C", "port")
        done = await server.tool("postgres", *arguments)
    finally:
        draft.unlink(missing_ok=True)
    if done.code:
        said = _COMPLAINT.search(done.err)
        reason = said[1] if said else done.err.strip() or f"exit status {done.code}"
        raise EngineError(f"{reason}: correct `postgresql.parameters`; the old settings stay in effect.")


async def _try_out_rules(server: Server, wanted: Settings) -> None:
    """Has the running server judge them where they stand, which it alone can. It goes by them only once it is told to
    read them. Who stops right here leaves them to the next start of the agent, as if they had been edited just before.
    """
    _write_rules(wanted)
    try:
        wrong = await connections.query_fresh(wanted, server.clock, _WRONG_RULE, wanted.query_deadline_ms, SUPERUSER)
    except BaseException:
        _write_rules(server.settings)
        raise
    if wrong:
        _write_rules(server.settings)
        raise EngineError(f"{wrong[0][0]}: correct `postgresql.hba`; the old rules stay in effect.")


def _write_rules(settings: Settings) -> None:
    """Whether clients are let in is as it is: that may change while the server is asked."""
    text = access.hba_conf(settings, closed=is_closed(settings))
    files.keep_durably(settings.paths.conf / "pg_hba.conf", text, account=settings.account)
