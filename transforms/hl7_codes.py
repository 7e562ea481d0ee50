"""This module reads HL7 v2 data types of clinical messages (CWE, EI, XON, CQ, NM, FT …) into the canonical model.

Like `Reader`, it splits a field once. What is no value of its type is None, so that one bad field costs itself alone.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from broker.canonical.model import Coding, Concept, Identifier, Organization, Practitioner
from transforms.hl7_types import Reader
from transforms.scope import NULL
from transforms.times import fhir_date

T = TypeVar("T")

_CACHED: Final = 200  # characters of a code that is worth keeping; what is longer is somebody's prose
_COMPONENTS: Final = 22  # of a CWE in 2.7 and later
_PER_CODING: Final = 3  # code, text, system
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
# Formatting and highlighting; what else can be escaped is recognised in order to be left alone.
_COMMAND: Final = (
    r"{0}(?:\.(sp|ce|br|in|ti|sk|fi|nf)([+-]?\d{{0,4}})|([HN])|[FSTREP]|X[0-9A-Fa-f]+|[CM][0-9A-Fa-f]+|Z[^{0}]*){0}"
)
_EXACT: Final = 2**53  # where float begins to round
_MOST_LINES: Final = 20  # that one formatting command may ask for


def kept_fields(function: Callable[[Reader, str], T], count: int) -> Callable[[Reader, str], T]:
    """Return a function that keeps its last ``count`` answers, except to fields that are long."""
    cached = lru_cache(maxsize=count)(function)

    def read_kept(read: Reader, field: str) -> T:
        return cached(read, field) if len(field) <= _CACHED else function(read, field)

    return read_kept


def concept(read: Reader, repetition: str) -> Concept | None:
    """Return a CE, CWE or CNE, or None when it says nothing.

    ``text`` is what the sender's people saw (CWE.9), else the name of the code. Where the first code is missing, the
    first alternate takes its place.
    """
    if not repetition or repetition == NULL:
        return None
    return _kept_concept(read, repetition)


def _concept(read: Reader, repetition: str) -> Concept | None:
    if not read.divides(repetition):
        code = read.plain(repetition)
        return Concept(code=code) if code else None
    parts = [read.plain(part) for part in read.split(repetition, _COMPONENTS)]
    original = parts[8]
    codings = [coding for coding in _codings(parts) if coding.code or coding.display]
    if not codings:
        return Concept(text=original) if original else None
    first = next((coding for coding in codings if coding.code), codings[0])
    named = first.display or next((coding.display for coding in codings if coding.display), None)
    return Concept(
        code=first.code or None,
        system=first.system,
        text=original or named,
        alternates=tuple(coding for coding in codings if coding is not first and coding.code),
        display=first.display if original and first.display != original else None,
    )


_kept_concept: Final = kept_fields(_concept, 8192)


def _codings(parts: list[str | None]) -> list[Coding]:
    """Return the three codings of a CWE; a system that is named by its OID alone (CWE.14, 17, 20) is ``urn:oid:…``."""
    codings = []
    for begin, oid in ((0, 13), (3, 16), (9, 19)):
        code, display, system = parts[begin : begin + _PER_CODING]
        if system is None and parts[oid]:
            system = f"urn:oid:{parts[oid]}"
        codings.append(Coding(code=code or "", system=system or "", display=display))
    return codings


def first_concept(read: Reader, field: str) -> Concept | None:
    """Return the first repetition of a field that says something."""
    if not field:
        return None
    return next((found for part in read.repetitions(field) if (found := concept(read, part))), None)


def concepts(read: Reader, field: str) -> tuple[Concept, ...]:
    """Return every repetition of a field that says something."""
    return tuple([found for part in read.repetitions(field) if (found := concept(read, part))])


def entity(read: Reader, field: str) -> Identifier | None:
    """Return the first EI of a field (id^namespace^universal id^type), or None when it has no id."""
    if not field:
        return None
    repetitions = read.repetitions(field)
    return _entity(read, repetitions[0]) if repetitions else None


def nested_entity(read: Reader, component: str) -> Identifier | None:
    """Return an EI that is written as one component: ``id&namespace&universal id&type``."""
    return _entity(read, read.raised(component)) if component else None


def _entity(read: Reader, repetition: str) -> Identifier | None:
    value, namespace, universal, kind = [read.plain(part) for part in read.split(repetition, 4)]
    if value is None:
        return None
    if universal and kind == "ISO":
        return Identifier(value=value, system=f"urn:oid:{universal}")
    if universal and kind == "UUID":
        return Identifier(value=value, system=f"urn:uuid:{universal.lower()}")
    return Identifier(value=value, system=namespace or universal or "")


def organization(read: Reader, field: str) -> Organization | None:
    """Return the first XON of a field (name^type^number^^^authority^type^^^id), or None when it names nobody."""
    repetitions = read.repetitions(field)
    if not repetitions:
        return None
    parts = read.split(repetitions[0], 10)
    name, value = read.plain(parts[0]), read.plain(parts[9]) or read.plain(parts[2])
    if not (name or value):
        return None
    identifier = None
    if value:
        identifier = Identifier(value=value, system=read.authority(parts[5]), type=read.plain(parts[6]) or "")
    return Organization(name=name, identifier=identifier)


def coded_organization(read: Reader, field: str) -> Organization | None:
    """Return an organization that is sent as a code (CE): a manufacturer of vaccines, of table 0227."""
    found = first_concept(read, field)
    if found is None:
        return None
    identifier = Identifier(value=found.code, system=found.system) if found.code else None
    return Organization(name=found.text, identifier=identifier)


def nested_practitioner(read: Reader, field: str) -> Practitioner | None:
    """Return somebody from an NDL (id&family&given^start^end …), or from an XCN, which senders write there as well."""
    if not field:
        return None
    repetitions = read.repetitions(field)
    if not repetitions:
        return None
    name = read.split(repetitions[0], 1)[0]
    raised = read.raised(name)
    return read.practitioner(repetitions[0] if raised == name else raised)


def number(text: str | None) -> str | None:
    """Return a number as sent, or None when the text is none (HL7's NM; an exponent is taken as well)."""
    text = text.strip() if text else ""
    return text if _NUMBER.match(text) else None


def whole(text: str | None) -> int | None:
    """Return a whole number, or None when the text is none."""
    text = number(text)
    if text is None:
        return None
    value = float(text)  # "2.0" is whole as well
    return int(value) if value.is_integer() and abs(value) < _EXACT else None


def quantity(read: Reader, field: str) -> tuple[str | None, str | None]:
    """Return amount and unit of the first CQ of a field (amount^unit, the unit a code or code&text&system)."""
    repetitions = read.repetitions(field)
    if not repetitions:
        return None, None
    amount, unit = read.split(repetitions[0], 2)
    return number(read.text(amount)), unit_of(read, read.raised(unit))


def unit_of(read: Reader, field: str) -> str | None:
    """Return a unit (CE, CWE): its code, else its text; a number without a system is no unit that anybody can read."""
    found = first_concept(read, field)
    if found is None:
        return None
    if found.code and found.text and not found.system and found.code.isdecimal():
        return found.text
    return found.code or found.text


def day_of(read: Reader, field: str) -> str | None:
    """Return a field (DT, TS, DTM) as FHIR date, or None when it holds none."""
    value = read.first(field)
    return fhir_date(value) if value else None


def formatted(read: Reader, repetition: str) -> str | None:
    r"""Return an FT as text: line breaks where its commands (``\.br\``, ``\.sp2\``, ``\.ce\``) ask for them.

    Indents and highlighting have no place in plain text and are left out; other sequences are resolved as elsewhere.
    """
    escape = read.escape
    return read.plain(_commands(escape).sub(_layout, repetition) if escape in repetition else repetition)


@lru_cache(maxsize=64)
def _commands(escape: str) -> re.Pattern[str]:
    return re.compile(_COMMAND.format(re.escape(escape)))


def _layout(found: re.Match[str]) -> str:
    """Return what a sequence leaves behind in plain text."""
    name, digits, highlight = found.groups()
    if name in ("br", "ce"):
        return "\n"
    if name == "sp":
        return "\n" * min(abs(int(digits or 1)), _MOST_LINES)
    if name == "sk":
        return " "
    return "" if name or highlight else found[0]
