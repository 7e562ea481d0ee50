"""This module speaks TLS towards others: whom we trust, who we are, and what went wrong when it could not be set up.

Files are looked at again for new connections, at most once a second, so a renewed certificate is taken up without a
restart. What cannot be used leaves the last good one in force.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, model_validator

from broker.errors import ConfigError
from broker.spec import Spec

if TYPE_CHECKING:
    from broker.parts import Tools

EVERY: Final = 1.0  # seconds between two looks at the files: over HTTP every request asks, whatever it is sent over
_OTHERS_MAY: Final = 0o077


class TlsSpec(Spec):
    """TLS towards a partner: whom to trust, and who we are."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        description="File of the authorities to trust (PEM); without it, those of the system.",
    )
    certificate: str | None = Field(
        default=None, min_length=1, description="File of our certificate, with its chain (PEM)."
    )
    key: str | None = Field(
        default=None, min_length=1, description="File of the certificate's key (PEM), where that is another."
    )
    server_name: str | None = Field(
        default=None, min_length=1, description="The name in the partner's certificate, where it is not the host."
    )

    @model_validator(mode="after")
    def _go_together(self) -> "TlsSpec":
        if self.key is not None and self.certificate is None:
            raise ValueError("`key` belongs to a certificate; name its file in `certificate`")
        return self


OwnTls = Annotated[
    TlsSpec | None,
    Field(description="Certificates of one's own: whom to trust instead of the system's authorities, and who we are."),
]


class Tls:
    """TLS for the connections that we open to one partner."""

    def __init__(
        self,
        spec: TlsSpec,
        root: Path,
        where: str,
        on_trouble: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files, which start at ``root``; raise `ConfigError` when one cannot be used.

        ``where`` is the place in the configuration; ``on_trouble`` is told why renewed files cannot be used.
        """
        self.server_name = spec.server_name
        self._spec = spec
        self._root = root
        self._where = where
        self._on_trouble = on_trouble
        self._clock = clock
        self._looked = clock()
        self._seen = self._stamp()
        self._context = make_context(spec, root, where)

    def context(self) -> ssl.SSLContext:
        """Return what a new connection speaks TLS with; the same object as long as no file changes."""
        now = self._clock()
        if now - self._looked < EVERY:
            return self._context
        self._looked = now
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen  # one look at each change, whatever comes of it
            try:
                self._context = make_context(self._spec, self._root, self._where)
            except ConfigError as error:
                self._on_trouble(f"{error}; what was read before stays in force")
        return self._context

    def _stamp(self) -> tuple[Any, ...]:
        return tuple(stamp_of(self._root / file) for file in files_of(self._spec).values())


def build_tls(spec: TlsSpec | None, tools: "Tools", where: str) -> Tls | None:
    """Return what a declaration says of TLS, if anything; raise `ConfigError` when a file cannot be used."""
    from broker.notices import CertificateTrouble  # noqa: PLC0415 - settings are read without it

    if spec is None:
        return None

    def on_trouble(reason: str) -> None:
        tools.notify(CertificateTrouble(channel=tools.channel, reason=reason))

    return Tls(spec, getattr(tools.settings, "root", None) or Path(), where, on_trouble)


def files_of(spec: TlsSpec) -> dict[str, str]:
    """Return the files that a Spec names, by their options."""
    named = {"ca": spec.ca, "certificate": spec.certificate, "key": spec.key}
    return {option: file for option, file in named.items() if file is not None}


def stamp_of(path: Path) -> tuple[int | None, int, int]:
    """Return what changes with a file, or with why it cannot be looked at."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def make_context(spec: TlsSpec, root: Path, where: str, *, serving: bool = False) -> ssl.SSLContext:
    """Return the TLS context of a partner; raise `ConfigError` when a file cannot be used.

    A partner that dials in (``serving``) must show a certificate where ``ca`` says whom to trust.
    """
    for option, file in files_of(spec).items():
        _read(root / file, f"{where}.{option}: {file}")
    purpose = ssl.Purpose.CLIENT_AUTH if serving else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=str(root / spec.ca) if spec.ca else None)
    except OSError:  # ssl.SSLError is one
        raise ConfigError(f"{where}.ca: {spec.ca} holds no certificate in PEM") from None
    if spec.certificate:
        try:
            context.load_cert_chain(root / spec.certificate, root / spec.key if spec.key else None, _no_passphrase)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where}.certificate: {spec.certificate} {_why(error)}") from None
        if (root / (spec.key or spec.certificate)).stat().st_mode & _OTHERS_MAY:
            secret = f"key: {spec.key}" if spec.key else f"certificate: {spec.certificate}"
            raise ConfigError(f"{where}.{secret} holds a key and can be read by others; run chmod 600 on it")
    if serving and spec.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _read(path: Path, where: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where} cannot be read ({error.strerror}); check the path and its rights") from None


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _why(error: Exception) -> str:
    """Say why a certificate could not be taken up together with its key."""
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "and the key do not belong together"
    if isinstance(error, ssl.SSLError):
        return "or its key is not in PEM"
    return "needs a key without a passphrase"
