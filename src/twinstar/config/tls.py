"""TLS contexts and libpq settings from the configuration's certificate files. Standard library only."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from twinstar.config.schema import Tls
from twinstar.model.errors import UsageError


class Purpose(Enum):
    SERVE_HTTP = auto()
    """The agent's HTTP interface: load balancers have no certificate, what changes something needs a token."""
    CALL_HTTP = auto()
    """A client of that interface, which checks the server against the authority."""
    STORE = auto()
    """A client of the coordination store, which shows its own certificate."""


def tls_for(tls: Tls, name: str) -> Tls:
    """The files of one node: each ``{name}`` replaced."""

    def fill(path: Path) -> Path:
        return Path(str(path).replace("{name}", name))

    return Tls(certificate=fill(tls.certificate), key=fill(tls.key), authority=fill(tls.authority))


def ssl_context(tls: Tls, purpose: Purpose) -> ssl.SSLContext:
    """A context of TLS 1.2 or later. `tls` is one node's (`tls_for`). Raises UsageError when a file is of no use."""
    serves = purpose is Purpose.SERVE_HTTP
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not serves:
        _use(lambda: context.load_verify_locations(tls.authority), tls.authority)
    if purpose is not Purpose.CALL_HTTP:
        _use(lambda: context.load_cert_chain(tls.certificate, tls.key, _no_prompt), tls.certificate, tls.key)
    return context


def libpq_tls(tls: Tls | None) -> dict[str, str]:
    """What a libpq client (replication, rewind, the application) adds to its connection string.

    Without TLS it says so, which also spares a round trip. `sslrootcert` is the one file a client needs.
    """
    if tls is None:
        return {"sslmode": "disable"}
    return {"sslmode": "verify-full", "sslrootcert": str(tls.authority)}


def _use(load: Callable[[], None], *files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise UsageError(f"The TLS file {file} does not exist: run `twinstar init`, or correct `tls`.")
    names = " with ".join(map(str, files))
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"The TLS file {names} is of no use ({error.strerror}): make it anew.") from None


def _no_prompt() -> str:
    """A protected key would make OpenSSL ask on the terminal; this makes it fail instead."""
    return ""
