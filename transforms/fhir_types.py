"""This module reads FHIR R4 data types (HumanName, CodeableConcept, Quantity …) into the canonical model.

Whatever is missing, or of another type than it should be, is not said; a resource need not have been checked before.
"""

import re
from decimal import Decimal
from typing import Any, Final

from broker.canonical.model import Address, Attachment, Coding, Concept, Identifier, Name, Telecom

Node = dict[str, Any]

NOTHING: Final[Node] = {}
_TABLE_0203: Final = "v2-0203"
# Systems that say themselves what they name; without this a social security number might pass for a record's.
_TYPE_OF_SYSTEM: Final = {
    "http://hl7.org/fhir/sid/us-ssn": "SS",
    "urn:oid:2.16.840.1.113883.4.1": "SS",
    "http://hl7.org/fhir/sid/us-npi": "NPI",
    "urn:oid:2.16.840.1.113883.4.6": "NPI",
    "http://hl7.org/fhir/sid/us-mbi": "MC",
    "http://hl7.org/fhir/sid/us-medicare": "MC",
    "http://hl7.org/fhir/sid/us-medicaid": "MA",
}
_PASSPORT: Final = "http://hl7.org/fhir/sid/passport-"
_LICENCE: Final = re.compile(r"urn:oid:2\.16\.840\.1\.113883\.4\.3(\.\d+)?")


def text(node: Node, name: str) -> str | None:
    """Return an element that is a text, trimmed."""
    value = node.get(name)
    return value.strip() or None if type(value) is str else None


def node(parent: Node, name: str) -> Node:
    """Return an element that is an object, its first where it is a list; empty when there is none."""
    value = parent.get(name)
    if type(value) is list:
        value = value[0] if value else None
    return value if type(value) is dict else NOTHING


def nodes(parent: Node, name: str) -> list[Node]:
    """Return the objects of a list; an object alone is a list of one."""
    value = parent.get(name)
    if type(value) is dict:
        return [value]
    return [item for item in value if type(item) is dict] if type(value) is list else []


def texts(parent: Node, name: str) -> tuple[str, ...]:
    """Return the texts of a list, trimmed; a text alone is a list of one."""
    value = parent.get(name)
    items = value if type(value) is list else [value]
    return tuple([item.strip() for item in items if type(item) is str and item.strip()])


def flag(parent: Node, name: str) -> bool | None:
    """Return an element that is true or false."""
    value = parent.get(name)
    return value if type(value) is bool else None


def whole(parent: Node, name: str) -> int | None:
    """Return an element that is a whole number."""
    value = parent.get(name)
    return value if type(value) is int else None


def number(parent: Node, name: str) -> str | None:
    """Return an element that is a number as text, with the digits that were sent."""
    value = parent.get(name)
    return str(value) if type(value) in {int, Decimal, float} else None


def extension(parent: Node, url: str) -> Node:
    """Return the first extension whose URL ends in ``url``."""
    return next((item for item in nodes(parent, "extension") if str(item.get("url", "")).endswith(url)), NOTHING)


def concept(value: Node) -> Concept | None:
    """Return a CodeableConcept, or a Coding; the first coding with a code is the concept's own."""
    codings = nodes(value, "coding") or ([value] if "code" in value else [])
    found = [coding for item in codings if (coding := _coding(item))]
    words = text(value, "text") or next((text(item, "display") for item in codings if text(item, "display")), None)
    if not found:
        return Concept(text=words) if words else None
    return Concept(code=found[0].code, system=found[0].system, text=words, alternates=tuple(found[1:]))


def _coding(value: Node) -> Coding | None:
    found = text(value, "code")
    return Coding(code=found, system=text(value, "system") or "", display=text(value, "display")) if found else None


def concepts(parent: Node, name: str) -> tuple[Concept, ...]:
    """Return the CodeableConcepts of a list."""
    return tuple([found for item in nodes(parent, name) if (found := concept(item))])


def code(value: Node, system: str = "") -> str | None:
    """Return the code of a CodeableConcept: of a system that ends in ``system``, or the first."""
    for item in nodes(value, "coding"):
        found = text(item, "code")
        if found and str(item.get("system", "")).endswith(system):
            return found
    return None


def codes(parent: Node, name: str) -> list[str]:
    """Return every code in a list of CodeableConcepts."""
    found = [text(coding, "code") for item in nodes(parent, name) for coding in nodes(item, "coding")]
    return [each for each in found if each]


def worded(value: Concept | None) -> str | None:
    """Return a concept in words, or else its code."""
    return (value.text or value.code) if value else None


