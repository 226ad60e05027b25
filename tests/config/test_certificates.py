"""Certificates of the cluster's own authority: good for a handshake with the hosts they name, and for no other."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.config.example import example, node
from twinstar.config.certificates import RENEWAL_DAYS, write_certificates
from twinstar.config.derive import tls_of
from twinstar.config.schema import Config
from twinstar.config.tls import Purpose, libpq_tls, ssl_context
from twinstar.model.errors import UsageError

NOW = datetime.datetime.now(datetime.UTC)


def configured(folder: Path, **changes: Any) -> Config:
    files = {"certificate": "{name}.crt", "key": "{name}.key", "authority": "authority.crt"}
    tls = {key: str(folder / name) for key, name in files.items()}
    etcd = {"etcd": {"endpoints": ["http://127.0.0.1:2379"]}}
    nodes = [node(1, host="10.0.0.1"), node(2, host="db2.example"), node(3, host="fd00::3")]
    router = {"bind": ["0.0.0.0"], "hosts": ["db.example"], "write_port": 1, "read_port": 2, "notice_port": 3}
    return example(**{"tls": tls, "store": etcd, "nodes": nodes, "router": router, **changes})


def handshake(config: Config, server: str, host: str) -> None:
    """A TLS handshake in memory. Raises ssl.SSLError."""
    server_tls, client_tls = tls_of(config, server), tls_of(config, "client")
    assert server_tls is not None
    assert client_tls is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = ssl_context(server_tls, Purpose.SERVE_HTTP).wrap_bio(to_server, to_client, server_side=True)
    calling = ssl_context(client_tls, Purpose.CALL_HTTP).wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side in (calling, accepting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert calling.version() in ("TLSv1.2", "TLSv1.3")


def test_every_node_is_believed_at_its_own_address_and_at_the_routers(tmp_path: Path) -> None:
    config = configured(tmp_path)
    write_certificates(config, NOW)
    for name, host in (("n1", "10.0.0.1"), ("n2", "db2.example"), ("n3", "fd00::3"), ("router", "db.example")):
        handshake(config, name, host)
        handshake(config, name, "localhost")
    handshake(config, "n1", "db.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(config, "n1", "db2.example")


def test_keys_are_private_and_certificates_are_not(tmp_path: Path) -> None:
    written = write_certificates(configured(tmp_path), NOW)
    assert len(written) == 2 * (1 + 3 + 2)
    for file in written:
        assert stat.S_IMODE(file.stat().st_mode) == (0o600 if file.suffix == ".key" else 0o644)


def test_only_what_runs_out_or_lacks_a_host_is_made_anew(tmp_path: Path) -> None:
    config = configured(tmp_path)
    first = write_certificates(config, NOW - datetime.timedelta(days=825 - RENEWAL_DAYS - 1))
    assert write_certificates(config, NOW) == []
    moved = configured(tmp_path, nodes=[node(1, host="10.0.0.9"), node(2, host="db2.example"), node(3, host="fd00::3")])
    assert {file.name for file in write_certificates(moved, NOW)} == {"n1.crt", "n1.key"}
    handshake(moved, "n1", "10.0.0.9")
    later = write_certificates(moved, NOW + datetime.timedelta(days=2))
    assert {file.name for file in first} - {file.name for file in later} == {
        "authority.crt",
        "authority.key",
        "n1.crt",
        "n1.key",
    }


def test_a_new_authority_signs_everything_anew(tmp_path: Path) -> None:
    config = configured(tmp_path)
    first = write_certificates(config, NOW)
    (tmp_path / "authority.crt").unlink()
    assert sorted(write_certificates(config, NOW)) == sorted(first)
    handshake(config, "n1", "10.0.0.1")


def test_without_the_authoritys_key_nothing_can_be_renewed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    write_certificates(config, NOW)
    (tmp_path / "authority.key").unlink()
    assert write_certificates(config, NOW) == []
    with pytest.raises(UsageError, match="put it back for this renewal"):
        write_certificates(config, NOW + datetime.timedelta(days=800))


@pytest.mark.parametrize("broken", ["authority.crt", "n1.crt", "n1.key"])
def test_files_that_are_of_no_use_are_named(tmp_path: Path, broken: str) -> None:
    config = configured(tmp_path)
    write_certificates(config, NOW)
    tls = tls_of(config, "n1")
    assert tls is not None
    (tmp_path / broken).write_text("nonsense")
    with pytest.raises(UsageError, match=broken):
        ssl_context(tls, Purpose.STORE)
    (tmp_path / broken).unlink()
    with pytest.raises(UsageError, match="does not exist: run `twinstar init`"):
        ssl_context(tls, Purpose.STORE)


def test_libpq_checks_the_server_or_is_told_that_there_is_no_tls(tmp_path: Path) -> None:
    assert libpq_tls(None) == {"sslmode": "disable"}
    tls = tls_of(configured(tmp_path), "n1")
    assert libpq_tls(tls) == {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "authority.crt")}
