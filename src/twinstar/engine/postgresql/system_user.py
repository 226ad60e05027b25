"""The operating system's user that runs the database.

PostgreSQL refuses to run as root. An agent that runs as an ordinary user runs the database as itself; one that runs as
root starts the database's programs, and nothing else, as a system user of their own.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.processes import Account, Processes

DEFAULT_USER = "twinstar"
HOME = Path("/var/lib/twinstar")
"""Where data and programs lie that the system user must reach. Root owns it; everyone may enter."""


@dataclass(frozen=True, slots=True)
class SystemUser:
    account: Account
    created: bool
    """Made just now, by us."""

    @property
    def sentence(self) -> str:
        """For people: who runs the database."""
        made = ", a system user made just now" if self.created else ""
        return f"Started by root: the database runs as {self.account.name} (uid {self.account.uid}{made})."


async def engine_user(processes: Processes, name: str | None = None) -> SystemUser | None:
    """The user to run the database's programs as; None when this process is not root and runs them as itself.

    As root: the user called `name` (default `twinstar`), made when missing, with a home that others may enter. Raises
    UsageError for a user that is root, EnvironmentTrouble when the user cannot be made.
    """
    if os.geteuid() != 0:
        return None
    HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    name = name or DEFAULT_USER
    account = _look_up(name)
    created = account is None
    if account is None:
        account = await _create(processes, name)
    if account.uid == 0:
        raise UsageError(
            f"PostgreSQL refuses to run as root: let postgresql.system_user name another user than {name}."
        )
    return SystemUser(account, created)


def _look_up(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))


async def _create(processes: Processes, name: str) -> Account:
    # Two useradd at the same moment make the same user twice, so they queue up behind a lock on the folder.
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(HOME)]
    result = await processes.run(
        ["flock", str(HOME), *useradd, "--shell", "/usr/sbin/nologin", name],
        account=None,
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )
    # Another agent of this machine may have been quicker: then useradd fails, and the user is there all the same.
    account = _look_up(name)
    if account is None:
        reason = result.err.strip().splitlines()[-1:] or [f"exit status {result.code}"]
        raise EnvironmentTrouble(
            f"The system user {name} for the database could not be made ({reason[0]}): "
            "make it by hand, or name an existing one in postgresql.system_user."
        )
    return account
