"""This module says what leaves us: one message for one destination (`Delivery`), and how that ended (`Outcome`)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from broker.units import Commit


@dataclass(slots=True, kw_only=True)  # not frozen: those take five times as long to make
class Delivery:
    """One message for one destination.

    ``request`` holds the bytes frozen when the message was processed: every attempt sends the same. ``key`` is the
    idempotency key, stable over attempts and opaque (no patient data). ``attempt`` counts from 1.
    """

    id: int  # its message's id plus an ordinal: broker.ids.message_of
    route: int
    key: str
    request: bytes = field(repr=False)
    attempt: int = 1
    first_at: float = 0.0  # POSIX seconds of the first attempt


class Via(NamedTuple):
    """Whom an attempt reached, as far as the transport knows; evidence that is kept with the attempt.

    ``address`` is the peer's (``host:port``). With TLS, ``tls`` is the version, ``subject`` that of the certificate
    that the peer showed (RFC 4514) and ``sha256`` the certificate's fingerprint in hexadecimal digits.
    """

    address: str
    tls: str = ""
    subject: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """It took effect. ``reference`` is the other side's name for it; ``response`` is evidence (sealed when stored).

    With ``commit`` it takes effect in the engine's own store, with the record of it: that is what commits both.
    """

    reference: str = ""
    response: bytes = field(default=b"", repr=False)
    via: Via | None = field(default=None, compare=False)
    commit: "Commit | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Retry:
    """It surely had no effect and may work later.

    ``after`` seconds is what the other side asked for, if it did (``Retry-After``): so long the whole destination is
    left alone, not only this delivery. ``is_away`` says that nobody was reached: however often that happens, it spends
    none of the attempts that a channel allows.
    """

    reason: str
    after: float | None = None
    response: bytes = field(default=b"", repr=False)
    via: Via | None = field(default=None, compare=False)
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have taken effect (time-out or reset after the first byte, or an ambiguous answer)."""

    reason: str
    response: bytes = field(default=b"", repr=False)
    via: Via | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """It was refused for good; trying the same bytes again cannot work. ``location`` is the place at fault, if told."""

    reason: str
    location: str = ""
    response: bytes = field(default=b"", repr=False)
    via: Via | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """It was not to be sent: the person it is for has forbidden it. Nothing is wrong, and nobody need act."""

    reason: str
    response: bytes = field(default=b"", repr=False)
    via: Via | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What the other side says later of something that it took.

    ``reference`` is that of `Delivered`. ``state`` is sent, delivered, read, undeliverable, failed, expired, rejected
    or unknown; ``code`` is the other side's for the reason. ``at`` in POSIX seconds.
    """

    reference: str
    state: str
    code: str = ""
    at: float = 0.0


def evidence(reference: str, response: bytes = b"") -> bytes:
    """Return what the other side said, as it is sealed with the attempt: a reference, a blank line, the response."""
    return reference.encode() + b"\n\n" + response if reference or response else b""


Outcome = Delivered | Retry | Unknown | Rejected | Suppressed
