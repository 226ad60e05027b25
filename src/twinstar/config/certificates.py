"""An authority of the cluster's own, and a certificate for each node and the router.

Elliptic keys (P-256), because libpq, Java and old OpenSSL all take them. A node's certificate names the node's host
and every host where clients reach a router, since the router passes TLS through to the node behind it: the client
checks the name it dialled against the certificate of a node that it does not know.

`cryptography` is imported here alone, and only `twinstar init` imports this module.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinstar.config.schema import Config, Node, Tls, Witness
from twinstar.config.secrets import write_private
from twinstar.config.tls import tls_for
from twinstar.model.errors import UsageError

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
"""The longest that all common clients accept."""
RENEWAL_DAYS = 90
"""A certificate with less than this left is renewed by the next `twinstar init --renew`."""
_CLOCKS_APART = datetime.timedelta(hours=1)

ROUTER = "router"
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_certificates(config: Config, now: datetime.datetime) -> list[Path]:
    """Makes what is missing or `due`; an authority that is there stays. Returns the files written.

    The authority's key lies beside its certificate as ``authority.key``; it is needed for renewals alone and belongs
    on no node. Raises UsageError when a file cannot be read or written.
    """
    assert config.tls is not None
    key_file = config.tls.authority.with_name("authority.key")
    fresh = not config.tls.authority.exists()
    written: list[Path] = []
    try:
        if fresh:
            _write_authority(config.cluster, config.tls.authority, key_file, now)
            written += [config.tls.authority, key_file]
        for name, hosts in names_and_hosts(config).items():
            files = tls_for(config.tls, name)
            if fresh or due(files.certificate, hosts, now):  # under a new authority the old ones are worth nothing
                _write_certificate(_issuer(config.tls.authority, key_file), name, hosts, files, now)
                written += [files.certificate, files.key]
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read or written ({error.strerror}): correct that.") from None
    return written


def names_and_hosts(config: Config) -> dict[str, list[str]]:
    """Every certificate's name with the hosts it must vouch for, localhost always among them."""
    router = config.router
    reached = [*(router.hosts or router.bind)] if router else []
    local = ["localhost", "127.0.0.1", "::1"]
    found = {node.name: _distinct([*_hosts(node), *reached, *local]) for node in config.nodes}
    found |= {witness.name: _distinct([*_hosts(witness), *local]) for witness in config.witnesses}
    if router:
        found[ROUTER] = _distinct([*reached, *local])
    found[CLIENT] = local
    return found


def due(certificate: Path, hosts: list[str], now: datetime.datetime) -> bool:
    """Whether a certificate is missing, ends within `RENEWAL_DAYS`, does not name all `hosts`, or is none."""
    if not certificate.exists():
        return True
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        named = set(loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        return True
    ends_soon = loaded.not_valid_after_utc - now < datetime.timedelta(days=RENEWAL_DAYS)
    return ends_soon or not {_general_name(host) for host in hosts} <= named


def _write_authority(cluster: str, certificate: Path, key_file: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"{cluster} authority")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    _save(certificate, builder.sign(key, hashes.SHA256()), key_file, key)


def _write_certificate(issuer: Issuer, name: str, hosts: list[str], files: Tls, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    public = issuer.key.public_key()
    builder = (
        _builder(_name(name), issuer.certificate.subject, key.public_key(), now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    _save(files.certificate, builder.sign(issuer.key, hashes.SHA256()), files.key, key)


def _issuer(certificate: Path, key_file: Path) -> Issuer:
    if not key_file.exists():
        raise UsageError(
            f"The authority's key {key_file} is missing: put it back for this renewal, "
            f"or remove {certificate} to begin with a new authority and new certificates everywhere."
        )
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{key_file} is no elliptic key: sign the certificates with your own tools instead.")
    return Issuer(x509.load_pem_x509_certificate(certificate.read_bytes()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _save(certificate: Path, made: x509.Certificate, key_file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    for file in (certificate, key_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key_file, private.decode())
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM).decode())
    certificate.chmod(0o644)


def _hosts(node: Node | Witness) -> list[str]:
    return [node.host, *([node.bind] if node.bind else []), node.name]


def _distinct(hosts: list[str]) -> list[str]:
    return [host for host in dict.fromkeys(hosts) if host not in ("0.0.0.0", "::")]  # noqa: S104


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
