"""This module answers HL7 messages: it checks headers, chooses the code to answer with, and builds acknowledgments.

It does no I/O and works on bytes: what is echoed is echoed as it was sent (HL7 v2.5.1, 2.9).
"""

import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from broker.errors import Breach, NotAccepted
from broker.wire.header import Header
from broker.wire.location import Location

# HL7 table 0008, acknowledgment code.
TABLE_0008: Final[dict[str, str]] = {
    "AA": "Application Accept",
    "AE": "Application Error",
    "AR": "Application Reject",
    "CA": "Commit Accept",
    "CE": "Commit Error",
    "CR": "Commit Reject",
}

# HL7 table 0357, message error condition codes.
TABLE_0357: Final[dict[int, str]] = {
    0: "Message accepted",
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    104: "Value too long",
    198: "Non-conformant cardinality",
    199: "Other HL7 error",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application error",
}

_REJECTED: Final = frozenset({200, 201, 202, 203})  # the message is not one that we take at all

# HL7 table 0104, version id.
VERSIONS: Final = (
    "2.1",
    "2.2",
    "2.3",
    "2.3.1",
    "2.4",
    "2.5",
    "2.5.1",
    "2.6",
    "2.7",
    "2.7.1",
    "2.8",
    "2.8.1",
    "2.8.2",
    "2.9",
    "2.9.1",
)

_ASSUMED: Final = "2.5.1"  # how an answer is written when the sender's version is not known
_MSA_SEARCHED: Final = 8192  # MSA follows MSH at once, or a few short segments:
_BEFORE_MSA: Final = frozenset({b"SFT", b"UAC", b"ARV", b"NTE", b"ERR"})
_LINE_END: Final = b"\r\n"
_TEXT_LIMIT: Final = 80  # MSA-3 and ERR-1, HL7 v2.4
_USER_LIMIT: Final = 250  # ERR-8, HL7 v2.5
_CONDITIONS: Final[dict[str, tuple[bool, bool]]] = {  # HL7 table 0155: answer when (good, bad)
    "AL": (True, True),
    "NE": (False, False),
    "ER": (False, True),
    "SU": (True, False),
}


def check_header(header: Header) -> NotAccepted | None:
    """Return why a message with this header is refused (MSH-9, MSH-10, MSH-12), or None."""
    if not header.message_code:
        return NotAccepted("MSH-9: the message type is missing", code="AR", condition=101, location="MSH-9")
    if not header.control_id:
        return NotAccepted("MSH-10: the message control id is missing", code="AR", condition=101, location="MSH-10")
    if _version(header.version, header.definition) is None:
        if not header.version.strip():
            return NotAccepted("MSH-12: the version is missing", code="AR", condition=101, location="MSH-12")
        text = f"MSH-12: the version is not one of HL7 table 0104 ({VERSIONS[0]} to {VERSIONS[-1]})"
        return NotAccepted(text, code="AR", condition=203, location="MSH-12")
    return None


def bad_code(conditions: Iterable[int]) -> str:
    """Return the code of table 0008 for what is wrong by table 0357: AR where we do not take such messages, else AE."""
    return "AE" if _REJECTED.isdisjoint(conditions) else "AR"


def is_acknowledgment(header: Header, body: bytes = b"") -> bool:
    """Tell whether a message answers another (MSH-9.1 is ACK, or MSA is among its first segments).

    Such a message is never answered: two engines would answer each other for ever (HL7 v2.5.1, 2.9.2).
    """
    if header.message_code == b"ACK":
        return True
    begin = 0
    # Segment by segment, because looking for MSA in all of a message would cost more than all of this.
    while True:
        end = body.find(b"\r", begin, _MSA_SEARCHED)
        line_feed = body.find(b"\n", begin, _MSA_SEARCHED if end < 0 else end)
        if line_feed >= 0:
            end = line_feed
        if end < 0:
            return False
        begin = end + 1
        name = body[begin : begin + 3]
        if name == b"MSA":
            return True
        if name not in _BEFORE_MSA and name.strip(_LINE_END) == name:
            return False


def is_enhanced(header: Header) -> bool:
    """Tell whether a message asks for enhanced mode: MSH-15 or MSH-16 is valued (HL7 v2.5.1, 2.9.3)."""
    return bool(header.accept_ack or header.application_ack)