def identifier(value: Node) -> Identifier | None:
    """Return an Identifier, or None when it has no value."""
    found = text(value, "value")
    if found is None:
        return None
    system = text(value, "system") or ""
    kind = node(value, "type")
    given = code(kind, _TABLE_0203) or code(kind) or _type_of(system)
    authority = system or text(node(value, "assigner"), "display") or ""
    return Identifier(value=found, system=authority, type=given)


def identifiers(parent: Node) -> tuple[Identifier, ...]:
    """Return the identifiers of a resource, those in use first and the usual one before all."""
    ranked = sorted(nodes(parent, "identifier"), key=lambda item: _RANKS.get(str(item.get("use")), 1))
    return tuple([found for item in ranked if (found := identifier(item))])


_RANKS: Final = {"usual": 0, "old": 2}


def first_identifier(parent: Node, *types: str) -> Identifier | None:
    """Return the first identifier of one of these types (table 0203), or the first of all when none is asked for."""
    found = identifiers(parent)
    if not types:
        return found[0] if found else None
    return next((item for item in found if item.type in types), None)


def _type_of(system: str) -> str:
    if known := _TYPE_OF_SYSTEM.get(system):
        return known
    if system.startswith(_PASSPORT):
        return "PPN"
    return "DL" if _LICENCE.fullmatch(system) else ""


def name(value: Node) -> Name | None:
    """Return a HumanName; where it is given as one text only, that is the family name."""
    family, given = text(value, "family"), texts(value, "given")
    if family is None and not given:
        family = text(value, "text")
    if family is None and not given:
        return None
    return Name(
        family=family,
        given=given,
        prefix=" ".join(texts(value, "prefix")) or None,
        suffix=" ".join(texts(value, "suffix")) or None,
        use=text(value, "use"),
    )


_NAME_ORDER: Final = {"official": 0, "usual": 1, None: 2, "temp": 3}


def main_name(names: tuple[Name, ...]) -> Name | None:
    """Return the name that somebody goes by: the official one, else the usual one, else one that is no by-name."""
    return min(names, key=lambda item: _NAME_ORDER.get(item.use, 4)) if names else None


def names(parent: Node) -> tuple[Name, ...]:
    """Return the names of a person."""
    return tuple([found for item in nodes(parent, "name") if (found := name(item))])


def telecom(parent: Node) -> tuple[Telecom, ...]:
    """Return the ContactPoints of a person."""
    return tuple(
        [
            Telecom(value=value, system=text(item, "system") or "phone", use=text(item, "use"))
            for item in nodes(parent, "telecom")
            if (value := text(item, "value"))
        ]
    )


def addresses(parent: Node) -> tuple[Address, ...]:
    """Return the addresses of a person; one alone is a list of one."""
    return tuple([found for item in nodes(parent, "address") if (found := address(item))])


def address(value: Node) -> Address | None:
    """Return an Address; where it is given as one text only, that is its line."""
    lines = texts(value, "line")
    found = Address(
        lines=lines,
        city=text(value, "city"),
        district=text(value, "district"),
        state=text(value, "state"),
        postal_code=text(value, "postalCode"),
        country=text(value, "country"),
        use=text(value, "use"),
    )
    if lines or found.city or found.state or found.postal_code or found.country:
        return found
    words = text(value, "text")
    return Address(lines=(words,), use=found.use) if words else None


def attachment(value: Node) -> Attachment | None:
    """Return an Attachment, whose data is base64 as it was sent."""
    data, url, title = text(value, "data"), text(value, "url"), text(value, "title")
    if not data and not url and not title:
        return None
    return Attachment(
        content_type=text(value, "contentType"),
        encoding="base64" if data else None,
        data=data,
        url=url,
        title=title,
        size=whole(value, "size"),
    )


def attachments(parent: Node, name: str) -> tuple[Attachment, ...]:
    """Return the Attachments of a list."""
    return tuple([found for item in nodes(parent, name) if (found := attachment(item))])


def notes(parent: Node) -> tuple[str, ...]:
    """Return the texts of a resource's Annotations."""
    return tuple([found for item in nodes(parent, "note") if (found := text(item, "text"))])


def moment(parent: Node, stem: str) -> str | None:
    """Return when something was: the dateTime, instant or begin of the period of an element like ``effective[x]``."""
    period = node(parent, f"{stem}Period")
    return text(parent, f"{stem}DateTime") or text(parent, f"{stem}Instant") or text(period, "start")


def quantity(value: Node) -> tuple[str | None, str | None]:
    """Return number and unit of a Quantity."""
    return number(value, "value"), text(value, "unit") or text(value, "code")


def span(value: Node) -> str | None:
    """Return a Range as text: ``3.1-6.2``, ``>= 3.1``, ``<= 6.2``."""
    low, high = number(node(value, "low"), "value"), number(node(value, "high"), "value")
    if low and high:
        return f"{low}-{high}"
    return f">= {low}" if low else f"<= {high}" if high else None
