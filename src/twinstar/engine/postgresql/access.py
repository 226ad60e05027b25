"""Who may connect: ``pg_hba.conf``, ``pg_ident.conf`` and our password file, made from the configuration.

Never ``trust``. On the local socket the operating system says who asks (``peer``): the user that runs the server, and
root where the agent is root. Over TCP everyone proves a password by SCRAM, with TLS wherever it is configured. Our own
roles come from the members' addresses alone, and no line of the user's can open them any wider.

A server that was started is *closed* until it follows somebody or its epoch is open: it may have been a leader, and
shows commits that nobody has confirmed, which the next election may take back.
"""

from __future__ import annotations

import getpass
import ipaddress
import os

from twinstar.config.secrets import passfile_text
from twinstar.engine.postgresql.settings import (
    AGENT_ROLE,
    APPLIER_ROLE,
    MAINTENANCE_DATABASE,
    REPLICATION_ROLE,
    REWIND_ROLE,
    ROUTER_ROLE,
    SUPERUSER,
    Settings,
)

_MAP = "twinstar"
_EVERYWHERE = "all"


CLOSED = "host all all all reject"


def hba_conf(settings: Settings, *, closed: bool = False) -> str:
    """The text of ``pg_hba.conf``. The first line that fits a connection decides. `closed`: over the network nobody but
    the other members is let in.
    """
    kind = "hostssl" if settings.tls else "host"
    database = _quoted(settings.database)
    lines = [
        f"local all {AGENT_ROLE} peer map={_MAP}",
        f"local all {SUPERUSER} peer map={_MAP}",
    ]
    for member in sorted(settings.addresses):
        place = _place(settings.addresses[member].host)
        lines += [
            f"{kind} replication,{MAINTENANCE_DATABASE} {REPLICATION_ROLE} {place} scram-sha-256",
            f"{kind} {MAINTENANCE_DATABASE} {REWIND_ROLE} {place} scram-sha-256",
        ]
    if settings.sends_rows:
        lines = [f"local {database} {APPLIER_ROLE} peer map={_MAP}", *_streams(settings), *lines]
    if closed:
        lines.append(CLOSED)
    own = f"{AGENT_ROLE},{REPLICATION_ROLE},{REWIND_ROLE}"
    lines += [
        f"{kind} {MAINTENANCE_DATABASE},{settings.database} {ROUTER_ROLE} {_EVERYWHERE} scram-sha-256",
        *(f"{where} {own},{ROUTER_ROLE} {_EVERYWHERE} reject" for where in ("host all", "host replication")),
        f"{kind} {database} {_quoted(settings.user)} {_EVERYWHERE} scram-sha-256",
    ]
    text = "# Written by Twinstar at each start and reload: add lines under `postgresql.hba` in the configuration.\n"
    text += "".join(f"{line}\n" for line in lines)
    return text + "\n# The configuration's own.\n" + "".join(f"{line}\n" for line in settings.hba)


def _streams(settings: Settings) -> list[str]:
    """The other nodes read this one's log by database."""
    kind = "hostssl" if settings.tls else "host"
    places = [_place(settings.addresses[member].host) for member in sorted(settings.addresses)]
    return [f"{kind} {_quoted(settings.database)} {REPLICATION_ROLE} {place} scram-sha-256" for place in places]


def ident_conf(settings: Settings) -> str:
    """The text of ``pg_ident.conf``: whom the operating system's users may be on the local socket."""
    users = {settings.account.name if settings.account else getpass.getuser()}
    if os.geteuid() == 0:
        users.add("root")
    roles = (AGENT_ROLE, SUPERUSER, *([APPLIER_ROLE] if settings.sends_rows else []))
    lines = [f'{_MAP} "{user}" {role}' for user in sorted(users) for role in roles]
    return "# Written by Twinstar.\n" + "".join(f"{line}\n" for line in lines)


def passfile(settings: Settings) -> str:
    """The password file of this member's own connections to the others: its receiver's and its tools'."""
    return passfile_text(
        ("*", "*", "*", role, settings.passwords[role])
        for role in (REPLICATION_ROLE, REWIND_ROLE)
        if role in settings.passwords
    )


def _place(host: str) -> str:
    """An address as ``pg_hba.conf`` wants it; a name is looked up by the server at each connection."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"{address}/{address.max_prefixlen}"


def _quoted(name: str) -> str:
    return f'"{name}"'
