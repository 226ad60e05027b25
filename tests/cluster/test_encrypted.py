"""Debian's PostgreSQL, TLS everywhere: replication, HTTP, and clients who check the certificate behind the router."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster.conftest import Make
from tests.cluster.real import DATABASE, RealCluster, Status
from twinstar.cli.make_cluster import Wishes
from twinstar.config.certificates import write_certificates

pytestmark = [pytest.mark.slow]

DEBIANS = Path("/usr/lib/postgresql/15/bin")


@pytest.mark.skipif(not DEBIANS.is_dir(), reason="PostgreSQL 15 of Debian is not installed")
def test_a_failover_of_debians_postgresql_with_tls(make: Make) -> None:
    def encrypted(raw: dict[str, Any]) -> None:
        folder = f"{Path(raw['secrets']).parent}/certificates"
        raw["tls"] = {
            "certificate": f"{folder}/{{name}}.crt",
            "key": f"{folder}/{{name}}.key",
            "authority": f"{folder}/authority.crt",
        }

    cluster = make(Wishes(bin_dir=DEBIANS), encrypted)
    write_certificates(cluster.config, datetime.datetime.now(datetime.UTC))
    before = cluster.up()
    assert "sslmode=verify-full" in before.write
    with psycopg.connect(before.write) as session:
        assert session.pgconn.ssl_in_use
        version = session.execute("SHOW server_version_num").fetchone()
        assert version is not None
        assert version[0].startswith("15")
    all_streams_are_encrypted(cluster)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(before.write, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        psycopg.connect(before.write, sslrootcert=str(_another_authority(cluster.folder)))
    with cluster.writing() as writers:
        cluster.kill(before.leader, DATABASE)
        cluster.led_by(*(each.name for each in before.standbys))
        writers.progress("under the next leader")
        cluster.whole()
        cluster.told("switchover", "--to", before.leader)
    assert cluster.whole().leader == before.leader
    all_streams_are_encrypted(cluster)


def all_streams_are_encrypted(cluster: RealCluster) -> None:
    """Who streams for itself may still be sent what it lacks, as its leader sees it."""
    streams = "SELECT ssl FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE state = 'streaming'"
    found: list[tuple[bool]] = []

    def both(status: Status) -> bool:
        found[:] = cluster.ask(status["leader"], streams)
        return len(found) == 2

    cluster.until(both, "both standbys stream")
    assert found == [(True,), (True,)]


def _another_authority(folder: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = folder / "another.crt"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=another", "-keyout", str(folder / "another.key"), "-out", str(made)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made
