"""This module reads the value of an observation (OBX-5), whose type the message itself names (OBX-2).

What does not hold what its type promises is kept as text: a value that cannot be computed with can still be read.
"""

import re
from binascii import Error, b2a_base64
from collections.abc import Callable
from typing import Final, NamedTuple

from broker.canonical.model import Attachment, Concept, ObservationPart
from transforms.hl7_codes import concept, formatted, number, quantity
from transforms.hl7_types import Reader
from transforms.times import fhir_date, fhir_datetime


class Value(NamedTuple):
    """What an observation says; ``parts`` are its values where there are several, ``files`` all attachments."""

    text: str | None = None
    type: str | None = None
    concept: Concept | None = None
    comparator: str | None = None
    unit: str | None = None
    files: tuple[Attachment, ...] = ()
    parts: tuple[ObservationPart, ...] = ()


NOTHING: Final = Value()

_Read = Callable[[Reader, str], Value]

COMPARATORS: Final = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": None, "": None, "=<": "<=", "=>": ">="}
_COMPARED: Final = re.compile(r"(<=|>=|=<|=>|<|>)\s*(\S+)\Z")
TIME: Final = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d)(?:\.\d{1,6})?)?)?(?:[+-]\d{4})?\Z", re.ASCII)
_HEADED: Final = 5  # components of an ED; the fifth is the data

_APPLICATION, _IMAGE, _TEXT = "application", "image", "text"
# HL7 table 0191, and what senders write instead.
_MAIN_TYPES: Final = {"ap": _APPLICATION, "im": _IMAGE, "ft": _TEXT, "tx": _TEXT, "sd": _IMAGE, "si": _IMAGE}
# HL7 table 0291: these name a type alone, whatever stands beside them (senders write TEXT^PDF).
_CONTENT_TYPES: Final = {
    **dict.fromkeys(("jpeg", "jpg"), "image/jpeg"),
    **dict.fromkeys(("tiff", "tif"), "image/tiff"),
    **dict.fromkeys(("html", "htm"), "text/html"),
    **dict.fromkeys(("txt", "plain"), "text/plain"),
    **dict.fromkeys(("dicom", "dcm"), "application/dicom"),
    "pdf": "application/pdf", "rtf": "application/rtf", "gif": "image/gif", "png": "image/png", "bmp": "image/bmp",
    "postscript": "application/postscript", "octet-stream": "application/octet-stream", "sgml": "text/sgml",
    "msword": "application/msword", "doc": "application/msword", "json": "application/json",
}  # fmt: skip
# How base64 of these begins.
_BEGINNINGS: Final = (
    ("JVBERi0", "application/pdf"), ("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"),
    ("SUkqA", "image/tiff"), ("TU0AK", "image/tiff"), ("e1xydG", "application/rtf"),
)  # fmt: skip


def value_of(read: Reader, kind: str, field: str) -> Value:
    """Return the value of a field of the type that OBX-2 names; without a type, what stands there as text."""
    reading = _READINGS.get(kind) or _READINGS.get((read.first(kind) or "").upper(), _composed)
    if reading is _numeric and field.isdecimal() and field.isascii():  # the usual case
        return Value(field, "quantity")
    repetitions = read.repetitions(field)
    if not repetitions:
        return NOTHING
    if len(repetitions) == 1 or (reading is _encapsulated and not _are_headed(read, repetitions)):
        return reading(read, field)
    if reading is _plain or reading is _formatted:  # lines of one text, blank ones as well
        return _string("\n".join([reading(read, part).text or "" for part in repetitions]).strip("\n"))
    return _several([value for part in repetitions if (value := reading(read, part)) is not NOTHING])


def _are_headed(read: Reader, repetitions: list[str]) -> bool:
    """Tell repeated ED from one whose data is text with a ``~`` in it."""
    return all(len(read.head(part, _HEADED)) == _HEADED for part in repetitions)


def _several(values: list[Value]) -> Value:
    """Return several values as one: as lines of text, and each of them on its own unless they are text anyway."""
    if len(values) <= 1:
        return values[0] if values else NOTHING
    first = values[0]
    text = "\n".join([value.text for value in values if value.text]) or None
    files = tuple([file for value in values for file in value.files])
    if first.type == "string" or files:
        return Value(text, first.type, files=files)
    parts = tuple(
        [
            ObservationPart(
                value=value.text,
                value_type=value.type,
                concept=value.concept,
                comparator=value.comparator,
                unit=value.unit,
            )
            for value in values
        ]
    )
    return Value(text, "concept" if first.concept else "string", first.concept, parts=parts)


def _string(text: str | None) -> Value:
    return Value(text, "string") if text else NOTHING


def _plain(read: Reader, part: str) -> Value:
    return _string(read.plain(part))


def _formatted(read: Reader, part: str) -> Value:
    return _string(formatted(read, part))


def _numeric(read: Reader, part: str) -> Value:
    """Read NM; senders write ``<5`` and ``>=100`` in it as well, and units."""
    text = read.plain(part)
    if text is None:
        return NOTHING
    if number(text):
        return Value(text, "quantity")
    found = _COMPARED.match(text)
    if found and number(found[2]):
        return Value(found[2], "quantity", comparator=COMPARATORS[found[1]])
    return _composed(read, part)


