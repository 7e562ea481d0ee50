"""This module reads HL7 v2 data types (CX, XPN, XTN, XAD, XCN, PL, HD) out of fields, into the canonical model.

It works on whole fields and splits each of them once; looking up every component by location costs three times that.
Values are unescaped and trimmed; a component that is empty or explicit null is None.
"""

import re
from functools import lru_cache
from typing import Final

from broker.canonical.model import Address, Identifier, Location, Name, Practitioner, Telecom
from broker.wire.er7 import Message, Separators
from broker.wire.escape import unescape
from transforms.scope import NULL

_NOWHERE: Final = "\0"  # stands in for a separator that the message does not define
_NOTHING: Final[list[str | None]] = [None] * 16
_OID: Final = re.compile(r"[0-2](\.\d+)+\Z")

# HL7 table 0200 -> FHIR NameUse.
NAME_USES: Final = {
    "L": "official", "R": "official", "I": "official", "D": "usual", "M": "maiden", "N": "nickname",
    "S": "anonymous", "TEMP": "temp", "NAV": "temp", "BAD": "old", "NOUSE": "old",
}  # fmt: skip
# HL7 table 0190 -> FHIR AddressUse.
ADDRESS_USES: Final = {
    "H": "home", "P": "home", "B": "work", "O": "work", "C": "temp", "V": "temp", "BA": "old", "BI": "billing",
}  # fmt: skip
# HL7 table 0201 -> FHIR ContactPointUse.
TELECOM_USES: Final = {"PRN": "home", "VHN": "home", "WPN": "work", "PRS": "mobile"}
# HL7 table 0202 -> FHIR ContactPointSystem.
TELECOM_SYSTEMS: Final = {"FX": "fax", "BP": "pager", "MD": "other", "INTERNET": "email", "X.400": "email"}


