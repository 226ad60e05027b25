"""How to reach the API server and who to be there: from a kubeconfig, or from what Kubernetes puts into each pod.

Tokens and certificates are short-lived in Kubernetes, so nothing is kept longer than its file stands: a token is read
for each request, certificates before each connection.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinstar.model.errors import UsageError
from twinstar.ports.network import Address
from twinstar.store.http import Headers

POD_FILES = Path("/var/run/secrets/kubernetes.io/serviceaccount")
Content = Path | bytes
"""A file to be read when it is needed, or what a kubeconfig has in itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a kubeconfig or a pod says. `namespace` is empty where it says none."""

    address: Address
    secure: bool
    namespace: str
    authority: Content | None = None
    """None: the authorities that the machine trusts."""
    certificate: Content | None = None
    key: Content | None = field(default=None, repr=False)
    token: Content | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.address}"


class Access:
    """The identity, asked for anew each time: `identify` returns what its source says now."""

    def __init__(self, identify: Callable[[], Identity]) -> None:
        """Raises UsageError."""
        self._identify = identify
        self._made_of: tuple[bytes | None, ...] | None = None
        self._context: ssl.SSLContext | None = None
        first = identify()
        self.address, self.url, self.namespace = first.address, first.url, first.namespace
        self.headers()
        self.tls()

    def headers(self) -> Headers:
        """Who asks. Raises UsageError."""
        token = _read(self._identify().token)
        if token is None:
            return []
        text = token.decode(errors="replace").strip()
        if not (text.isascii() and text.isprintable() and text):
            raise UsageError("The token for the API server is empty or no token: correct the kubeconfig, or the pod.")
        return [("Authorization", f"Bearer {text}")]

    def tls(self) -> ssl.SSLContext | None:
        """For a new connection. Raises UsageError."""
        identity = self._identify()
        if not identity.secure:
            return None
        made_of = (_read(identity.authority), _read(identity.certificate), _read(identity.key))
        if made_of != self._made_of or self._context is None:
            self._context, self._made_of = _context(*made_of), made_of
        return self._context


def in_pod(environment: Mapping[str, str], files: Path = POD_FILES) -> Callable[[], Identity]:
    """The pod's own service account. Raises UsageError outside of Kubernetes."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdecimal() or not (files / "token").is_file():
        raise UsageError(
            "This is no pod of Kubernetes with a service account's token: name a file in `store.kubernetes.kubeconfig`."
        )
    address = Address(host, int(port))
    namespace = (_read(files / "namespace") or b"").decode(errors="replace").strip()
    identity = Identity(address, True, namespace, authority=files / "ca.crt", token=files / "token")
    return lambda: identity


def _read(content: Content | None) -> bytes | None:
    if not isinstance(content, Path):
        return content
    try:
        return content.read_bytes()
    except OSError as error:
        raise UsageError(f"{content} cannot be read ({error.strerror}): correct the kubeconfig, or the pod.") from None


def _context(authority: bytes | None, certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if authority is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=authority.decode())
        if certificate is not None:
            _load_pair(context, certificate, key or b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UsageError(
            f"The certificates for the API server are of no use ({error}): correct the kubeconfig."
        ) from None
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes a file alone; this one is in memory, so that no key is written to a disk."""
    descriptor = os.memfd_create("client")
    try:
        os.write(descriptor, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: "")
    finally:
        os.close(descriptor)
