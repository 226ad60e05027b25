"""Reading a kubeconfig: which server, which namespace, who we are. What is not supported in it is refused by name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from twinstar.config.hosts import is_loopback
from twinstar.config.secrets import read_private
from twinstar.model.errors import UsageError
from twinstar.ports.network import Address
from twinstar.store.kubernetes.access import Content, Identity

_UNSUPPORTED = {
    "exec": "have its program write a token to a file, and name that file as `tokenFile`",
    "auth-provider": "use a service account's token, or a client certificate",
    "username": "use a service account's token, or a client certificate",
    "proxy-url": "name a server that can be reached without a proxy",
    "tls-server-name": "name the server as its certificate does",
    "insecure-skip-tls-verify": "name the authority as `certificate-authority`",
}
_REMEDY = "name the kubeconfig of an account that has the role of `twinstar store manifest`"


def from_kubeconfig(file: Path, context: str | None) -> Callable[[], Identity]:
    """What the file says; it is read again when it has changed. Calling raises UsageError."""
    known: tuple[tuple[int, int, int], Identity] | None = None

    def identify() -> Identity:
        nonlocal known
        version = _version(file)
        if known is None or known[0] != version:
            known = version, _parse(file, context)
        return known[1]

    return identify


def _version(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise UsageError(f"The kubeconfig {file} cannot be read ({error.strerror}): {_REMEDY}.") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _parse(file: Path, wanted: str | None) -> Identity:
    text = read_private(file, _REMEDY)
    try:
        document = yaml.safe_load(text)
        name = wanted or document.get("current-context")
        if not name:
            raise UsageError(f"The kubeconfig {file} has no current context: name one in `store.kubernetes.context`.")
        context = _named(document, "contexts", name, "context")
        cluster = _named(document, "clusters", context["cluster"], "cluster")
        user = _named(document, "users", str(context["user"]), "user") if context.get("user") else {}
        return _identity(file, cluster, user, str(context.get("namespace") or ""))
    except UsageError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"The kubeconfig {file} cannot be understood ({reason}): correct it.") from None


def _identity(file: Path, cluster: dict[str, Any], user: dict[str, Any], namespace: str) -> Identity:
    for name, remedy in _UNSUPPORTED.items():
        if cluster.get(name) or user.get(name):
            raise UsageError(f"The kubeconfig {file} uses `{name}`, which Twinstar does not: {remedy}.")

    def content(section: dict[str, Any], key: str) -> Content | None:
        if section.get(f"{key}-data"):
            return base64.b64decode(section[f"{key}-data"], validate=True)
        return file.parent / section[key] if section.get(key) else None

    address, secure = _server(file, str(cluster["server"]))
    token: Content | None = file.parent / user["tokenFile"] if user.get("tokenFile") else None
    if token is None and user.get("token"):
        token = str(user["token"]).encode()
    return Identity(
        address,
        secure,
        namespace,
        authority=content(cluster, "certificate-authority"),
        certificate=content(user, "client-certificate"),
        key=content(user, "client-key"),
        token=token,
    )


def _server(file: Path, url: str) -> tuple[Address, bool]:
    parts = urlsplit(url)
    host, secure = parts.hostname, parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        raise UsageError(f"The server in the kubeconfig {file} is {url!r}: write it as https://host:port.")
    if not secure and not is_loopback(host):
        raise UsageError(f"The server in the kubeconfig {file} is {url}, off this machine and unencrypted: use https.")
    return Address(host, parts.port or (443 if secure else 80)), secure


def _named(document: dict[str, Any], kind: str, name: str, inside: str) -> dict[str, Any]:
    for each in document.get(kind) or []:
        if each.get("name") == name:
            return dict(each[inside] or {})
    raise UsageError(f"The kubeconfig has no {inside} {name!r}: it has {_names(document, kind)}.")


def _names(document: dict[str, Any], kind: str) -> str:
    return ", ".join(str(each.get("name")) for each in document.get(kind) or []) or "none"
