"""This module lets a listener speak TLS 1.2 and later: it keeps certificates fresh, and says who the peer is.

Files are looked at again for every new connection, so a renewed certificate is taken up without a restart and without
touching the connections that there are. What cannot be used leaves the last good one in force.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL, crypto
from pydantic import Field, field_validator, model_validator
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from broker.errors import NotReady
from broker.handshake import in_words, is_about_us
from broker.spec import Spec
from broker.tls import stamp_of
from broker.wire.header import Header
from listeners.writing import write_now

_OTHERS_MAY: Final = 0o077
_RECORDS: Final = 2**15  # bytes of records that are written at a time, as Twisted does it
_COMMON_NAME: Final = x509.NameOID.COMMON_NAME

Sender = tuple[bytes, bytes]  # MSH-3 and MSH-4 as sent


class TlsSpec(Spec):
    """The certificate that a listener shows, and what it asks of its peers."""

    certificate: str | None = Field(
        default=None, min_length=1, description="File (PEM) with our certificate, then those that vouch for it."
    )
    key: str | None = Field(
        default=None, min_length=1, description="File (PEM) with its private key, which only we may read."
    )
    ca: str | None = Field(
        default=None,
        min_length=1,
        description="File (PEM) of those who vouch for peers. A listener with it takes in only who shows a certificate "
        "of theirs; where we dial, it says whom to trust instead of the system's list.",
    )
    senders: dict[str, list[str]] = Field(
        default={},
        description="Who may say to be whom: a name in the peer's certificate (host name, common name, or SHA-256 "
        "fingerprint), and the senders it speaks for, as MSH-3|MSH-4. Any other sender is refused (AR).",
    )

    @field_validator("senders")
    @classmethod
    def _are_pairs(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, pairs in value.items():
            for pair in pairs:
                if pair.count("|") != 1:
                    text = f"{name}: a sender is written MSH-3|MSH-4, such as ADT|MERCY; found {pair!r}"
                    raise ValueError(text)
        return value

    @model_validator(mode="after")
    def _go_together(self) -> "TlsSpec":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key need each other")
        if self.senders and self.ca is None:
            raise ValueError("senders needs ca: without a certificate nobody knows who a peer is")
        return self

    def below(self, folder: Path) -> "TlsSpec":
        """Return it with relative paths starting at a folder."""
        names = ("certificate", "key", "ca")
        return self.model_copy(
            update={name: str(folder / found) for name in names if (found := getattr(self, name)) is not None}
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """Who showed a certificate: the names in it, the most telling first, and whom it may speak for (None: anybody)."""

    names: tuple[str, ...]
    senders: frozenset[Sender] | None

    def may_speak_for(self, header: Header) -> bool:
        """Tell whether a message of this sender may come from here."""
        return self.senders is None or (header.sending_application, header.sending_facility) in self.senders


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """Our certificate, key, and those who vouch for peers; read again when a file has changed."""

    def __init__(self, spec: TlsSpec, where: str, on_trouble: Callable[[str], None]) -> None:
        """``where`` is the place in the configuration; ``on_trouble`` is told why renewed files cannot be used.

        Paths in ``spec`` are absolute, or start at the present folder (`TlsSpec.below`).
        """
        self._spec = spec
        self._where = where
        self._on_trouble = on_trouble
        self._files = tuple(filter(None, (spec.certificate, spec.key, spec.ca)))
        self._context: Any = None  # until `load`
        self._seen: tuple[Any, ...] = ()
        self._senders = _by_name(spec.senders)

    def load(self) -> None:
        """Read the files. Raises `NotReady` when they cannot be used."""
        seen = self._stamp()
        self._context = self._made()
        self._seen = seen

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802 - Twisted's
        """Return TLS for one new connection that came in."""
        connection = SSL.Connection(self._fresh(), None)
        wrapped: Any = protocol.wrappedProtocol

        def verify(_connection: SSL.Connection, _shown: crypto.X509, doubt: int, _depth: int, ok: int) -> bool:
            if not ok:
                wrapped.doubted(doubt)
            return bool(ok)

        if self._spec.ca is not None:
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def _fresh(self) -> Any:
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen  # one look at each change, whatever comes of it
            try:
                self._context = self._made()
            except NotReady as error:
                self._on_trouble(f"{error}; the certificate from before stays in force")
        return self._context

    def peer(self, transport: Any) -> Peer:
        """Return who is at the other end of a connection whose handshake is complete."""
        shown = transport.getPeerCertificate()
        names = () if shown is None else names_of(shown.to_cryptography())
        return self.speaker(names)

    def speaker(self, names: tuple[str, ...]) -> Peer:
        """Return the peer of whose certificate these are the names."""
        if not self._spec.senders:
            return Peer(names, None)
        return Peer(names, frozenset(pair for name in names for pair in self._senders.get(name.lower(), ())))

    def _stamp(self) -> tuple[Any, ...]:
        return tuple(stamp_of(Path(file)) for file in self._files)

    def _made(self) -> Any:
        self._look_at_files()
        context = self._context_of(SSL.TLS_SERVER_METHOD)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context

    def _context_of(self, method: int) -> SSL.Context:
        spec = self._spec
        context = SSL.Context(method)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_cipher_list(b"ECDHE+AESGCM:ECDHE+CHACHA20")
        try:
            if spec.certificate is not None and spec.key is not None:
                context.use_certificate_chain_file(spec.certificate)
                context.use_privatekey_file(spec.key)
                context.check_privatekey()
            if spec.ca is not None:
                context.load_verify_locations(spec.ca)
        except SSL.Error:
            raise self._unusable() from None
        return context

    def _unusable(self) -> NotReady:
        text = f"{self._where}: certificate, key and ca cannot be used together"
        return NotReady(f"{text}; they must be PEM, and the key must be the certificate's")

    def _look_at_files(self) -> None:
        spec = self._spec
        for name, file in (("certificate", spec.certificate), ("key", spec.key), ("ca", spec.ca)):
            if file is not None:
                self._look_at(name, file)

    def _look_at(self, name: str, file: str) -> None:
        """Say of each file alone what is wrong with it: OpenSSL says it of all of them together."""
        where = f"{self._where}.{name}: {file}"
        try:
            data = Path(file).read_bytes()
            mode = Path(file).stat().st_mode
        except OSError as error:
            raise NotReady(f"{where} cannot be read ({error.strerror}); check the path and its rights") from None
        if name == "key":
            if mode & _OTHERS_MAY:
                raise NotReady(f"{where} can be read by others (mode {mode & 0o777:04o}); run: chmod 600 {file}")
            return
        try:
            found = x509.load_pem_x509_certificates(data)
        except ValueError:
            raise NotReady(f"{where} holds no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)") from None
        if name == "certificate" and (why := _end_of(found[0])):
            # Peers that check it will go away; those that do not can still send.
            self._on_trouble(f"{where} {why}; renew it")


class _Secured(TLSMemoryBIOProtocol):
    """TLS over a transport, with every record written in the turn that makes it."""

    def _flushSendBIO(self) -> None:  # noqa: N802 - Twisted's name
        try:
            data = self._tlsConnection.bio_read(_RECORDS)
        except SSL.WantReadError:  # there is nothing to be written
            return
        write_now(self.transport, data)


class TlsFactory(TLSMemoryBIOFactory):
    """Wraps a factory in TLS, and turns away whom that turns away."""

    protocol: Any = _Secured  # Twisted's own waits a turn of the loop for more to write; answers come together already

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override] # noqa: N802
        """Take a connection in, or not; Twisted's own factory would wrap None."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)