def commit_code(header: Header, verdict: str) -> str | None:
    """Return the code of the accept acknowledgment for a verdict AA, AE or AR: CA, CE or CR, or None if none is due.

    It is due when the message is committed or refused, in enhanced mode only, by MSH-15.
    """
    return "C" + verdict[1:] if _is_due(header.accept_ack, verdict) else None


def application_code(header: Header, verdict: str) -> str | None:
    """Return the code of the application acknowledgment for a verdict AA, AE or AR, or None if none is due.

    In original mode it is the one answer, and always due; in enhanced mode MSH-16 decides, and it is a message of its
    own that may come later than the accept acknowledgment.
    """
    return verdict if not is_enhanced(header) or _is_due(header.application_ack, verdict) else None


def refusal_code(header: Header, verdict: str) -> str | None:
    """Return the code to answer a refusal with: what was not committed is answered once, in the form asked for first.

    No application ever sees the message, so no application acknowledgment follows a CE or CR.
    """
    return commit_code(header, verdict) or application_code(header, verdict)


def acknowledge(
    header: Header,
    code: str,
    control_id: str,
    at: float,
    *,
    text: str = "",
    condition: int | None = None,
    location: str = "",
    severity: str = "E",
    diagnostic: str = "",
    further: Sequence[Breach] = (),
    silent: bool = False,
) -> bytes:
    """Build the acknowledgment of a message, in its separators, version and character set.

    ``code`` is of table 0008, ``control_id`` our own MSH-10, ``at`` POSIX seconds. ``condition`` (table 0357) adds ERR
    in the form of the sender's version, with ``text`` for people, ``location`` (``PID-3.1``), ``severity`` (0516) and
    ``diagnostic``, what a help desk wants to know; ``further`` is what else is wrong. ``silent`` says in MSH-15 and
    MSH-16 that nobody is to answer it, as an application acknowledgment does in enhanced mode, where it is a message
    that could ask for that.
    """
    separator = header.definition[:1]
    echoed = (*header[2:6], header.trigger, header.processing_id, header.version, header.charset)
    lead, kind, rest = _parts(header.definition, echoed, silent)
    parts = [lead, _timestamp(int(at)), kind, control_id.encode("ascii"), rest, code.encode("ascii"), separator]
    parts.append(header.control_id)
    if text and _version_or_assumed(header) < (2, 7):
        parts += (separator, _escaped(header, text[:_TEXT_LIMIT]))
    parts.append(b"\r")
    if condition is not None:
        parts.append(_errors(header, (Breach(location, condition, text), *further), severity, diagnostic))
    # The bytes of framing have no place in a value, and echoed they would break the frame that carries this answer.
    built = b"".join(parts).translate(None, b"\x0b\x1c")
    return _widened(built, header.wide) if header.wide else built


def timestamp(at: float) -> bytes:
    """Write a time (POSIX seconds) as HL7 does, in UTC, to the second."""
    return _timestamp(int(at))


def _widened(built: bytes, codec: str) -> bytes:
    wide = built.decode().encode(codec)
    if b"\x0b" in wide or b"\x1c\r" in wide:  # in UTF-16 letters such as U+0B85 hold the bytes of framing
        wide = built.decode().encode("ascii", "replace").decode().encode(codec)
    return wide


def _is_due(wish: bytes, verdict: str) -> bool:
    if not wish or wish == b'""':
        return False
    # A wish that the table does not have: better an answer too many than a sender that waits.
    good, bad = _CONDITIONS.get(wish.decode("latin-1").strip().upper(), (True, True))
    return good if verdict == "AA" else bad


@lru_cache(maxsize=1024)
def _parts(definition: bytes, echoed: tuple[bytes, ...], silent: bool) -> tuple[bytes, bytes, bytes]:  # noqa: FBT001
    """Return what stands before the time, between time and control id, and between control id and MSA-1."""
    bar, component = definition[:1], definition[1:2]
    application, facility, our_application, our_facility, trigger, processing_id, version, charset = echoed
    number = _version(version, definition) or (2, 5, 1)
    kind = [b"ACK"]
    if trigger and number >= (2, 2):  # MSH-9 has a second component since 2.2, and a third since 2.4
        kind += [trigger, b"ACK"] if number >= (2, 4) else [trigger]
    lead = bar.join((b"MSH" + definition, our_application, our_facility, application, facility, b""))
    end = [b"", processing_id or b"P", version or _ASSUMED.encode()]
    wishes = b"NE" if silent else b""
    if charset or silent:
        end += [b"", b"", wishes, wishes]
    if charset:
        end += [b"", charset]
    return lead, bar + bar + component.join(kind) + bar, bar.join(end) + b"\rMSA" + bar


