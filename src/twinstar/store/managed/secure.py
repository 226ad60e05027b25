"""TLS of a keeper, from files alone: it does not load the configuration."""

from __future__ import annotations

import ssl

from twinstar.model.errors import UsageError
from twinstar.store.managed.settings import TlsFiles


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises UsageError."""
    return _context(files, ssl.PROTOCOL_TLS_CLIENT)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For those who show a certificate of the same authority, as etcd wants it as well. Raises UsageError."""
    context = _context(files, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(files: TlsFiles, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(files.authority)
        context.load_cert_chain(files.certificate, files.key)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"The TLS files {files.certificate}, {files.key} and {files.authority} are of no use "
            f"({error.strerror}): run `twinstar init --renew`."
        ) from None
    return context
