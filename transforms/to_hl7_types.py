r"""This module writes the values of the canonical model as HL7 v2 data types (CX, XPN, XTN, CWE …), escaped.

The separators are the usual ones, ``|^~\&``: no receiver has to be told.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from broker.canonical.model import (
    Address,
    Concept,
    Identifier,
    Location,
    Name,
    Organization,
    Practitioner,
    Telecom,
)
from broker.canonical.systems import code_system_name
from broker.wire.escape import escape
from broker.wire.header import Separators

SEPARATORS: Final = Separators()
NULL: Final = '""'  # HL7's explicit null: empty this

# FHIR -> HL7 tables 0001, 0200, 0190.
SEXES: Final = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_NAME_USES: Final = {
    "official": "L", "usual": "D", "maiden": "M", "nickname": "N", "anonymous": "S", "temp": "TEMP", "old": "BAD",
}  # fmt: skip
_ADDRESS_USES: Final = {"home": "H", "work": "B", "temp": "C", "old": "BA", "billing": "BI"}
# FHIR ContactPoint's use and system -> HL7 tables 0201 and 0202.
_TELECOM_USES: Final = {"home": "PRN", "work": "WPN", "mobile": "PRN", "temp": "VHN"}
_EQUIPMENT: Final = {"phone": "PH", "fax": "FX", "pager": "BP", "other": "MD", "sms": "CP", "url": "Internet"}

_OID: Final = "urn:oid:"
_UUID: Final = "urn:uuid:"
_SPECIAL: Final = re.compile(r"[|^~\\&\x00-\x1f\x7f]")
_DIGITS: Final = re.compile(r"[-:T]")
_OFFSET: Final = re.compile(r"(?:Z|[+-]\d\d:\d\d)\Z", re.ASCII)


def text(value: str | None) -> str:
    """Return a value, escaped; nothing for None."""
    if not value:
        return ""
    return escape(value) if _SPECIAL.search(value) else value


def joined(*components: str) -> str:
    """Return components as a field, without empty ones at the end."""
    return "^".join(components).rstrip("^")


def repeated(values: Iterable[str]) -> str:
    """Return the repetitions of a field; empty ones are left out."""
    return "~".join(filter(None, values))


def flag(value: bool | None) -> str:  # noqa: FBT001 - it is the value
    """Return a code of HL7 table 0136."""
    return "" if value is None else "Y" if value else "N"


@lru_cache(maxsize=8192)
def stamp(value: str | None) -> str:
    """Return a FHIR date, dateTime or instant as HL7 writes it (DT, TS), with its offset where it has one."""
    if not value:
        return ""
    found = _OFFSET.search(value) if "T" in value else None
    if found is None:
        return text(_DIGITS.sub("", value)[:_LONGEST])
    offset = "+0000" if found[0] == "Z" else found[0].replace(":", "")
    return text(_DIGITS.sub("", value[: found.start()])[:_LONGEST]) + offset


_LONGEST: Final = 19  # YYYYMMDDHHMMSS.SSSS


@lru_cache(maxsize=4096)
def authority(system: str, separator: str = "&") -> str:
    """Return an assigning authority as HD: namespace, or universal id and its type; components have ``separator``."""
    if system.startswith(_OID):
        return f"{separator}{text(system.removeprefix(_OID))}{separator}ISO"
    if system.startswith(_UUID):
        return f"{separator}{text(system.removeprefix(_UUID))}{separator}UUID"
    if "://" in system:
        return f"{separator}{text(system)}{separator}URI"
    return text(system)


def identifier(given: Identifier | None) -> str:
    """Return a CX."""
    if given is None:
        return ""
    if not (given.system or given.type):
        return text(given.value)
    return joined(text(given.value), "", "", authority(given.system), text(given.type))


def entity(given: Identifier | None) -> str:
    """Return an EI."""
    return joined(text(given.value), authority(given.system, "^")) if given is not None else ""


def name(given: Name) -> str:
    """Return an XPN; it has one place for all further given names."""
    first, rest = (given.given[0], " ".join(given.given[1:])) if given.given else ("", "")
    use = _NAME_USES.get(given.use or "", "")
    return joined(text(given.family), text(first), text(rest), text(given.suffix), text(given.prefix), "", use)


def telecom(given: Telecom) -> str:
    """Return an XTN."""
    use = _TELECOM_USES.get(given.use or "", "")
    if given.system == "email":
        return joined("", use or "NET", "Internet", text(given.value))
    equipment = "CP" if given.use == "mobile" else _EQUIPMENT.get(given.system, "PH")
    return joined(text(given.value), use, equipment)


def telecoms(given: Sequence[Telecom]) -> tuple[str, str]:
    """Return the fields for home and for business, such as PID-13 and PID-14."""
    home = repeated(telecom(each) for each in given if each.use != "work")
    return home, repeated(telecom(each) for each in given if each.use == "work")


def address(given: Address) -> str:
    """Return an XAD."""
    return joined(
        text(given.lines[0]) if given.lines else "",
        text(", ".join(given.lines[1:])),
        text(given.city),
        text(given.state),
        text(given.postal_code),
        text(given.country),
        _ADDRESS_USES.get(given.use or "", ""),
        "",
        text(given.district),
    )


@lru_cache(maxsize=4096)
def practitioner(given: Practitioner | None) -> str:
    """Return an XCN."""
    if given is None:
        return ""
    number = given.identifier
    value, system, kind = (number.value, number.system, number.type) if number else ("", "", "")
    who = (text(value), text(given.family), text(given.given), "", text(given.suffix), text(given.prefix))
    return joined(*who, "", "", authority(system), "", "", "", text(kind))


def nested_practitioner(given: Practitioner | None) -> str:
    """Return a CNN, as it stands inside an NDL."""
    if given is None:
        return ""
    number = given.identifier
    parts = (number.value if number else "", given.family, given.given, "", given.suffix, given.prefix, "", "")
    return "&".join([*map(text, parts), authority(number.system) if number else ""]).rstrip("&")


@lru_cache(maxsize=4096)
def location(given: Location | None) -> str:
    """Return a PL."""
    if given is None:
        return ""
    place = (text(given.point_of_care), text(given.room), text(given.bed), text(given.facility))
    return joined(*place, "", "", text(given.building))


@lru_cache(maxsize=4096)
def concept(given: Concept | None) -> str:
    """Return a CWE; its first six components are a CE."""
    if given is None:
        return ""
    codes = [(given.code, given.display or given.text, given.system)]
    codes += [(other.code, other.display, other.system) for other in given.alternates]
    parts = [part for code in codes[:2] for part in _coding(*code)]
    third = _coding(*codes[2]) if len(codes) > 2 else ("", "", "")  # noqa: PLR2004 - CWE.10 to 12
    original = text(given.text) if given.display and given.text != given.display else ""
    if original or any(third):
        parts += [""] * (8 - len(parts)) + [original, *third]
    return joined(*parts)


def _coding(code: str | None, display: str | None, system: str) -> tuple[str, str, str]:
    return text(code), text(display), text(code_system_name(system)) if ":" in system else text(system)


def code(given: Concept | None) -> str:
    """Return what fits into an IS or ID: the code, else the text."""
    return text(given.code or given.text) if given is not None else ""


def organization(given: Organization | None) -> str:
    """Return an XON; the number stands in the place that it has since 2.5, component 10."""
    if given is None:
        return ""
    number = given.identifier
    if number is None:
        return text(given.name)
    kind = text(number.type)
    return joined(text(given.name), "", "", "", "", authority(number.system), kind, "", "", text(number.value))


def row(segment: str, fields: dict[int, str]) -> str:
    """Return a segment of its fields by number, without empty ones at the end."""
    parts = [""] * (max(fields) + 1)
    parts[0] = segment
    for number, value in fields.items():
        parts[number] = value
    return "|".join(parts).rstrip("|")
