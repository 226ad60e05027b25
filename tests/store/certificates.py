"""An authority, a server's and a client's certificate for the loopback, good for a day."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    authority: Path
    server: Pair
    client: Pair
    _signing: ec.EllipticCurvePrivateKey

    def another_client(self, directory: Path, common_name: str) -> Pair:
        return _issue(directory, "client", common_name, [ExtendedKeyUsageOID.CLIENT_AUTH], self._signing)


_AUTHORITY = "test authority"


def make_certificates(directory: Path) -> Certificates:
    """The client's has no common name: where etcd 3.4 also asks for passwords, its gateway refuses one that has."""
    directory.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = (
        _builder(_AUTHORITY, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "authority.pem"
    path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    # etcd's gateway is a client of its own server and shows the server's certificate: it needs both usages
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return Certificates(
        path,
        _issue(directory, "server", "server", both, key),
        _issue(directory, "client", None, both[1:], key),
        key,
    )


def _issue(
    directory: Path,
    what: str,
    common_name: str | None,
    usages: list[x509.ObjectIdentifier],
    authority: ec.EllipticCurvePrivateKey,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        _builder(common_name, key.public_key())
        .add_extension(addresses, critical=common_name is None)  # RFC 5280: the name of who has no other
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pair = Pair(directory / f"{what}.pem", directory / f"{what}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def _builder(common_name: str | None, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(_AUTHORITY))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _name(common: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
