"""PostgreSQL settings that Twinstar sets itself, with what a user is to do instead.

Safety or speed rests on each of them (`docs/protocol.md`, "Settings that are ours"), so the configuration refuses them
and the engine reports any other value as drift.
"""

from __future__ import annotations

_PROTOCOL = "the protocol rests on it"
_NODE = "it follows from the node's entry under `nodes`"
_TLS = "it follows from `tls`"
_REPLICATION = "Twinstar points it at the leader itself"
_RECOVERY = "recovery is Twinstar's to steer"

OWN_PARAMETERS: dict[str, str] = {
    # Who is counted, and when a commit returns.
    "synchronous_standby_names": "set `required` and `durability` instead",
    "synchronous_commit": "set `durability` instead; a client may lower it for its own session, at its own risk",
    "fsync": _PROTOCOL,
    "full_page_writes": _PROTOCOL,
    "restart_after_crash": _PROTOCOL,
    "wal_level": _PROTOCOL,
    "wal_log_hints": _PROTOCOL,
    "hot_standby": _PROTOCOL,
    # How fast a standby attaches, and how soon silence is noticed.
    "wal_retrieve_retry_interval": "set `preset` instead",
    "wal_sender_timeout": "set `preset` instead",
    "wal_receiver_timeout": "set `preset` instead",
    "allow_alter_system": "Twinstar changes some settings with it",
    # Whom to follow.
    "primary_conninfo": _REPLICATION,
    "primary_slot_name": _REPLICATION,
    "restore_command": _RECOVERY,
    "archive_cleanup_command": _RECOVERY,
    "recovery_end_command": _RECOVERY,
    "recovery_min_apply_delay": "a copy must not lag on purpose",
    "recovery_target": _RECOVERY,
    "recovery_target_action": _RECOVERY,
    "recovery_target_inclusive": _RECOVERY,
    "recovery_target_lsn": _RECOVERY,
    "recovery_target_name": _RECOVERY,
    "recovery_target_time": _RECOVERY,
    "recovery_target_timeline": _RECOVERY,
    "recovery_target_xid": _RECOVERY,
    "promote_trigger_file": _RECOVERY,
    "sync_replication_slots": "Twinstar advances the slots of its members itself",
    "synchronized_standby_slots": "Twinstar advances the slots of its members itself",
    "idle_replication_slot_timeout": "Twinstar drops the slots of members that are gone itself",
    # Where it listens, and where its files are.
    "listen_addresses": _NODE,
    "port": _NODE,
    "unix_socket_directories": _NODE,
    "unix_socket_permissions": _NODE,
    "cluster_name": _NODE,
    "data_directory": _NODE,
    "config_file": _NODE,
    "external_pid_file": _NODE,
    "hba_file": "add lines under `postgresql.hba` instead",
    "ident_file": "add lines under `postgresql.hba` instead",
    # Who may connect, and how.
    "password_encryption": "every connection over TCP uses SCRAM",
    "ssl": _TLS,
    "ssl_ca_file": _TLS,
    "ssl_cert_file": _TLS,
    "ssl_key_file": _TLS,
}
"""Name of the setting → the second half of a sentence that says why, or what to set instead."""

REFUSED_VALUES: dict[tuple[str, str], str] = {
    ("archive_mode", "always"): "standbys would archive empty timeline histories, which belong to no log: write on",
    ("max_slot_wal_keep_size", "-1"): "one dead member would fill every disk: give it a bound, such as 4GB",
}
"""A setting that the user may have, but not with this value → why, and what to write instead."""