def _errors(header: Header, found: Sequence[Breach], severity: str, diagnostic: str) -> bytes:
    """Return ERR in the form of the version: since 2.5 one for each breach, before that one for all; 2.1 has one."""
    bar = header.definition[:1]
    version = _version_or_assumed(header)
    if version < (2, 2):
        code = str(found[0].condition).encode()
        return b"ERR" + bar + b" ".join((*_place(found[0].location)[:3], code)) + b"\r"
    if version < (2, 5):
        repeat = header.separators.repetition.encode()
        told = [_error_code(header, breach) for breach in (found if repeat else found[:1])]
        return b"ERR" + bar + repeat.join(told) + b"\r"
    return b"".join(
        _error(header, breach, severity, diagnostic if not number else "") for number, breach in enumerate(found)
    )


def _error_code(header: Header, found: Breach) -> bytes:
    """Return an ELD: it has room for segment, its number, and field; the code is the fourth, whatever is known."""
    component, lower = header.definition[1:2], header.separators.subcomponent.encode()
    place = [*_place(found.location), b"", b"", b""][:3]
    identified = lower.join((*_named(found.condition), b"HL70357")) if lower else _named(found.condition)[0]
    return component.join((*place, identified))[:_TEXT_LIMIT]


def _error(header: Header, found: Breach, severity: str, diagnostic: str) -> bytes:
    bar, component = header.definition[:1], header.definition[1:2]
    fields = (
        b"ERR",
        b"",
        component.join(_place(found.location)),
        component.join((*_named(found.condition), b"HL70357")),
        severity.encode(),
        b"",
        b"",
        _escaped(header, diagnostic),
        _escaped(header, found.text[:_USER_LIMIT]),
    )
    return bar.join(fields).rstrip(bar) + b"\r"


def _named(condition: int) -> tuple[bytes, bytes]:
    return str(condition).encode(), TABLE_0357.get(condition, TABLE_0357[207]).encode()


@lru_cache(maxsize=256)
def _place_of(location: str) -> tuple[bytes, ...]:
    try:
        place = Location.parse(location)
    except ValueError:
        return ()
    parts: list[object] = [place.segment, place.occurrence or 1]
    if place.field:
        parts.append(place.field)
    if place.component:
        parts += [place.repetition or 1, place.component]
    if place.subcomponent:
        parts.append(place.subcomponent)
    return tuple(str(part).encode() for part in parts)


def _place(location: str) -> list[bytes]:
    return list(_place_of(location)) if location else []


def _escaped(header: Header, text: str) -> bytes:
    """Write our own words so that they fit any character set and any separators."""
    separators = header.separators
    escape = separators.escape
    letters = {
        separators.field: "F",
        separators.component: "S",
        separators.repetition: "R",
        separators.subcomponent: "T",
    }
    if escape:
        letters[escape] = "E"
    letters.pop("", None)
    line = " ".join(text.split())
    written = "".join(
        (f"{escape}{letters[letter]}{escape}" if escape else " ") if letter in letters else letter for letter in line
    )
    return written.encode("ascii", "replace")


def _version_or_assumed(header: Header) -> tuple[int, ...]:
    return _version(header.version, header.definition) or (2, 5, 1)


@lru_cache(maxsize=256)
def _version(version: bytes, definition: bytes) -> tuple[int, ...] | None:
    """Return MSH-12's version id as numbers, or None when it is not in table 0104; further components do not matter."""
    name = version.partition(definition[1:2])[0].strip().decode("latin-1")
    return tuple(int(number) for number in name.split(".")) if name in VERSIONS else None


@lru_cache(maxsize=4)
def _timestamp(second: int) -> bytes:
    return time.strftime("%Y%m%d%H%M%S+0000", time.gmtime(second)).encode()
