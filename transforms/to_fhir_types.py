"""This module writes the small values of the canonical model as FHIR R4 data types (Identifier, HumanName, Quantity …).

What is not said is None or empty here; `tidied` takes it out of a finished resource, once and for all.
"""

import base64
import binascii
import re
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.canonical.model import Address, Attachment, Concept, Identifier, Location, Name, Telecom
from broker.canonical.systems import TABLES, UCUM, code_system_uri, identifier_uri

Json = dict[str, Any]

# Written in so many laboratories exactly as UCUM has them that nothing else can be meant.
_UNITS: Final = (
    "% /uL /[HPF] /[LPF] 10*3/uL 10*6/uL 10*9/L 10*12/L Cel [degF] U/L [IU]/L [IU]/mL m[IU]/L cm kg g mg ug ng fL pg "
    "g/dL g/L mg/dL mg/L mg/g ug/dL ug/L ug/mL ng/dL ng/L ng/mL pg/mL mmol/L umol/L nmol/L pmol/L meq/L mL L dL uL "
    "mL/min mmol/mol mm[Hg] mm/h kg/m2 m2 min h s d wk mo a [lb_av] [in_i] [oz_av] mosm/kg {ratio} {INR} 1"
)
_UCUM: Final = frozenset(_UNITS.split())
_NUMBER: Final = re.compile(r"[+-]?\d{1,17}(?:\.\d{1,17})?\Z", re.ASCII)
_ALLOWED: Final = "\t\r\n"  # the control characters that a FHIR string may hold
_TELECOM_SYSTEMS: Final = frozenset({"phone", "fax", "email", "pager", "url", "sms", "other"})
_TELECOM_USES: Final = frozenset({"home", "work", "temp", "old", "mobile"})
_NAME_USES: Final = frozenset({"usual", "official", "temp", "nickname", "anonymous", "old", "maiden"})
_ADDRESS_USES: Final = frozenset({"home", "work", "temp", "old", "billing"})
_SEXES: Final = frozenset({"male", "female", "other", "unknown"})
_WHOLE_BEFORE_OFFSET: Final = 19  # characters of YYYY-MM-DDTHH:MM:SS
_TYPE_CODE: Final = re.compile(r"[A-Z0-9]{1,8}\Z", re.ASCII)
UNKNOWN: Final[Json] = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]
}
ABSENT: Final[Json] = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
}


def tidied(value: Any) -> Any:
    """Return a value without what is None or empty, and without characters that FHIR forbids; None for nothing left."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is dict:
        return _dict(value)
    if kind is list:
        return [tidy for part in value if (tidy := tidied(part)) is not None] or None
    return value


def _dict(value: Json) -> Json | None:
    kept = {}
    for name, part in value.items():
        kind = type(part)  # texts and dictionaries are nearly all that there is
        tidy = _text(part) if kind is str else part if part is None else _dict(part) if kind is dict else tidied(part)
        if tidy is not None:
            kept[name] = tidy
    return kept or None


def _text(value: str) -> str | None:
    return (value if value.isprintable() else _printable(value)).strip() or None


def _printable(text: str) -> str:
    return "".join(
        letter for letter in text if (letter >= " " or letter in _ALLOWED) and not "\ud800" <= letter <= "\udfff"
    )


def identifier(given: Identifier, use: str | None = None) -> Json:
    """Return an Identifier; a type that is no code of HL7 table 0203 is text."""
    kind, system, value = given.type, given.system, given.value
    return {
        "use": use,
        "type": (table_code("0203", kind) if _TYPE_CODE.match(kind) else {"text": kind}) if kind else None,
        "system": identifier_uri(system, kind, value),
        "value": value,
    }


def identifiers(*given: Identifier | None) -> list[Json]:
    """Return those that are there, each once."""
    return [identifier(each) for each in dict.fromkeys(given) if each is not None]


def table_code(table: str, code: str | None) -> Json | None:
    """Return a code of an HL7 v2 table as CodeableConcept."""
    return {"coding": [{"system": TABLES + table, "code": " ".join(code.split())}]} if code else None


def fhir_code(system: str, code: str | None) -> Json | None:
    """Return a code of one of FHIR's own code systems as CodeableConcept."""
    if not code:
        return None
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": " ".join(code.split())}]}


