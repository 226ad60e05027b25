"""TLS from the client to the server behind the built-in router, which cannot read what is said then."""

from __future__ import annotations

import datetime
import ipaddress
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.engine.postgresql.lab import installed, until
from tests.router.conformance import at_work, in_thread, outcome, pid_of, reached, sessions, where
from tests.router.servers import Database, databases
from tests.router.world import World, world

COMMAND = [sys.executable, "-m", "twinstar.router", "--config"]


def self_signed() -> tuple[bytes, bytes]:
    """Certificate and key for 127.0.0.1, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return made.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


def with_openssl() -> str | None:
    linked = (name for name, folder in installed().items() if b"libssl.so" in (folder / "postgres").read_bytes())
    return next(linked, None)


def encrypts(database: Database) -> bool:
    try:
        database.connect(sslmode="require").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    version = with_openssl()
    if version is None:
        pytest.skip("no installed PostgreSQL has OpenSSL: apt install postgresql")
    certificate, key = self_signed()
    with databases(version, "a", "b") as made:
        for database in made:
            database.write("server.crt", certificate)
            database.write("server.key", key)
            with database.connect() as session:
                session.execute("alter system set ssl = on")
                session.execute("select pg_reload_conf()")
            until(partial(encrypts, database), "the server encrypts")
        folder = tmp_path_factory.mktemp("world")
        (folder / "root.crt").write_bytes(certificate)
        with world(folder, made, COMMAND) as one:
            yield one


@pytest.fixture
def one(shared: World) -> World:
    shared.lead("a", "b")
    return shared


def encrypted(one: World, role: str = "write", **options: Any) -> psycopg.Connection[Any]:
    checked = {"sslmode": "verify-full", "sslrootcert": str(one.folder / "root.crt"), "channel_binding": "require"}
    return one.connect(role, **{**checked, **options})


def test_the_client_checks_the_server_and_not_the_router(one: World) -> None:
    with encrypted(one) as session:
        assert where(session) == "a"
        row = session.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        assert row == (True,)
    with one.connect(sslmode="disable") as session:
        assert where(session) == "a"


def test_sessions_of_an_older_epoch_end(one: World) -> None:
    with encrypted(one) as session, encrypted(one, "read") as reader:
        one.elect()
        until(lambda: sessions(one) == 0, "no session is left")
        assert {outcome(each, "select 1") for each in (session, reader)} == {"OperationalError"}


def test_who_asks_for_encryption_is_held_as_well(one: World) -> None:
    one.elect()
    found = in_thread(lambda: encrypted(one))
    until(lambda: one.status()["held"]["write"] == 1, "the client is held")
    one.name("b")
    one.open("b")
    with found() as session:
        assert where(session) == "b"


def test_who_is_held_for_too_long_gets_an_error_and_is_not_told_to_go_without(one: World) -> None:
    assert reached(one) == "a"
    one.elect()
    with pytest.raises(psycopg.OperationalError, match="sent an error response during SSL exchange"):
        encrypted(one)


def plainly(session: psycopg.Connection[Any]) -> None:
    session.cancel()


def in_tls(session: psycopg.Connection[Any]) -> None:
    session.cancel_safe(timeout=10)


@pytest.mark.parametrize("role", ["write", "read"])
@pytest.mark.parametrize("cancel", [plainly, in_tls])
def test_a_cancel_reaches_a_session_that_nobody_can_read(
    one: World, role: str, cancel: Callable[[psycopg.Connection[Any]], None]
) -> None:
    one.lead("c", "a", "b") if role == "read" else one.lead("b", "a")
    with encrypted(one, role) as session, encrypted(one, role) as other:
        assert where(other) == where(session)  # one host's sessions stay together, so that a cancel finds them
        pid = pid_of(session)
        failed = in_thread(lambda: outcome(session, "select pg_sleep(20)"))
        until(lambda: at_work(one, pid), "the server works for the client")
        cancel(session)
        assert failed() == "QueryCanceled"


def test_sessions_in_the_clear_are_spread_all_the_same(one: World) -> None:
    one.lead("c", "a", "b")
    with ExitStack() as stack:
        home = where(stack.enter_context(encrypted(one, "read")))
        assert where(stack.enter_context(encrypted(one, "read"))) == home
        found = [where(stack.enter_context(one.connect("read", sslmode="disable"))) for _ in range(4)]
        assert found.count(home) < 4
