"""This module reads the data types of CDA R2 (II, CD, PN, TEL, AD, IVL_TS, PQ …) into the canonical model."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final
from xml.etree.ElementTree import Element

from broker.canonical.model import Address, Coding, Concept, Identifier, Name, Organization, Practitioner, Telecom
from transforms.times import fhir_date, fhir_datetime

_NAMESPACES: Final = {"": "{urn:hl7-org:v3}", "sdtc": "{urn:hl7-org:sdtc}"}
_XSI_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_TYPES: Final = {"2.16.840.1.113883.4.1": "SS", "2.16.840.1.113883.4.6": "NPI"}
_LICENCES: Final = "2.16.840.1.113883.4.3"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BLANKS: Final = re.compile(r"\s+")
_LONGEST: Final = 2000  # characters that are taken over out of a narrative

_NAME_USES: Final = {"L": "official", "C": "official", "P": "nickname", "A": "anonymous", "I": "official"}
_PLACE_USES: Final = {"H": "home", "HP": "home", "HV": "home", "WP": "work", "TMP": "temp", "BAD": "old"}
_CALL_USES: Final = {"H": "home", "HP": "home", "HV": "home", "WP": "work", "MC": "mobile", "BAD": "old"}
_SCHEMES: Final = {"tel": "phone", "mailto": "email", "fax": "fax", "http": "url", "https": "url", "sms": "sms"}


@cache  # the paths are those of this program
def _whole(path: str) -> str:
    """Return a path with namespaces written out, which is looked up in half the time."""
    parts = []
    for part in path.split("/"):
        prefix, colon, name = part.rpartition(":")
        parts.append(f"{_NAMESPACES[prefix if colon else '']}{name}" if part else part)
    return "/".join(parts)


def find(parent: Element | None, path: str) -> Element | None:
    """Return the first element at a path in CDA's namespace, unless it says that nothing is known."""
    if parent is None:
        return None
    found = parent.find(_whole(path))
    return None if found is None or (found.get("nullFlavor") and not len(found)) else found


def each(parent: Element | None, path: str) -> list[Element]:
    """Return every element at a path in CDA's namespace."""
    return [] if parent is None else parent.findall(_whole(path))


def attribute(element: Element | None, name: str) -> str | None:
    """Return an attribute, trimmed; nothing where it is blank."""
    value = element.get(name) if element is not None else None
    return value.strip() or None if value else None


def words(element: Element | None) -> str | None:
    """Return all text in an element, blanks made single."""
    if element is None:
        return None
    return _BLANKS.sub(" ", "".join(element.itertext())).strip()[:_LONGEST] or None


def system_of(root: str | None) -> str:
    """Return an OID or UUID as a URI."""
    if not root:
        return ""
    return f"urn:uuid:{root.lower()}" if _UUID.fullmatch(root) else f"urn:oid:{root}"


def identifier(element: Element | None) -> Identifier | None:
    """Return an II: what is extended, by whose root; a root alone names the thing itself."""
    root, extension = attribute(element, "root"), attribute(element, "extension")
    if element is None or element.get("nullFlavor") or not (root or extension):
        return None
    if extension is None:
        return Identifier(value=system_of(root), system="urn:ietf:rfc:3986")
    kind = _TYPES.get(root or "") or ("DL" if root and root.startswith(f"{_LICENCES}.") else "")
    system = system_of(root) or attribute(element, "assigningAuthorityName") or ""
    return Identifier(value=extension, system=system, type=kind)


def identifiers(parent: Element | None) -> tuple[Identifier, ...]:
    """Return the identifiers of something."""
    return tuple([found for item in each(parent, "id") if (found := identifier(item))])


def first_identifier(parent: Element | None) -> Identifier | None:
    """Return the first identifier of something."""
    return next(iter(identifiers(parent)), None)


def concept(element: Element | None, narrative: "Narrative | None" = None) -> Concept | None:
    """Return a CD; where it has no name of its own, what the narrative says at the place that it points to."""
    if element is None:
        return None
    codings = [found for item in (element, *each(element, "translation")) if (found := _coding(item))]
    said = attribute(element, "displayName") or _original(element, narrative)
    said = said or next((coding.display for coding in codings if coding.display), None)
    if not codings:
        return Concept(text=said) if said else None
    return Concept(code=codings[0].code, system=codings[0].system, text=said, alternates=tuple(codings[1:]))


def _coding(element: Element) -> Coding | None:
    code = attribute(element, "code")
    system = system_of(attribute(element, "codeSystem"))
    return Coding(code=code, system=system, display=attribute(element, "displayName")) if code else None


def _original(element: Element, narrative: "Narrative | None") -> str | None:
    original = find(element, "originalText")
    if original is None:
        return None
    return words(original) or (narrative.at(attribute(find(original, "reference"), "value")) if narrative else None)