def concept(given: Concept | None) -> Json | None:
    """Return a CodeableConcept, or None where it says nothing."""
    if given is None or not (given.code or given.text or given.alternates):
        return None
    codings = []
    if given.code:
        codings.append(coding(given.code, given.system, given.display))
    codings += [coding(other.code, other.system, other.display) for other in given.alternates if other.code]
    return {"coding": codings, "text": given.text}


def coding(code: str, system: str, display: str | None) -> Json:
    """Return a Coding."""
    return {"system": code_system_uri(system), "code": " ".join(code.split()), "display": display}


def words(text: str | None) -> Json | None:
    """Return a CodeableConcept that is text alone."""
    return {"text": text} if text else None


def name(given: Name) -> Json:
    """Return a HumanName."""
    return {
        "use": given.use if given.use in _NAME_USES else None,
        "family": given.family,
        "given": list(given.given),
        "prefix": [given.prefix] if given.prefix else None,
        "suffix": [given.suffix] if given.suffix else None,
    }


def telecom(given: Telecom) -> Json:
    """Return a ContactPoint."""
    return {
        "system": given.system if given.system in _TELECOM_SYSTEMS else "other",
        "value": given.value,
        "use": given.use if given.use in _TELECOM_USES else None,
    }


def address(given: Address) -> Json:
    """Return an Address."""
    return {
        "use": given.use if given.use in _ADDRESS_USES else None,
        "line": list(given.lines),
        "city": given.city,
        "district": given.district,
        "state": given.state,
        "postalCode": given.postal_code,
        "country": given.country,
    }


def sex(given: str | None) -> str | None:
    """Return a code of AdministrativeGender."""
    return given if given is None or given in _SEXES else "unknown"


def chosen(given: str | None, allowed: frozenset[str], otherwise: str | None) -> str | None:
    """Return a code that its value set has, else another; for elements that must have one."""
    return given if given in allowed else otherwise


def place(given: Location) -> str:
    """Return a place as people write it."""
    bed = "-".join(part for part in (given.room, given.bed) if part)
    return ", ".join(part for part in (" ".join(filter(None, (given.point_of_care, bed))), given.building) if part) or (
        given.facility or ""
    )


def number(text: str | None) -> Decimal | None:
    """Return a decimal with the digits that it was sent with, or None where the text is none."""
    text = (text or "").strip()
    return Decimal(text) if _NUMBER.match(text) else None


def quantity(value: str | None, unit: str | None, comparator: str | None = None) -> Json | None:
    """Return a Quantity, or None where the value is no number."""
    found = number(value)
    if found is None:
        return None
    known = unit in _UCUM
    return {
        "value": found,
        "comparator": comparator if comparator in {"<", "<=", ">=", ">"} else None,
        "unit": unit,
        "system": UCUM if known else None,
        "code": unit if known else None,
    }


def notes(given: tuple[str, ...]) -> list[Json]:
    """Return Annotations."""
    return [{"text": text} for text in given]


def attachment(given: Attachment) -> Json:
    """Return an Attachment; text goes as base64 of UTF-8, because FHIR has no other way."""
    data, kind = given.data, given.content_type
    if data:
        encoded = "".join(data.split()) if given.encoding == "base64" else ""
        if not encoded or not _is_base64(encoded):
            encoded, kind = base64.b64encode(data.encode("utf-8", "replace")).decode("ascii"), kind or "text/plain"
        data, kind = encoded, kind or "application/octet-stream"
    return {"contentType": kind, "data": data, "url": given.url, "size": given.size, "title": given.title}


def _is_base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    return True


@lru_cache(maxsize=8192)
def moment(text: str | None, zone: str | None) -> str | None:
    """Return a dateTime as FHIR allows it: with an offset, or without hours.

    A time that came without an offset takes that of ``zone`` (an IANA name); without a zone only its day is certain.
    """
    if text is None or len(text) < _WHOLE_BEFORE_OFFSET or _has_offset(text):
        return text or None
    return _in_zone(text, zone) if zone else text[:10]


@lru_cache(maxsize=8192)
def instant(text: str | None, zone: str | None) -> str | None:
    """Return an instant, or None where hours or offset are not known."""
    found = moment(text, zone)
    return found if found and len(found) >= _WHOLE_BEFORE_OFFSET else None


def _has_offset(text: str) -> bool:
    return text.endswith("Z") or text[-6] in "+-"


def _in_zone(text: str, zone: str) -> str:

    try:
        found = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).isoformat()
    except ValueError:
        return text[:10]
    return found if found[-6] in "+-" else text[:10]  # before there was standard time, offsets had seconds
