"""Where every node takes writes: does the router know that all of them do?

It hears of a node that is back a moment later than `status` does. Clients that come in between are on the other nodes
alone, and a fault at the first one would meet nobody.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psycopg

from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble

_PAUSE_S = 0.1
_CONNECT_S = 5


def wait_until_routed(view: View, patience_s: float, say: Callable[[str], None]) -> None:
    """Returns when as many sessions as there are nodes are on all of them. Raises EnvironmentTrouble."""
    wanted = {member.name for member in view.members}
    until = time.monotonic() + patience_s
    while (reached := _reached(view.write, len(wanted))) != wanted:
        missing = ", ".join(sorted(wanted - reached))
        if time.monotonic() > until:
            raise EnvironmentTrouble(
                f"The router sends nobody to {missing}, although all nodes serve: look at its log."
            )
        say(f"waiting for the router to know of {missing}")
        time.sleep(_PAUSE_S)


def _reached(dsn: str, count: int) -> set[str]:
    """The nodes of so many sessions at once; `cluster_name` is ``cluster/member``."""
    found = set()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(psycopg.Error):  # Who refuses is asked again.
                session = stack.enter_context(psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_S))
                row = session.execute("SHOW cluster_name").fetchone()
                found.add(str(row[0]).rpartition("/")[2] if row else "")
    return found
