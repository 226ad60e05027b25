"""One server of each kind for the whole run; each test has a cluster of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from shutil import which

import pytest

from tests.store.certificates import make_certificates
from tests.store.servers import EmbeddedServer, EtcdCluster, Secured


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded"))
    try:
        server.start()
        yield server
    finally:
        server.process.kill()


@pytest.fixture(scope="session")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    yield from _etcd(tmp_path_factory, secured=False)


@pytest.fixture(scope="session")
def secured_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    yield from _etcd(tmp_path_factory, secured=True)


def _etcd(directories: pytest.TempPathFactory, *, secured: bool) -> Iterator[EtcdCluster]:
    if which("etcd") is None:
        pytest.skip("no etcd: install Debian's etcd-server")
    directory = directories.mktemp("etcd")
    cluster = EtcdCluster(directory, Secured(make_certificates(directory / "tls")) if secured else None)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
