"""The server's configuration: what Twinstar sets, what the user sets, and who wins.

``postgresql.conf`` holds, in the order in which PostgreSQL reads them and the last one counts: defaults that the user
may replace, the user's settings, ours, and ``twinstar.conf`` with what changes while the server runs. Nothing is given
on the command line: such a setting could not be changed any more (`docs/protocol.md`, "Settings that are ours").
``postgresql.auto.conf`` is read after all of them, so ours are removed from it before each start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinstar.config.own_parameters import OWN_PARAMETERS, REFUSED_VALUES
from twinstar.engine.postgresql.own_conf import assignment
from twinstar.engine.postgresql.settings import Settings
from twinstar.engine.postgresql.standby_names import NAMES_SETTING, UPSTREAM_SETTING, names_settings
from twinstar.model.engine import BLOCKED

SAME_OR_HIGHER = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)
"""What a standby must not have lower than its leader: it would refuse to start, or stop replaying."""

# A walsender for each member, the ghost of its last one, a base backup, and our own connections.
_SENDERS_PER_MEMBER = 3
_SENDERS_OF_OUR_OWN = 8

_DEFAULTS = {
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # Above the slots: what a rewind needs from the time before the fork.
    "wal_keep_size": "128MB",
    # A member that is gone keeps log until this much, and is cloned anew afterwards; the disk of the others is safe.
    "max_slot_wal_keep_size": "4GB",
    # A standby's long query must not hold up the leader's vacuum, least of all through the slot of a dead member.
    "hot_standby_feedback": "off",
    # A new timeline begins a new file: filling its 16 MB with zeros first delays the first confirmed commit after a
    # failover. Costs commits into files that were not recycled a little more.
    "wal_init_zero": "off",
    # After a crash one call for the file system instead of one for each file.
    "recovery_init_sync_method": "syncfs",
    # A session whose client (or router) is gone is ended while its statement runs, not when it would answer.
    "client_connection_check_interval": "1s",
}
_SINCE_16 = {"reserved_connections": "3"}

DETACHED: dict[str, str] = {
    "primary_conninfo": "",
    "primary_slot_name": "",
    "restore_command": "",
    UPSTREAM_SETTING: "",
}
"""What ``twinstar.conf`` says of whom to follow, when nobody is followed."""


def at_start() -> dict[str, str]:
    """What ``twinstar.conf`` holds when a server starts: nobody is followed, and nobody can confirm."""
    return DETACHED | {name: value for name, value in names_settings(BLOCKED).items() if value is not None}


def own_settings(settings: Settings) -> dict[str, str]:
    """The settings of ours that stay the same while the server runs."""
    paths = settings.paths
    own = {
        "listen_addresses": settings.address.host,
        "port": str(settings.port),
        "unix_socket_directories": str(paths.run),
        "unix_socket_permissions": "0700",
        "cluster_name": f"{settings.cluster}/{settings.member}",
        "hba_file": str(paths.conf / "pg_hba.conf"),
        "ident_file": str(paths.conf / "pg_ident.conf"),
        "password_encryption": "scram-sha-256",
        "wal_level": "logical" if settings.sends_rows else "replica",
        "hot_standby": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "wal_log_hints": "on",
        "synchronous_commit": "on",
        # A crashed backend ends the database, and the protocol decides: PostgreSQL's own restart keeps the main
        # process, shows commits that were still waiting, and begins no epoch.
        "restart_after_crash": "off",
        "recovery_target_timeline": "latest",
        "recovery_min_apply_delay": "0",
        "wal_retrieve_retry_interval": f"{settings.retry_interval_ms}ms",
        "wal_sender_timeout": f"{settings.wal_timeout_ms}ms",
        "wal_receiver_timeout": f"{settings.wal_timeout_ms}ms",
        "ssl": "on" if settings.tls else "off",
    }
    if settings.tls:
        own |= {
            "ssl_cert_file": str(paths.conf / "server.crt"),
            "ssl_key_file": str(paths.conf / "server.key"),
            "ssl_ca_file": str(paths.conf / "authority.crt"),
        }
    if settings.major >= 17:
        # Only its superuser could, and it would override what is ours.
        own["allow_alter_system"] = "off"
    return own | _room_for_members(settings)


def _room_for_members(settings: Settings) -> dict[str, str]:
    """More than the user's if the user's are too few."""
    needed = {
        "max_wal_senders": _SENDERS_PER_MEMBER * len(settings.addresses) + _SENDERS_OF_OUR_OWN,
        "max_replication_slots": 2 * len(settings.addresses) + 4,
    }
    if settings.sends_rows and settings.major >= 18:
        needed["max_active_replication_origins"] = needed[
            "max_replication_slots"
        ]  # before, the slots' bound was theirs
    return {name: str(max(least, _number(settings.parameters.get(name)))) for name, least in needed.items()}


def own_names() -> frozenset[str]:
    """Every setting that is ours, at start or while the server runs, or that nobody may set."""
    return frozenset(OWN_PARAMETERS) | {NAMES_SETTING, UPSTREAM_SETTING}


def main_conf(settings: Settings) -> str:
    """The text of ``postgresql.conf``. Raises EngineError for a value that a line cannot hold."""
    defaults = _DEFAULTS | (_SINCE_16 if settings.major >= 16 else {})
    parts = (
        ("Twinstar's defaults, which the configuration's may replace.", defaults),
        ("The configuration's.", settings.parameters),
        ("Twinstar's own.", own_settings(settings)),
    )
    text = "# Written by Twinstar at each start and reload; changes made by hand are lost.\n"
    for title, values in parts:
        text += f"\n# {title}\n" + "".join(assignment(name, value) for name, value in sorted(values.items()))
    return text + "\n# What changes while the server runs. Must stay last.\ninclude 'twinstar.conf'\n"


# -- what the user may not set ----------------------------------------------------------------------------------------


def refused_parameters(parameters: Mapping[str, str]) -> list[str]:
    """One sentence for each setting that the user's configuration must not contain, or not with this value."""
    found = [
        f"`{name}` is Twinstar's own setting: {OWN_PARAMETERS[name.lower()]}."
        for name in parameters
        if name.lower() in OWN_PARAMETERS
    ]
    values = {name.lower(): value.strip().lower() for name, value in parameters.items()}
    found += [
        f"`{name}` belongs to Twinstar: remove it."
        for name in values
        if name.startswith("twinstar.") or name in ("include", "include_dir", "include_if_exists")
    ]
    found += [f"`{n}` is {v}, and {REFUSED_VALUES[n, v]}." for n, v in values.items() if (n, v) in REFUSED_VALUES]
    return found


