"""From the configuration to the store it names. The client of another store is not even imported."""

from __future__ import annotations

from collections.abc import Callable

from twinstar.config import schema
from twinstar.config.secrets import Secrets, read_private
from twinstar.model.errors import UsageError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import Store

_PASSWORD = "etcd_password"  # noqa: S105 - the name of the secret


def open_store(
    settings: schema.Store, cluster: str, clock: Clock, network: Network, secrets: Secrets, node: str = "client"
) -> Store:
    """A client of the configured store. Connects when it is first used.

    `node` stands for ``{name}`` in the paths of certificates. Raises UsageError when a password or certificate is
    missing, an endpoint is none, or not exactly one store is configured.
    """
    if settings.embedded and not settings.etcd:
        from twinstar.store.embedded.client import EmbeddedStore

        return EmbeddedStore(settings.embedded.socket, cluster, clock, network)
    if settings.etcd and not settings.embedded:
        return _open_etcd(settings.etcd, cluster, clock, network, secrets, node)
    raise UsageError("The configuration must name exactly one store: `store: embedded:` or `store: etcd:`.")


def _open_etcd(
    settings: schema.EtcdStore, cluster: str, clock: Clock, network: Network, secrets: Secrets, node: str
) -> Store:
    try:
        from twinstar.store.etcd.client import EtcdStore
    except ModuleNotFoundError as error:
        raise UsageError(f"The etcd store needs {error.name}: run `pip install 'twinstar[etcd]'`.") from None
    from twinstar.config.tls import Purpose, ssl_context, tls_for
    from twinstar.store.etcd.endpoint import Login

    tls = ssl_context(tls_for(settings.tls, node), Purpose.STORE) if settings.tls else None
    login = None
    if settings.user:
        login = Login(settings.user, _password(settings, secrets))
        login.password()  # missing: said now, not at the first request
    return EtcdStore(settings.endpoints, cluster, clock, network, tls=tls, login=login)


def _password(settings: schema.EtcdStore, secrets: Secrets) -> Callable[[], str]:
    """Read each time it is needed, so that a changed file counts from the next login."""
    file = settings.password_file
    if file is None:
        return lambda: secrets.read(_PASSWORD)
    return lambda: read_private(file, "write the password of `store: etcd: user` into it")
