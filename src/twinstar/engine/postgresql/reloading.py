"""Changed settings of the user's: all of them are taken over, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from twinstar.engine.postgresql.conf_files import is_closed, scrub, write_conf_files
from twinstar.engine.postgresql.configuration import main_conf, refused_parameters
from twinstar.engine.postgresql.files import write_durably
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import Settings
from twinstar.model.errors import EngineError

_COMPLAINT = re.compile(r"^.*?(?:LOG|FATAL|ERROR):\s+(.*)$", re.MULTILINE)


async def reload(server: Server, parameters: Mapping[str, str]) -> None:
    """Applies the user's settings; what needs a restart waits for it. Raises EngineError when one of them is wrong:
    then the old ones stay.
    """
    refused = refused_parameters(parameters)
    if refused:
        raise EngineError(refused[0])
    wanted = replace(server.settings, parameters=dict(parameters))
    await _try_out(server, wanted)
    server.settings = wanted
    write_conf_files(wanted, closed=is_closed(wanted))
    scrub(wanted)
    server.reload_signal()


async def _try_out(server: Server, wanted: Settings) -> None:
    """Has the server's program read the settings. A running server could not tell a wrong value from one that waits
    for a restart.
    """
    draft = server.paths.conf / "draft.conf"
    write_durably(draft, main_conf(wanted), account=wanted.account)
    try:
        arguments = ("-D", str(server.paths.data), "-c", f"config_file={draft}", "-C", "port")
        done = await server.tool("postgres", *arguments)
    finally:
        draft.unlink(missing_ok=True)
    if done.code:
        said = _COMPLAINT.search(done.err)
        reason = said[1] if said else done.err.strip() or f"exit status {done.code}"
        raise EngineError(f"{reason}: correct `postgresql.parameters`; the old settings stay in effect.")