class Narrative:
    """What is written in a section, by the ids that its entries point to."""

    def __init__(self, section: Element) -> None:
        self._text = section.find(_whole("text"))
        self._by_id: dict[str, Element] | None = None

    def at(self, reference: str | None) -> str | None:
        """Return the words at ``#id``."""
        if reference is None or self._text is None:
            return None
        if self._by_id is None:
            self._by_id = {name: item for item in self._text.iter() if (name := item.get("ID") or item.get("id"))}
        return words(self._by_id.get(reference.removeprefix("#")))

    def of(self, element: Element | None) -> str | None:
        """Return the words of an entry's ``text``: its own, or those that it points to."""
        text = find(element, "text")
        return self.at(attribute(find(text, "reference"), "value")) or words(text)


def moment(element: Element | None) -> str | None:
    """Return a TS, or the begin of an IVL_TS, as FHIR dateTime."""
    return time(element) or time(find(element, "low")) or time(find(element, "center"))


def time(element: Element | None) -> str | None:
    """Return a TS as FHIR dateTime."""
    value = attribute(element, "value")
    return fhir_datetime(value) if value else None


def ending(element: Element | None) -> str | None:
    """Return the end of an IVL_TS as FHIR dateTime."""
    return time(find(element, "high"))


def day(element: Element | None) -> str | None:
    """Return a TS as FHIR date."""
    value = attribute(element, "value")
    return fhir_date(value) if value else None


def name(element: Element | None) -> Name | None:
    """Return a PN; where it has no parts, its text is the family name."""
    if element is None or element.get("nullFlavor"):
        return None
    family, given = _joined(each(element, "family")), _all(each(element, "given"))
    if family is None and not given:
        family = words(element)
    if family is None and not given:
        return None
    return Name(
        family=family,
        given=given,
        prefix=_joined(each(element, "prefix")),
        suffix=_joined(each(element, "suffix")),
        use=_use(element, _NAME_USES),
    )


def _use(element: Element, uses: dict[str, str]) -> str | None:
    return next((uses[part] for part in (element.get("use") or "").split() if part in uses), None)


def _all(elements: Iterable[Element]) -> tuple[str, ...]:
    return tuple([found for element in elements if (found := words(element))])


def _joined(elements: Iterable[Element]) -> str | None:
    return " ".join(_all(elements)) or None


def names(parent: Element | None) -> tuple[Name, ...]:
    """Return the names of a person."""
    return tuple([found for item in each(parent, "name") if (found := name(item))])


def telecom(parent: Element | None) -> tuple[Telecom, ...]:
    """Return the ways to reach a person."""
    found = []
    for item in each(parent, "telecom"):
        if value := attribute(item, "value"):
            scheme, colon, rest = value.partition(":")
            system = _SCHEMES.get(scheme.lower(), "") if colon else ""
            bare = rest if system and system != "url" else value
            if bare.strip():
                point = Telecom(value=bare.strip(), system=system or "phone", use=_use(item, _CALL_USES))
                found.append(point)
    return tuple(found)


def addresses(parent: Element | None) -> tuple[Address, ...]:
    """Return the addresses of a person or place."""
    found = []
    for item in each(parent, "addr"):
        parts = {part: _joined(each(item, part)) for part in ("city", "county", "state", "postalCode", "country")}
        lines = _all(each(item, "streetAddressLine"))
        if not item.get("nullFlavor") and (lines or any(parts.values())):
            place = Address(
                lines=lines,
                city=parts["city"],
                district=parts["county"],
                state=parts["state"],
                postal_code=parts["postalCode"],
                country=parts["country"],
                use=_use(item, _PLACE_USES),
            )
            found.append(place)
    return tuple(found)


def practitioner(entity: Element | None) -> Practitioner | None:
    """Return an assignedAuthor or assignedEntity."""
    if entity is None:
        return None
    known = identifiers(entity)
    called = next(iter(names(find(entity, "assignedPerson"))), None)
    if called is None and not known:
        return None
    return Practitioner(
        identifier=next((item for item in known if item.type == "NPI"), known[0] if known else None),
        family=called.family if called else None,
        given=called.given[0] if called and called.given else None,
        identifiers=known,
        prefix=called.prefix if called else None,
        suffix=called.suffix if called else None,
        specialty=concept(find(entity, "code")),
        telecom=telecom(entity),
        addresses=addresses(entity),
    )


def organization(element: Element | None) -> Organization | None:
    """Return an organization."""
    called, known = words(find(element, "name")), first_identifier(element)
    return Organization(name=called, identifier=known) if called or known else None


def quantity(element: Element | None) -> tuple[str | None, str | None]:
    """Return number and unit of a PQ; its unit ``1`` means none."""
    unit = attribute(element, "unit")
    return attribute(element, "value"), unit if unit != "1" else None


def span(element: Element | None) -> tuple[str | None, str | None]:
    """Return an IVL_PQ as text with its unit: ``3.5-5.1``, ``>= 3.5``, ``<= 5.1``."""
    (low, unit), (high, other) = quantity(find(element, "low")), quantity(find(element, "high"))
    if low and high:
        return f"{low}-{high}", unit or other
    return (f">= {low}" if low else f"<= {high}" if high else None), unit or other


def type_of(element: Element) -> str:
    """Return the declared data type of a value, without its namespace's prefix."""
    return (element.get(_XSI_TYPE) or "").rpartition(":")[2]
