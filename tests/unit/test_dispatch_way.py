"""This module tests what is known of a connection: who is at its other end, and what TLS says of them."""

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.delivery import Delivered, Outcome, Rejected, Via
from dispatch.way import CURRENT, via_of, witnessed


class Transport:
    """A transport with what it would say."""

    def __init__(self, **said: Any) -> None:
        self._said = said

    def get_extra_info(self, name: str) -> Any:
        return self._said.get(name)


@pytest.mark.parametrize(
    ("peer", "via"),
    [
        (("192.0.2.7", 443), Via("192.0.2.7:443")),
        (("2001:db8::7", 443, 0, 0), Via("[2001:db8::7]:443")),
        ("", None),  # a socket of the file system
        (None, None),
    ],
)
def test_via_is_the_peer_as_far_as_the_transport_knows(peer: object, via: Via | None) -> None:
    assert via_of(Transport(peername=peer)) == via
    assert via_of(None) is None


@pytest.mark.parametrize(("shown", "sha256"), [(None, ""), (b"odd", hashlib.sha256(b"odd").hexdigest())])
def test_via_says_what_it_can_of_a_certificate_that_is_missing_or_unreadable(shown: bytes | None, sha256: str) -> None:
    tls = SimpleNamespace(getpeercert=lambda *, binary_form: shown if binary_form else None, version=lambda: "TLSv1.3")
    assert via_of(Transport(peername=("h", 1), ssl_object=tls)) == Via("h:1", "TLSv1.3", "", sha256)


def certified(folder: Path) -> tuple[Path, bytes]:
    """Make a certificate with its key in one file; return the file and the certificate in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ehr.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = folder / "peer.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path, certificate.public_bytes(serialization.Encoding.DER)


async def test_via_of_a_tls_connection_names_the_certificate(tmp_path: Path) -> None:
    path, der = certified(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=ours)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
    via = via_of(writer.transport)
    writer.close()
    server.close()
    assert via == Via(f"127.0.0.1:{port}", "TLSv1.3", "CN=ehr.example", hashlib.sha256(der).hexdigest())


async def test_witnessed_adds_the_last_way_and_keeps_what_an_outcome_says_itself() -> None:
    near, far = Via("a:1"), Via("b:2")

    async def work(outcome: Outcome) -> Outcome:
        way = CURRENT.get()
        assert way is not None
        way.via = far
        return outcome

    assert (await witnessed(work(Delivered("x")))).via == far
    assert (await witnessed(work(Rejected("no", via=near)))).via == near
    assert CURRENT.get() is None
