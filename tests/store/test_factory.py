"""The store that the configuration names is opened, and no other is even imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.conformance import create
from tests.store.servers import EmbeddedServer, EtcdCluster
from tests.store.zookeeper import Ensemble
from twinstar.config import schema
from twinstar.config.secrets import Secrets
from twinstar.model.errors import UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import Store
from twinstar.store.factory import open_store

IMPORTS = """
import sys
from pathlib import Path
from twinstar.config import schema
from twinstar.config.secrets import Secrets
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.factory import open_store
_LOADED = ("twinstar.store.embedded.client", "twinstar.store.zookeeper.client", "h11", "sqlite3")
open_store(schema.Store.model_validate({0}), "c", SystemClock(), SystemNetwork(), Secrets(Path(".")))
print([name for name in _LOADED if name in sys.modules])
"""


def opened(settings: schema.Store, secrets: Path) -> Store:
    return open_store(settings, "factory", SystemClock(), SystemNetwork(), Secrets(secrets, environment={}))


def write_private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [
        ({"embedded": {"socket": "s", "file": "f"}}, ["twinstar.store.embedded.client"]),
        ({"etcd": {"endpoints": ["http://127.0.0.1:1"]}}, ["h11"]),
        ({"zookeeper": {"hosts": ["127.0.0.1:1"]}}, ["twinstar.store.zookeeper.client"]),
    ],
)
def test_only_the_configured_client_is_loaded(settings: dict[str, object], loaded: list[str]) -> None:
    command = [sys.executable, "-c", IMPORTS.format(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": "src"}, check=True)
    assert done.stdout.strip() == str(loaded)


async def test_the_embedded_store(embedded_server: EmbeddedServer, tmp_path: Path) -> None:
    files = schema.EmbeddedStore(socket=embedded_server.socket, file=embedded_server.file)
    store = opened(schema.Store(embedded=files), tmp_path)
    await create(store, "k", b"")
    await store.close()


@pytest.mark.parametrize("named", [True, False])
async def test_etcd_with_everything(secured_etcd: EtcdCluster, tmp_path: Path, named: bool) -> None:
    """The password from its own file, or from the cluster's secrets; certificates by the node's name."""
    secured = secured_etcd.secured
    assert secured is not None
    write_private(tmp_path / "etcd_password", secured.password + "\n")
    files = secured.certificates
    pattern = files.client.certificate.with_name("{name}.pem")
    settings = schema.EtcdStore(
        endpoints=tuple(secured_etcd.urls),
        user="twinstar",
        password_file=tmp_path / "etcd_password" if named else None,
        tls=schema.Tls(certificate=pattern, key=pattern.with_suffix(".key"), authority=files.authority),
    )
    store = opened(schema.Store(etcd=settings), tmp_path)
    await create(store, f"named-{named}", b"")
    await store.close()


@pytest.mark.parametrize("named", [True, False])
async def test_zookeeper_with_everything(ensemble: Ensemble, tmp_path: Path, named: bool) -> None:
    write_private(tmp_path / "zookeeper_password", "swordfish-71\n")
    files = ensemble.certificates
    pattern = files.client.certificate.with_name("{name}.pem")
    settings = schema.ZooKeeperStore(
        hosts=tuple(ensemble.secure_hosts),
        chroot=f"/below/factory-{named}",
        user="twinstar",
        password_file=tmp_path / "zookeeper_password" if named else None,
        tls=schema.Tls(certificate=pattern, key=pattern.with_suffix(".key"), authority=files.authority),
    )
    store = opened(schema.Store(zookeeper=settings), tmp_path)
    await create(store, "k", b"")
    await store.close()


def test_a_missing_password_is_said_at_once(tmp_path: Path) -> None:
    settings = schema.EtcdStore(endpoints=("http://127.0.0.1:1",), user="twinstar", password_file=tmp_path / "no")
    with pytest.raises(UsageError, match="write the password of"):
        opened(schema.Store(etcd=settings), tmp_path)
    with pytest.raises(UsageError, match="etcd_password"):
        opened(schema.Store(etcd=settings.model_copy(update={"password_file": None})), tmp_path)


def test_exactly_one_store(tmp_path: Path) -> None:
    both = schema.Store(
        embedded=schema.EmbeddedStore(socket=tmp_path, file=tmp_path),
        etcd=schema.EtcdStore(endpoints=("http://127.0.0.1:1",)),
    )
    for settings in (schema.Store(), both):
        with pytest.raises(UsageError, match="exactly one store"):
            opened(settings, tmp_path)