# -- the order of restarts --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestartStep:
    """Restart these members, first the one kind and then the other, with the settings changed so far."""

    parameters: Mapping[str, str]
    """All parameters as they are after this step."""
    standbys_first: bool


def restart_order(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[RestartStep, ...]:
    """How to get from the old settings to the new ones so that no standby ever has less than its leader.

    What is raised is raised on the standbys first; what is lowered is lowered on the leader first. Where a change does
    both there are two steps; where nothing of the kind changes the order does not matter, and the leader comes last.
    """
    changed = [name for name in SAME_OR_HIGHER if _standard(name, old) != _standard(name, new)]
    lowered = [name for name in changed if _standard(name, new) < _standard(name, old)]
    if not lowered:
        return (RestartStep(dict(new), standbys_first=True),)
    if lowered == changed:
        return (RestartStep(dict(new), standbys_first=False),)
    kept = {name: str(_standard(name, old)) for name in lowered}
    return RestartStep({**new, **kept}, standbys_first=True), RestartStep(dict(new), standbys_first=False)


_STANDARD = {
    "max_connections": 100,
    "max_locks_per_transaction": 64,
    "max_prepared_transactions": 0,
    "max_wal_senders": 10,
    "max_worker_processes": 8,
}


def _standard(name: str, parameters: Mapping[str, str]) -> int:
    return _number(parameters[name]) if name in parameters else _STANDARD[name]


def _number(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() else 0


def floors(settings: Settings, recorded: Mapping[str, int]) -> dict[str, str]:
    """Where what is configured is lower than what the log still asks of a standby (`recorded`, from ``pg_control``):
    what to start with instead, since PostgreSQL would refuse.
    """
    configured = {**dict(settings.parameters), **_room_for_members(settings)}
    return {
        name: str(recorded[name])
        for name in SAME_OR_HIGHER
        if name in recorded and _standard(name, configured) < recorded[name]
    }
