"""Rules for the addresses of stores that others run: etcd and ZooKeeper. `check.py` says what a rule is."""

from __future__ import annotations

from urllib.parse import urlsplit

from twinstar.config.hosts import is_host, is_loopback
from twinstar.config.schema import Config


def etcd_endpoints(config: Config) -> str | None:
    etcd = config.store.etcd
    for index, endpoint in enumerate(etcd.endpoints if etcd else ()):
        key, (scheme, host, port) = f"store.etcd.endpoints[{index}]", _url(endpoint)
        if scheme not in ("http", "https") or not host or not port:
            return f"`{key}` is {endpoint!r}: write it as http://host:port or https://host:port, such as http://127.0.0.1:2379."
        if "@" in endpoint:
            return f"`{key}` has a user in it: write `store.etcd.user`, and the password in a file of its own."
        if scheme == "https" and etcd and etcd.tls is None:
            return f"`{key}` is https, but `store.etcd.tls` is missing: name certificate, key and authority there."
    return None


def etcd_is_guarded(config: Config) -> str | None:
    if config.insecure:
        return None
    for index, endpoint in enumerate(config.store.etcd.endpoints if config.store.etcd else ()):
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            key = f"store.etcd.endpoints[{index}]"
            return (
                f"`{key}` is {endpoint}, unencrypted off this machine: write https:// and `store.etcd.tls`, "
                "or `insecure: true` if you accept that."
            )
    return None


def zookeeper_hosts(config: Config) -> str | None:
    zookeeper = config.store.zookeeper
    for index, host in enumerate(zookeeper.hosts if zookeeper else ()):
        name, _, port = host.rpartition(":")
        if "," in host or not is_host(name.strip("[]")) or not port.isdecimal() or not 0 < int(port) < 65_536:
            return (
                f"`store.zookeeper.hosts[{index}]` is {host!r}: write one server as host:port, such as 127.0.0.1:2181."
            )
    if zookeeper and zookeeper.user and ":" in zookeeper.user:
        return "`store.zookeeper.user` has a colon in it, where ZooKeeper expects the password: write the user alone."
    return None


def zookeeper_is_guarded(config: Config) -> str | None:
    """A password of the scheme `digest` passes as it is."""
    zookeeper = config.store.zookeeper
    if config.insecure or zookeeper is None or zookeeper.tls is not None:
        return None
    for index, host in enumerate(zookeeper.hosts):
        if not is_loopback(host.rpartition(":")[0].strip("[]")):
            return (
                f"`store.zookeeper.hosts[{index}]` is {host}, unencrypted off this machine: write the servers' secure "
                "ports and `store.zookeeper.tls`, or `insecure: true` if you accept that."
            )
    return None


def _url(endpoint: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme, parts.hostname or "", parts.port or 0
    except ValueError:
        return "", "", 0