def _structured(read: Reader, part: str) -> Value:
    """Read SN: comparator, number, separator (- range, : and / ratio, + category), number (HL7 v2.5.1, 2.A.70)."""
    sign, first, separator, second = [read.plain(component) or "" for component in read.split(part, 4)]
    if not first and not second:
        return _composed(read, part) if sign or separator else NOTHING
    if sign not in COMPARATORS or not number(first) or (second and not number(second)):
        return _string(f"{sign}{first}{separator}{second}")
    comparator = COMPARATORS[sign]
    if not second:
        return _string(f"{sign}{first}{separator}") if separator else Value(first, "quantity", comparator=comparator)
    kind = {"-": "range", ":": "ratio", "/": "ratio"}.get(separator, "string")
    return Value(f"{first}{separator}{second}", kind, comparator=comparator)


def _coded(read: Reader, part: str) -> Value:
    found = concept(read, part)
    if found is None:
        return NOTHING
    return Value(found.text or found.code, "concept", found)


def _date(read: Reader, part: str) -> Value:
    text = read.first(part)
    date = fhir_date(text) if text else None
    return Value(date, "datetime") if date else _plain(read, part)


def _moment(read: Reader, part: str) -> Value:
    text = read.first(part)
    time = fhir_datetime(text) if text else None
    return Value(time, "datetime") if time else _plain(read, part)


def _clock(read: Reader, part: str) -> Value:
    found = TIME.match(read.first(part) or "")
    return Value(f"{found[1]}:{found[2] or '00'}:{found[3] or '00'}", "time") if found else _plain(read, part)


def _period(read: Reader, part: str) -> Value:
    """Read DR as ISO 8601 writes an interval."""
    begin, end = [fhir_datetime(text) if text else None for text in read.components(part, 2)]
    return _string(f"{begin or '..'}/{end or '..'}") if begin or end else _composed(read, part)


def _measured(read: Reader, part: str) -> Value:
    """Read CQ: a number with its own unit."""
    amount, unit = quantity(read, part)
    return Value(amount, "quantity", unit=unit) if amount else _composed(read, part)


def _reached(read: Reader, part: str) -> Value:
    found = read.telecom(part, "")
    return _string(found.value) if found else NOTHING


def _numbered(read: Reader, part: str) -> Value:
    return _string(read.plain(read.split(part, 1)[0]))


def _composed(read: Reader, part: str) -> Value:
    """Read what has parts of its own, and no place of its own in the model, as text."""
    if not read.divides(part):
        return _plain(read, part)
    pieces = [read.plain(piece) for piece in read.pieces(part)]
    return _string(" ".join([piece for piece in pieces if piece]))


def _encapsulated(read: Reader, part: str) -> Value:
    """Read ED (application^type^subtype^encoding^data); the data alone is enough, and is copied once."""
    components = read.head(part, _HEADED)
    data = components.pop()
    encoding = (read.plain(components.pop()) or "").lower() if components else ""
    subtype = (read.plain(components.pop()) or "") if components else ""
    main = (read.plain(components.pop()) or "") if components else ""
    file = _file(read, data, encoding, _content_type(main.lower(), subtype.lower()))
    return Value(None, "attachment", files=(file,)) if file else NOTHING


def _file(read: Reader, data: str, encoding: str, content_type: str | None) -> Attachment | None:
    text = read.plain(data)
    if text is None:
        return None
    sniffed = _sniffed(text)
    if encoding in ("base64", "b64") or (sniffed and encoding != "hex"):
        if "\n" in text or " " in text:
            text = "".join(text.split())
        size = len(text) * 3 // 4 - text.count("=", -2)
        return Attachment(content_type=content_type or sniffed, encoding="base64", data=text, size=size)
    if encoding == "hex":
        return _from_hex(text, content_type)
    return Attachment(content_type=content_type, data=formatted(read, data))


def _from_hex(text: str, content_type: str | None) -> Attachment:
    try:
        data = bytes.fromhex(text)
        encoded = b2a_base64(data, newline=False).decode("ascii")
    except (ValueError, Error):
        return Attachment(content_type=content_type, data=text)
    return Attachment(content_type=content_type, encoding="base64", data=encoded, size=len(data))


def _sniffed(data: str) -> str | None:
    return next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), None)


def _content_type(main: str, subtype: str) -> str | None:
    if "/" in subtype:
        return subtype
    found = _CONTENT_TYPES.get(subtype) or (_CONTENT_TYPES.get(main) if not subtype else None)
    if found:
        return found
    main = _MAIN_TYPES.get(main, main)
    if subtype:
        return f"{main}/{subtype}" if main else None
    return "text/plain" if main == _TEXT else None


def _pointer(read: Reader, part: str) -> Value:
    """Read RP (pointer^application^type^subtype)."""
    pointer, _, main, subtype = [read.plain(component) for component in read.split(part, 4)]
    if pointer is None:
        return NOTHING
    kind = _content_type((main or "").lower(), (subtype or "").lower())
    return Value(pointer, "attachment", files=(Attachment(content_type=kind, url=pointer),))


_READINGS: Final[dict[str, _Read]] = {
    **dict.fromkeys(("ST", "TX"), _plain),
    "FT": _formatted,
    "NM": _numeric,
    "SI": _numeric,
    "SN": _structured,
    **dict.fromkeys(("CE", "CWE", "CNE", "CF", "ID", "IS"), _coded),
    "DT": _date,
    **dict.fromkeys(("TS", "DTM"), _moment),
    "TM": _clock,
    "DR": _period,
    "CQ": _measured,
    "ED": _encapsulated,
    "RP": _pointer,
    **dict.fromkeys(("XTN", "TN"), _reached),
    **dict.fromkeys(("CX", "EI", "CK"), _numbered),
}
