"""One server of each kind for all tests of this folder; each test has a cluster of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from shutil import which

import pytest

from tests.store import kube_server
from tests.store.certificates import make_certificates
from tests.store.kube_server import KubeServer
from tests.store.servers import EmbeddedServer, EtcdCluster, Secured
from tests.store.zookeeper import Ensemble
from twinstar.cli.own_zookeeper import jars


@pytest.fixture(scope="package")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded"))
    try:
        server.start()
        yield server
    finally:
        server.process.kill()


@pytest.fixture(scope="package")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    yield from _etcd(tmp_path_factory, secured=False)


@pytest.fixture(scope="package")
def secured_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    yield from _etcd(tmp_path_factory, secured=True)


@pytest.fixture(scope="package")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    if jars() is None:
        pytest.skip("no ZooKeeper: install Debian's zookeeper and a Java runtime")
    directory = tmp_path_factory.mktemp("zookeeper")
    servers = Ensemble(directory, make_certificates(directory / "tls"))
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


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


@pytest.fixture(scope="package")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    kube_server.needed()
    server = KubeServer(tmp_path_factory.mktemp("kube"))
    try:
        server.start()
        yield server
    finally:
        server.kill()
