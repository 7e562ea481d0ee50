"""This module makes certificates for tests: an authority of their own, and what it vouches for."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files lie in a folder."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key.public_key(), authority=True)
        self.file = folder / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @classmethod
    def below(cls, folder: Path, name: str = "Test CA") -> Self:
        """Make one in a folder that need not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, name)

    def server(self) -> ssl.SSLContext:
        """Return what a server at 127.0.0.1 speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.vouch("127.0.0.1"))
        return context

    def client(self) -> ssl.SSLContext:
        """Return what a client trusts the authority with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        return context

    def vouch(self, *names: str) -> Path:
        """Return a file with a certificate for host names or addresses, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), names=names)
        file = self._folder / f"{self.file.stem}-{names[0]}.pem"
        file.touch(0o600)
        file.write_bytes(certificate.public_bytes(Encoding.PEM) + _private(key))
        return file

    def issue(self, name: str, *, days: int = 30, begins: int = -60, file: str = "") -> Files:
        """Make a certificate for a host and 127.0.0.1, valid from one day to another, counted from today."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), days=days, begins=begins, names=(name, "127.0.0.1"))
        files = Files(self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key")
        files.key.touch(0o600)
        files.key.write_bytes(_private(key))
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return files

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        days: int = 365,
        begins: int = -60,
        names: Sequence[str] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            extension = x509.SubjectAlternativeName([_named(name) for name in dict.fromkeys(names)])
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, SHA256())


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
