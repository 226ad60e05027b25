"""Secrets: private files or the environment, and nothing that shows them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.config.example import example
from twinstar.config.dsn import client_dsn, member_dsn, passfile, write_passfile
from twinstar.config.secrets import Secret, Secrets, passfile_text
from twinstar.model.errors import UsageError


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    made = Secrets(tmp_path / "secrets", {})
    assert set(made.make()) == set(Secret)
    return made


def test_made_private_and_different(secrets: Secrets) -> None:
    files = list(secrets.directory.iterdir())
    assert {file.name for file in files} == set(Secret)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(secrets.directory.stat().st_mode) == 0o700
    assert len({secrets.read(name) for name in Secret}) == len(Secret)
    assert all(len(secrets.read(name)) >= 32 for name in Secret)


def test_what_is_there_stays(secrets: Secrets) -> None:
    before = secrets.read(Secret.WIRE)
    (secrets.directory / Secret.API_TOKEN).unlink()
    assert secrets.missing() == ["api_token"]
    assert secrets.make() == ["api_token"]
    assert secrets.read(Secret.WIRE) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_is_refused(secrets: Secrets, mode: int) -> None:
    file = secrets.directory / Secret.API_TOKEN
    content = secrets.read(Secret.API_TOKEN)
    file.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600") as refusal:
        secrets.read(Secret.API_TOKEN)
    assert content not in str(refusal.value)


def test_missing_and_empty_ones_say_what_to_do(secrets: Secrets) -> None:
    (secrets.directory / Secret.API_TOKEN).write_text("\n")
    with pytest.raises(UsageError, match="is empty: run `twinstar init`"):
        secrets.read(Secret.API_TOKEN)
    (secrets.directory / Secret.API_TOKEN).unlink()
    with pytest.raises(UsageError, match="or set TWINSTAR_SECRET_API_TOKEN"):
        secrets.read(Secret.API_TOKEN)


def test_the_environment_stands_before_the_file(secrets: Secrets) -> None:
    given = Secrets(secrets.directory, {"TWINSTAR_SECRET_API_TOKEN": "from outside"})
    assert given.read(Secret.API_TOKEN) == "from outside"
    assert given.read(Secret.WIRE) == secrets.read(Secret.WIRE)


def test_nothing_shows_them(secrets: Secrets) -> None:
    given = Secrets(secrets.directory, {"TWINSTAR_SECRET_API_TOKEN": "from outside"})
    shown = f"{given!r} {given}"
    assert "from outside" not in shown
    assert not any(secrets.read(name) in shown for name in Secret)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose a directory that you may write to"):
        Secrets(tmp_path / "file" / "secrets", {}).make()


def test_a_password_file_escapes_what_libpq_would_split() -> None:
    assert passfile_text([("::1", 5432, "app", "app", "a:b\\c")]) == "\\:\\:1:5432:app:app:a\\:b\\\\c\n"


def test_the_password_file_covers_every_address_that_a_dsn_names(tmp_path: Path) -> None:
    config = example(secrets=str(tmp_path / "secrets"))
    secrets = Secrets(config.secrets, {})
    secrets.make()
    file = write_passfile(config, secrets)
    assert file == passfile(config)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    listed = {tuple(line.split(":")[:2]) for line in file.read_text().splitlines()}
    dsns = [client_dsn(config, "write"), client_dsn(config, "read"), client_dsn(config, "write", multi_host=True)]
    for dsn in [*dsns, *(member_dsn(config, node) for node in config.nodes)]:
        parts = conninfo_to_dict(dsn)
        assert parts["passfile"] == str(file)
        assert "password" not in parts
        for place in zip(str(parts["host"]).split(","), str(parts["port"]).split(","), strict=True):
            assert place in listed


def test_a_dsn_says_how_to_find_the_leader_where_no_router_does() -> None:
    config = example(router=None)
    write, read = (conninfo_to_dict(client_dsn(config, endpoint)) for endpoint in ("write", "read"))
    assert write["target_session_attrs"] == "read-write"
    assert read["target_session_attrs"] == "prefer-standby"
    assert write["port"] == "5010,5020,5030"
    assert "target_session_attrs" not in conninfo_to_dict(client_dsn(example(), "write"))


def test_a_dsn_for_other_machines_checks_the_server() -> None:
    files = {"certificate": "/c/{name}.crt", "key": "/c/{name}.key", "authority": "/c/a b&c.crt"}
    router = {"bind": ["::"], "hosts": ["fd00::1", "db.example"], "write_port": 1, "read_port": 2, "notice_port": 3}
    parts = conninfo_to_dict(client_dsn(example(tls=files, router=router), "read"))
    assert (parts["host"], parts["port"]) == ("fd00::1,db.example", "2,2")
    assert (parts["sslmode"], parts["sslrootcert"]) == ("verify-full", "/c/a b&c.crt")
    assert int(str(parts["connect_timeout"])) > 10, "longer than the router holds a session"
