"""A DSN that Twinstar prints, its password file and its certificates, used as they are on a real PostgreSQL."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.config.example import example, node
from tests.database_user import database_user
from tests.drill.plain_postgresql import PlainPostgresql, find_bin_dir
from twinstar.config.certificates import write_certificates
from twinstar.config.derive import tls_of
from twinstar.config.dsn import client_dsn, member_dsn, write_passfile
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets


def configured(folder: Path, port: int, host: str = "127.0.0.1") -> Config:
    """One database at `port`, with a password, as node and as what a router would lead to."""
    files = {"certificate": "{name}.crt", "key": "{name}.key", "authority": "authority.crt"}
    return example(
        secrets=str(folder / "secrets"),
        durability="async",
        nodes=[node(1, host=host, port=port)],
        tls={key: str(folder / "certificates" / name) for key, name in files.items()},
        router=None,
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[PlainPostgresql, Config]]:
    """A server that takes nothing but SCRAM over TLS, with a certificate of ours."""
    bin_dir = find_bin_dir()
    if bin_dir is None:
        pytest.skip("no PostgreSQL with TLS below /usr/lib/postgresql")
    server = PlainPostgresql(bin_dir)
    try:
        server.start()
        config = configured(tmp_path, server.port)
        Secrets(config.secrets, {}).make()
        write_certificates(config, datetime.datetime.now(datetime.UTC))
        _secure(server, config)
        yield server, config
    finally:
        server.remove()


def _secure(server: PlainPostgresql, config: Config) -> None:
    tls, data = tls_of(config, "n1"), server.directory / "data"
    assert tls is not None
    for source, name in ((tls.certificate, "server.crt"), (tls.key, "server.key")):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        if user := database_user():
            shutil.chown(data / name, user.name)
    server.execute("CREATE DATABASE app")
    server.execute(f"ALTER ROLE app PASSWORD '{Secrets(config.secrets, {}).read(Secret.APP_PASSWORD)}'")
    server.execute("ALTER SYSTEM SET ssl = on")
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.execute("SELECT pg_reload_conf()")


def connect(dsn: str) -> tuple[str, bool]:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT current_database()::text, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_dsn_connects_as_it_is(database: tuple[PlainPostgresql, Config]) -> None:
    _, config = database
    write_passfile(config, Secrets(config.secrets, {}))
    assert connect(member_dsn(config, config.nodes[0])) == ("app", True)
    assert connect(client_dsn(config, "write")) == ("app", True)
    assert connect(client_dsn(config, "read")) == ("app", True)


def test_the_server_is_checked_and_so_is_the_client(database: tuple[PlainPostgresql, Config], tmp_path: Path) -> None:
    server, config = database
    write_passfile(config, Secrets(config.secrets, {"TWINSTAR_SECRET_APP_PASSWORD": "wrong"}))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(member_dsn(config, config.nodes[0]))
    stranger = configured(tmp_path / "stranger", server.port)
    write_certificates(stranger, datetime.datetime.now(datetime.UTC))
    Secrets(stranger.secrets, {}).make()
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(member_dsn(stranger, stranger.nodes[0]))