def why_no_tls(error: BaseException | None, doubt: int | None, *, agreed: bool) -> str:
    """Say why a connection ended, where that is because there was no TLS; nothing where it is not.

    ``doubt`` is what is wrong with the peer's certificate (X509_V_ERR_…). In TLS 1.3 a peer refuses ours only after
    both have ``agreed``.
    """
    if not isinstance(error, SSL.Error):
        return ""
    reason = ", ".join(each[-1] for each in error.args[0]) if error.args else ""
    return in_words(reason, doubt) if not agreed or is_about_us(reason) else ""


def _by_name(senders: Mapping[str, Sequence[str]]) -> dict[str, list[Sender]]:
    found: dict[str, list[Sender]] = {}
    for name, pairs in senders.items():
        for pair in pairs:
            application, _, facility = pair.partition("|")
            found.setdefault(name.lower().replace(":", ""), []).append((application.encode(), facility.encode()))
    return found


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names in a certificate, the most telling first; the last is its SHA-256 fingerprint in hex."""
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names += extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        pass  # old certificates have a common name alone
    names += _texts(certificate.subject.get_attributes_for_oid(_COMMON_NAME))
    return (*names, certificate.fingerprint(SHA256()).hex())


def _texts(attributes: Iterable[Any]) -> list[str]:
    return [value if isinstance(value := attribute.value, str) else value.decode("latin-1") for attribute in attributes]


def _end_of(certificate: x509.Certificate) -> str:
    """Return why a certificate is not valid now, or nothing."""
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        return f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d} on"
    return f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}" if now > certificate.not_valid_after_utc else ""
