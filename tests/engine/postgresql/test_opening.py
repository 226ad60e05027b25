"""From a configuration file to a server that runs: what it says arrives, TLS included."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.engine.conformance import quiet
from tests.engine.postgresql.bench import MEMBERS, PostgresqlBench, postgresql_bench, versions
from tests.own_ports import free_ports
from twinstar.config.certificates import write_certificates
from twinstar.config.load import parse
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.engine.postgresql.binaries import Binaries
from twinstar.engine.postgresql.opening import settings_of, wal_timeout_ms
from twinstar.engine.postgresql.settings import REPLICATION_ROLE
from twinstar.model.errors import UsageError

WITH_TLS = [version for version in versions() if version.startswith("debian")]


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with free_ports(4 * len(MEMBERS)) as found:
        yield found


def configuration(folder: Path, ports: list[int], **more: Any) -> Config:
    numbers = iter(ports)
    names = ("port", "api_port", "agent_port", "guard_port")
    nodes = [
        {"name": name, "directory": f"nodes/{name}", **{port: next(numbers) for port in names}} for name in MEMBERS
    ]
    document = {
        "cluster": "test",
        "secrets": "secrets",
        "preset": "fast",
        "store": {"embedded": {"socket": "store.sock", "file": "store.sqlite"}},
        "nodes": nodes,
        **more,
    }
    config = parse(yaml.safe_dump(document), folder / "twinstar.yaml")
    Secrets(config.secrets, {}).make()
    return config


BINARIES = Binaries(Path("/bin"), "18.1", 18)


def test_the_configuration_arrives(tmp_path: Path, ports: list[int]) -> None:
    postgresql = {"parameters": {"work_mem": "5MB"}, "hba": ["local all me peer"], "database": "shop", "user": "seller"}
    config = configuration(tmp_path, ports, postgresql=postgresql)
    settings = settings_of(config, "b", BINARIES, None)
    assert (settings.cluster, settings.member, settings.major) == ("test", "b", 18)
    assert settings.directory == tmp_path / "nodes" / "b"
    assert [address.port for address in settings.addresses.values()] == ports[::4]
    assert (settings.database, settings.user, settings.hba) == ("shop", "seller", ("local all me peer",))
    assert settings.parameters == {"work_mem": "5MB"}
    assert settings.passwords["seller"] == Secrets(config.secrets, {}).read(Secret.APP_PASSWORD)
    assert settings.wal_timeout_ms == wal_timeout_ms(1_000) == 3_000
    with pytest.raises(UsageError):
        settings_of(config, "nobody", BINARIES, None)


@pytest.mark.parametrize("version", versions())
async def test_where_every_node_writes_the_log_can_be_read_as_rows(
    version: str, tmp_path: Path, ports: list[int]
) -> None:
    config = configuration(tmp_path, ports, strategy="active-active")
    async with postgresql_bench(version) as bench:
        bench.change("a", sends_rows=settings_of(config, "a", BINARIES, None).sends_rows)
        await bench.engine("a").bootstrap("nonce", quiet)
        assert await bench.server("a").query("SHOW wal_level") == [("logical",)]
        assert (await bench.engine("a").inspect()).drift == ()
    assert not settings_of(configuration(tmp_path, ports), "a", BINARIES, None).sends_rows


def test_a_missing_secret_is_named(tmp_path: Path, ports: list[int]) -> None:
    config = configuration(tmp_path, ports)
    (config.secrets / "rewind_password").unlink()
    with pytest.raises(UsageError, match="rewind_password"):
        settings_of(config, "a", BINARIES, None)


@pytest.mark.skipif(not WITH_TLS, reason="the wheel has no OpenSSL, and no other PostgreSQL is installed")
async def test_with_tls_nobody_connects_without_it(tmp_path: Path, ports: list[int]) -> None:
    tls = {"certificate": "tls/{name}.crt", "key": "tls/{name}.key", "authority": "tls/authority.crt"}
    config = configuration(tmp_path, ports, tls=tls)
    write_certificates(config, datetime.datetime.now(datetime.UTC))
    async with postgresql_bench(WITH_TLS[0]) as bench:
        configured = settings_of(config, "a", BINARIES, None)
        bench.change("a", tls=configured.tls, passwords=configured.passwords)
        await bench.engine("a").bootstrap("nonce", quiet)
        server, upstream = bench.server("a"), bench.upstream("a", 1)
        async with server.remote(upstream) as connection:
            assert connection.pgconn.ssl_in_use
        assert "sslmode=verify-full" in server.conninfo(upstream)
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            await _without_tls(bench)
        assert (await bench.engine("a").inspect()).drift == ()


async def _without_tls(bench: PostgresqlBench) -> None:
    settings = bench.settings["a"]
    connection = await psycopg.AsyncConnection.connect(
        host=settings.address.host,
        port=settings.port,
        user=REPLICATION_ROLE,
        password=settings.passwords[REPLICATION_ROLE],
        dbname="postgres",
        sslmode="disable",
    )
    await connection.close()
