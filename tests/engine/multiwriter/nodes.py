"""Nodes that take writes: real PostgreSQL servers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg

from tests.engine.postgresql.lab import SUPERUSER, Lab, Server, command, installed

OLDEST = 16
"""`origin 'none'` came with this version."""

_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "autovacuum": "off",
    # Processes are killed here, machines are not.
    "fsync": "off",
    "restart_after_crash": "off",
}


def usable() -> list[str]:
    """Names of the installed versions that can do it."""
    return [name for name, programs in installed().items() if _major(programs) >= OLDEST]


def _major(programs: Path) -> int:
    return int(command(programs / "postgres", "--version").stdout.split()[-1].split(".")[0])


def make_template(version: str, folder: Path, name: str) -> Path:
    """A data directory with a system identifier of its own."""
    data = folder / name
    options = ["-U", SUPERUSER, "-A", "trust", "-k", "-N", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]
    command(installed()[version] / "initdb", "-D", data, *options)
    return data


def start(lab: Lab, name: str, template: Path) -> Server:
    """A running copy of the template."""
    server = Server(name, lab.bin, lab.root, port=5000 + len(lab.servers), settings=dict(_SETTINGS))
    command("cp", "-a", template, server.data)
    settings: dict[str, object] = {"port": server.port, "unix_socket_directories": lab.root}
    if int(_major(lab.bin)) >= 18:
        settings["max_active_replication_origins"] = 20
    server.configure(**settings)
    lab.servers.append(server)
    return server.start()


def make_database(servers: list[Server], name: str) -> None:
    """A new database of this name on each; tests do not see each other's."""
    for server in servers:
        server.do(f"CREATE DATABASE {name} TEMPLATE template0")


def drop_database(servers: list[Server], name: str) -> None:
    for server in servers:
        with closing(psycopg.connect(server.conninfo(), dbname="postgres", autocommit=True)) as connection:
            # A session that was just closed may still be ending.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
                "WHERE datname = %s OR backend_type = 'walsender'",
                (name,),
            )
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (name,)
            )
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            # They belong to no database.
            connection.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")
