"""From the configuration to the store it names. The client of another store is not even imported."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from twinstar.config import schema
from twinstar.config.derive import after_the_move
from twinstar.config.managed import store_settings
from twinstar.config.secrets import Secrets, read_private
from twinstar.model import membership, register
from twinstar.model.errors import UsageError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import Store
from twinstar.store.moving.places import Places
from twinstar.store.moving.store import MovingStore, SettledStore

_DECISIVE = {"active-passive": register.KEY, "active-active": membership.KEY}


def store_of(config: schema.Config, clock: Clock, network: Network, secrets: Secrets, node: str = "client") -> Store:
    """A cluster's store as its agents and routers use it: when the register moves to `next_store`, they go along. Of a
    store that Twinstar runs the member beside this node comes first. Raises as `open_store` does.
    """
    here = open_store(store_settings(config, node), config.cluster, clock, network, secrets, node)
    if config.next_store is None:
        return SettledStore(here, _DECISIVE[config.strategy])
    there = open_store(store_settings(after_the_move(config), node), config.cluster, clock, network, secrets, node)
    return MovingStore(Places(here, there, _DECISIVE[config.strategy], _name(config.next_store)), clock)


def _name(settings: schema.Store) -> str:
    """For people: the kind, and where."""
    ((kind, value),) = [(kind, value) for kind, value in settings if value is not None]
    where = next((getattr(value, key) for key in ("endpoints", "hosts", "socket") if hasattr(value, key)), "")
    return f"{kind} ({', '.join(where) if isinstance(where, tuple) else where})" if where else kind


def open_store(
    settings: schema.Store, cluster: str, clock: Clock, network: Network, secrets: Secrets, node: str = "client"
) -> Store:
    """A client of the configured store. Connects when it is first used.

    `node` stands for ``{name}`` in the paths of certificates. Raises UsageError when a password or certificate is
    missing, an endpoint is none, or not exactly one store is configured.
    """
    match [value for _, value in settings if value is not None]:
        case [schema.EmbeddedStore(socket=socket)]:
            from twinstar.store.embedded.client import EmbeddedStore

            return EmbeddedStore(socket, cluster, clock, network)
        case [schema.EtcdStore() as etcd]:
            return _open_etcd(etcd, cluster, clock, network, secrets, node)
        case [schema.ZooKeeperStore() as zookeeper]:
            return _open_zookeeper(zookeeper, cluster, clock, network, secrets, node)
        case [schema.KubernetesStore() as kubernetes]:
            return _open_kubernetes(kubernetes, cluster, clock, network, node)
    names = " or ".join(f"`store: {name}:`" for name, _ in settings)
    raise UsageError(f"The configuration must name exactly one store: {names}.")


def _open_etcd(
    settings: schema.EtcdStore, cluster: str, clock: Clock, network: Network, secrets: Secrets, node: str
) -> Store:
    try:
        from twinstar.store.etcd.client import EtcdStore
    except ModuleNotFoundError as error:
        raise UsageError(f"The etcd store needs {error.name}: run `pip install 'twinstar[etcd]'`.") from None
    from twinstar.store.etcd.endpoint import Login

    password = _password("etcd", settings, secrets)
    login = Login(settings.user, password) if settings.user and password else None
    return EtcdStore(settings.endpoints, cluster, clock, network, tls=_tls(settings.tls, node), login=login)


def _open_zookeeper(
    settings: schema.ZooKeeperStore, cluster: str, clock: Clock, network: Network, secrets: Secrets, node: str
) -> Store:
    from twinstar.store.zookeeper.client import ZooKeeperStore
    from twinstar.store.zookeeper.server import Login

    password = _password("zookeeper", settings, secrets)
    login = Login(settings.user, password) if settings.user and password else None
    return ZooKeeperStore(
        settings.hosts,
        cluster,
        clock,
        network,
        chroot=settings.chroot,
        tls=_tls(settings.tls, node),
        login=login,
    )


def _open_kubernetes(
    settings: schema.KubernetesStore, cluster: str, clock: Clock, network: Network, node: str
) -> Store:
    try:
        from twinstar.store.kubernetes.client import KubernetesStore
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The Kubernetes store needs {error.name}: run `pip install 'twinstar[kubernetes]'`."
        ) from None
    from twinstar.store.kubernetes.access import Access, in_pod
    from twinstar.store.kubernetes.kubeconfig import from_kubeconfig

    if settings.kubeconfig:
        file = Path(str(settings.kubeconfig).replace("{name}", node))
        access = Access(from_kubeconfig(file, settings.context))
    else:
        access = Access(in_pod(os.environ))
    namespace = settings.namespace or access.namespace
    if not namespace:
        raise UsageError("Nothing says in which namespace the objects are: write `store.kubernetes.namespace`.")
    return KubernetesStore(access, namespace, cluster, clock, network)


def _tls(files: schema.Tls | None, node: str) -> ssl.SSLContext | None:
    from twinstar.config.tls import Purpose, ssl_context, tls_for

    return ssl_context(tls_for(files, node), Purpose.STORE) if files else None


def _password(
    store: str, settings: schema.EtcdStore | schema.ZooKeeperStore, secrets: Secrets
) -> Callable[[], str] | None:
    """Read each time it is needed, so that a changed file counts from the next login; None without a user."""
    if settings.user is None:
        return None
    file = settings.password_file

    def read() -> str:
        if file is None:
            return secrets.read(f"{store}_password")
        return read_private(file, f"write the password of `store: {store}: user` into it")

    read()  # missing: said now, not at the first request
    return read
