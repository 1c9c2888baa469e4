"""Certificates for the tests of TLS: an authority, and what it vouches for, as files in PEM form.

They have what RFC 5280 demands and OpenSSL checks under X509_V_FLAG_X509_STRICT, Python's default from 3.13 on.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collector.transport import TLS

_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """An authority of its own in `folder`; `ca` is its certificate's file."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.pem"
        builder = _builder(self.name, self.name, self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_SIGNS, critical=True)
        self.ca.write_bytes(_pem(builder.sign(self.key, hashes.SHA256())))

    def issue(self, name: str, *names: str) -> tuple[Path, Path]:
        """Certificate and key for DNS names, IP addresses and URIs; files named after `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.name, key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(each) for each in names]), critical=False)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(own, critical=False)
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        certificate.write_bytes(_pem(builder.sign(self.key, hashes.SHA256())))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret

    def server(self, *names: str, mutual: bool = False) -> TLS:
        """A server's side, for `names` or else for the loopback addresses; `mutual` asks clients for certificates."""
        certificate, key = self.issue("server", *(names or ("localhost", "127.0.0.1", "::1")))
        return TLS(ca=self.ca if mutual else None, certificate=certificate, key=key)

    def client(self, *, mutual: bool = False, server_name: str = "") -> TLS:
        """A client's side that trusts this authority; `mutual` gives it a certificate of its own."""
        certificate, key = self.issue("client", "spiffe://cluster.local/ns/test/sa/client") if mutual else (None, None)
        return TLS(ca=self.ca, certificate=certificate, key=key, server_name=server_name)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))


def _san(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
