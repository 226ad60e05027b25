"""``conf/twinstar.conf``: the settings that change while the server runs.

The server's configuration includes it last, so that what stands here counts; it lies outside the data directory, so
that no base backup or rewind carries it to another member; and it is replaced durably, since what it says about whom
to follow and who must confirm is part of what a member has promised.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinstar.engine.postgresql.files import keep_durably, read_text
from twinstar.engine.postgresql.settings import Paths
from twinstar.model.errors import EngineError
from twinstar.ports.processes import Account

_HEAD = "# Written by Twinstar while the server runs; changes made by hand are lost.\n"


def assignment(name: str, value: str) -> str:
    """One line of a configuration file. Raises EngineError for a value that a line cannot hold."""
    if "\n" in value or "\0" in value:
        raise EngineError(f"The value of `{name}` has a line break in it: write it as one line.")
    return f"{name} = '{value.replace(chr(92), chr(92) * 2).replace(chr(39), chr(39) * 2)}'\n"


def parse_assignments(text: str) -> dict[str, str]:
    """What `assignment` wrote, line by line; other lines are passed over."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition(" = '")
        if equals and value.endswith("'"):
            found[name] = value[:-1].replace("''", "'").replace("\\\\", "\\")
    return found


def read_own(paths: Paths) -> dict[str, str]:
    """The settings as they stand in the file, nothing when there is none."""
    return parse_assignments(read_text(paths.own_conf))


def replace_own(paths: Paths, settings: Mapping[str, str], account: Account | None) -> None:
    """Durably makes the file say exactly this."""
    text = _HEAD + "".join(assignment(name, value) for name, value in sorted(settings.items()))
    keep_durably(paths.own_conf, text, account=account)


def change_own(paths: Paths, changes: Mapping[str, str | None], account: Account | None) -> None:
    """Durably sets these settings and removes those whose value is None; the others stay."""
    wanted = {**read_own(paths), **{name: value for name, value in changes.items() if value is not None}}
    for name, value in changes.items():
        if value is None:
            wanted.pop(name, None)
    replace_own(paths, wanted, account)