class Reader:
    """Reads fields of one message: its separators and its character set."""

    __slots__ = ("_component", "_encoding", "_escape", "_repetition", "_separators", "_subcomponent")

    def __init__(self, separators: Separators, encoding: str) -> None:
        self._separators = separators
        self._encoding = encoding
        self._component = separators.component or _NOWHERE
        self._repetition = separators.repetition or _NOWHERE
        self._subcomponent = separators.subcomponent or _NOWHERE
        self._escape = separators.escape or _NOWHERE

    @property
    def escape(self) -> str:
        """The escape character, or one that no message has where this one defines none."""
        return self._escape

    def repetitions(self, field: str) -> list[str]:
        """Return the repetitions of a field, none for an empty field or explicit null."""
        if not field or field == NULL:
            return []
        return field.split(self._repetition)

    def text(self, part: str) -> str | None:
        """Return the value of a component, of its first subcomponent where it has several."""
        if not part:
            return None
        if self._subcomponent in part:
            part = part.partition(self._subcomponent)[0]
        if self._escape in part:
            part = unescape(part, self._separators, self._encoding)
        part = part.strip()
        return part if part and part != NULL else None

    def plain(self, part: str) -> str | None:
        """Return the value of a part that is not divided any further: ``&`` in it is a character like any other."""
        if self._escape in part:
            part = unescape(part, self._separators, self._encoding)
        part = part.strip()
        return part if part and part != NULL else None

    def split(self, repetition: str, count: int) -> list[str]:
        """Return the first ``count`` components as sent, empty where there are fewer."""
        return _padded(repetition.split(self._component, count), count)

    def head(self, repetition: str, count: int) -> list[str]:
        """Return up to ``count`` components as sent; the last one has all that follows."""
        return repetition.split(self._component, count - 1)

    def raised(self, component: str) -> str:
        """Return a component whose subcomponents are components of their own: a data type inside a data type."""
        return component.replace(self._subcomponent, self._component)

    def pieces(self, repetition: str) -> list[str]:
        """Return every component, and where it has subcomponents each of them, as sent."""
        return self.raised(repetition).split(self._component)

    def divides(self, part: str) -> bool:
        """Tell whether a part has components or subcomponents."""
        return self._component in part or self._subcomponent in part

    def first(self, field: str) -> str | None:
        """Return the value of a field's first component in its first repetition."""
        if not field:
            return None
        if self._repetition in field:
            field = field.partition(self._repetition)[0]
        if self._component in field:
            field = field.partition(self._component)[0]
        return self.text(field)

    def component(self, field: str, number: int) -> str | None:
        """Return the value of a component (from 1) in a field's first repetition."""
        return self.components(field.partition(self._repetition)[0], number)[number - 1]

    def components(self, repetition: str, count: int) -> list[str | None]:
        """Return the values of the first ``count`` components."""
        parts = repetition.split(self._component, count)
        # Most have nothing to resolve, and three looks at the whole cost less than three at each part.
        if self._subcomponent in repetition or self._escape in repetition or NULL in repetition:
            values = [self.text(part) for part in parts]
        else:
            values = [part.strip() or None for part in parts]
        missing = count - len(values)
        if missing > 0:
            return values + _NOTHING[:missing]
        return values if not missing else values[:count]

    @lru_cache(maxsize=1024)  # noqa: B019 - readers are few and live as long as the process
    def authority(self, part: str) -> str:
        """Return an HD (assigning authority) as a system: ``urn:oid:…``, ``urn:uuid:…``, else its namespace."""
        if self._subcomponent not in part:
            return self.text(part) or ""
        namespace, universal, kind = (self.text(value) for value in _padded(part.split(self._subcomponent), 3))
        if universal and kind == "ISO" and _OID.match(universal):
            return f"urn:oid:{universal}"
        if universal and kind == "UUID":
            return f"urn:uuid:{universal.lower()}"
        return namespace or universal or ""

    def identifier(self, repetition: str) -> Identifier | None:
        """Return a CX, or None when it has no id."""
        value, _, _, system, kind = self.components(repetition, 5)
        if value is None:
            return None
        if self._subcomponent in repetition:
            system = self.authority(_padded(repetition.split(self._component, 4), 4)[3])
        return Identifier(value=value, system=system or "", type=kind or "")

    def name(self, repetition: str) -> Name | None:
        """Return an XPN, or None when it names nobody."""
        family, given, middle, suffix, prefix, _, use = self.components(repetition, 7)
        if family is None and given is None:
            return None
        names = tuple([name for name in (given, middle) if name])
        return Name(family=family, given=names, prefix=prefix, suffix=suffix, use=NAME_USES.get(use) if use else None)

    def telecom(self, repetition: str, use: str) -> Telecom | None:
        """Return an XTN, or None when there is nothing to call; ``use`` is what it is for where it does not say."""
        parts = self.components(repetition, 12)
        number, code, equipment, address = parts[0], parts[1], (parts[2] or "").upper(), parts[3]
        system = "email" if code == "NET" else TELECOM_SYSTEMS.get(equipment, "phone")
        if system == "email" or (number and "@" in number):
            value = address or number
            return Telecom(value=value, system="email", use=TELECOM_USES.get(code or "")) if value else None
        value = number or parts[11] or _composed(*parts[4:7])
        if value is None:
            return None
        if equipment == "CP":
            return Telecom(value=value, use="mobile")
        return Telecom(value=value, system="pager" if code == "BPN" else system, use=TELECOM_USES.get(code or "", use))

    def address(self, repetition: str) -> Address | None:
        """Return an XAD, or None when it says nothing."""
        street, other, city, state, postal_code, country, use, _, district = self.components(repetition, 9)
        if self._subcomponent in repetition:
            street = self._street(repetition.partition(self._component)[0])
        if not (street or other or city or state or postal_code or country or district):
            return None
        return Address(
            lines=tuple(line for line in (street, other) if line) if other else (street,) if street else (),
            city=city,
            district=district,
            state=state,
            postal_code=postal_code,
            country=country,
            use=ADDRESS_USES.get(use) if use else None,
        )

    def _street(self, part: str) -> str | None:
        if self._subcomponent not in part:
            return self.text(part)
        # SAD: the whole line; senders also leave the name or the number of the street to the other two.
        line, name, number = (self.text(value) or "" for value in _padded(part.split(self._subcomponent), 3))
        rest = [value for value in (number, name) if value not in line]
        return " ".join(value for value in (line, *rest) if value) or None

    @lru_cache(maxsize=4096)  # noqa: B019 - as above
    def practitioner(self, field: str) -> Practitioner | None:
        """Return the first XCN of a field, or None when it names nobody."""
        repetition = field.partition(self._repetition)[0]
        parts = self.components(repetition, 13)
        number, family, given = parts[:3]
        if not (number or family or given):
            return None
        system = self.authority(_padded(repetition.split(self._component, 9), 9)[8])
        identifier = Identifier(value=number, system=system, type=parts[12] or "") if number else None
        return Practitioner(identifier=identifier, family=family, given=given)

    @lru_cache(maxsize=4096)  # noqa: B019 - as above
    def location(self, field: str) -> Location | None:
        """Return the first PL of a field, or None when it names no place."""
        parts = self.components(field.partition(self._repetition)[0], 7)
        point_of_care, room, bed, facility, _, _, building = parts
        if not (point_of_care or room or bed or facility or building):
            return None
        return Location(facility=facility, building=building, point_of_care=point_of_care, room=room, bed=bed)


def _composed(country: str | None, area: str | None, local: str | None) -> str | None:
    if local is None:
        return None
    number = f"{area} {local}" if area else local
    return f"+{country.lstrip('+')} {number}" if country and area else number


def reader_of(message: Message) -> Reader:
    """Return the reader for a message."""
    return _reader(message.separators, message.encoding)


@lru_cache(maxsize=64)
def _reader(separators: Separators, encoding: str) -> Reader:
    return Reader(separators, encoding)


def padded(fields: list[str], count: int) -> list[str]:
    """Return the fields of a segment with at least number ``count``."""
    missing = count + 1 - len(fields)
    return fields + [""] * missing if missing > 0 else fields


def _padded(parts: list[str], count: int) -> list[str]:
    missing = count - len(parts)
    return parts + [""] * missing if missing > 0 else parts[:count]
