"""This module reads HL7 v2's dictionary out of hl7apy's tables: segments, data types, code tables, message structures.

hl7apy's tables are close to the standard's own database, with gaps that are mended here: what was withdrawn is missing
from some lists, so the number in a field's name counts and not its place; times are text before 2.5; there is no 2.9.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Final

from broker.wire.er7 import Location

# What hl7apy has tables for, oldest first.
VERSIONS: Final = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
# Versions without tables, and the nearest that has them: 2.7.1 corrected 2.7, 2.9 only added to 2.8.2.
NEAREST: Final = {"2.7.1": "2.7", "2.9": "2.8.2", "2.9.1": "2.8.2"}
ASSUMED: Final = "2.5.1"  # where a message does not say, or says nonsense
ANYTHING: Final = "varies"  # the data type that another field decides on, or nobody
WITHDRAWN: Final = "WD"
UNLIMITED: Final = -1
ANY_SEGMENT: Final = "ANYHL7SEGMENT"

_TIMES: Final = {"TS": "DTM"}  # what a time's first component is, where the tables say text
_CHOICES: Final = (
    "CHOICE",
    "OBJECT",
    "SUPPGRP",
    "ORDER_DETAIL",
)  # some sequences are called a choice too
_PLACEHOLDER: Final = re.compile(r"(?<=.)(nnnn|xxx|zzz)\w*\Z")  # in codes such as HL7nnnn
_SYSTEMS: Final = "0396"  # the coding systems, a list that HL7 keeps apart from its versions …
_LOCAL_SYSTEMS: Final = "99"  # … and where a site's own begin with this
_VALUE_TYPES: Final = "0125"
_ABBREVIATED: Final = {"id": "ID", "hl7": "HL7", "ssn": "SSN", "vip": "VIP", "md": "MD", "dr": "Dr", "jr": "Jr"}


@dataclass(frozen=True, slots=True)
class Element:
    """A field of a segment, or a component of a data type, as the standard describes it.

    ``most`` is `UNLIMITED` or how often it may occur; 0 means that it was withdrawn. ``table`` is a number such as
    ``0203`` or empty.
    """

    number: int
    name: str
    datatype: str
    table: str = ""
    least: int = 0
    most: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """A code table; ``closed`` is False where the standard lists examples only."""

    number: str
    title: str
    codes: frozenset[str]
    beginnings: tuple[str, ...] = ()  # of codes that go on as the site likes
    closed: bool = True

    def __contains__(self, code: object) -> bool:
        """Tell whether a code is in the table."""
        return code in self.codes or (
            isinstance(code, str) and bool(self.beginnings) and code.startswith(self.beginnings)
        )


@dataclass(frozen=True, slots=True)
class Group:
    """A segment, or a group of them, in a message structure; ``one_of`` says that its children exclude each other."""

    name: str
    least: int
    most: int
    children: tuple["Group", ...] = ()
    one_of: bool = False


class Dictionary:
    """HL7 v2 in one version."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._tables = import_module(f"hl7apy.v{version.replace('.', '_')}")
        self._segments: dict[str, tuple[Element, ...] | None] = {}
        self._datatypes: dict[str, tuple[Element, ...]] = {}

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The names of all segments."""
        return tuple(sorted(name for name in self._tables.SEGMENTS if name != ANY_SEGMENT))

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """The names of all message structures."""
        return tuple(sorted(self._tables.MESSAGES))

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """All code tables with at least one code, by number."""
        found = getattr(self._tables, "TABLES", {})
        tables = {name[3:]: _table(name[3:], *told) for name, told in found.items() if any(told[1])}
        if _VALUE_TYPES in tables:  # hl7apy's lists of what OBX-2 may say are shorter than its lists of data types
            table = tables[_VALUE_TYPES]
            tables[_VALUE_TYPES] = replace(table, codes=table.codes | set(self.datatypes), closed=True)
        return tables

    def fields(self, segment: str) -> tuple[Element, ...] | None:
        """Return the fields of a segment by number, withdrawn ones left out where the tables do; None if unknown."""
        if segment not in self._segments:
            told = None if segment == ANY_SEGMENT else self._tables.SEGMENTS.get(segment)
            self._segments[segment] = None if told is None else _elements(_listed(told))
        return self._segments[segment]

    def components(self, datatype: str) -> tuple[Element, ...]:
        """Return the components of a data type; a simple one has none."""
        if datatype not in self._datatypes:
            told = self._tables.DATATYPES_STRUCTS.get(datatype, ())
            elements = _elements(told)
            if datatype in _TIMES and elements:
                first = elements[0]
                elements = (Element(1, first.name, _TIMES[datatype], "", first.least, first.most), *elements[1:])
            self._datatypes[datatype] = elements
        return self._datatypes[datatype]

    @cached_property
    def datatypes(self) -> tuple[str, ...]:
        """The names of all data types, simple ones included."""
        names = {*self._tables.DATATYPES_STRUCTS, *self._tables.get_base_datatypes()}
        return tuple(sorted(names - {WITHDRAWN, ANYTHING}))

    def is_datatype(self, name: str) -> bool:
        """Tell whether there is such a data type, simple or not."""
        return name in self.datatypes

    def structure(self, name: str) -> Group | None:
        """Return the tree of a message structure such as ``ADT_A01``, or None."""
        told = self._tables.MESSAGES.get(name)
        return None if told is None else self._group(name, told, (1, 1))

    def _group(self, name: str, told: Any, cardinality: tuple[int, int]) -> Group:
        children = tuple(
            self._group(child[0], self._tables.GROUPS[child[0]], child[2])
            if child[3] == "GRP"
            else Group(child[0], *child[2])
            for child in told[1]
        )
        return Group(name, *cardinality, children, one_of=told[0] == "choice" and name.endswith(_CHOICES))


def _listed(told: Any) -> Any:
    """Return a segment's list of fields; some withdrawn segments have none, and one of 2.1 lacks what stands around."""
    if told and isinstance(told[0], str):
        return told[1] if len(told) > 1 else ()
    return told


def _elements(told: Any) -> tuple[Element, ...]:
    elements = (_element(each) for each in told)
    return tuple(sorted(elements, key=lambda element: element.number))


def _element(told: Any) -> Element:
    name, about, (least, most) = told[0], told[1], told[2]
    number = int(name.rpartition("_")[2])
    if about is None:
        return Element(number, "", ANYTHING, "", least, most)
    datatype = about[2] or ANYTHING
    if datatype.upper() == WITHDRAWN:
        datatype, most = WITHDRAWN, 0
    return Element(number, _spoken(about[3] or ""), datatype, (about[4] or "")[3:], 0 if not most else least, most)


def _spoken(name: str) -> str:
    """Return ``PATIENT_IDENTIFIER_LIST`` as people write it."""
    words = [_ABBREVIATED.get(word, word) for word in _unbroken(name).split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _unbroken(name: str) -> str:
    """Mend what the tables made of apostrophes, full stops and a slip of the pen."""
    spoken = name.replace("_", " ").lower().replace(" s ", "'s ").replace(" e g ", " e.g. ")
    return spoken.replace("familiy", "family")


def _table(number: str, title: str, codes: Any) -> Table:
    listed = frozenset(code for code in codes if code)
    open_codes = {code for code in listed if "..." in code or "<" in code or " _ " in code}
    beginnings = {_PLACEHOLDER.sub("", code) for code in listed if _PLACEHOLDER.search(code)}
    if number == _SYSTEMS:
        beginnings.add(_LOCAL_SYSTEMS)
    named = frozenset(code for code in listed - open_codes if not _PLACEHOLDER.search(code))
    return Table(number, title, named, tuple(sorted(beginnings)), closed=not open_codes and number != _SYSTEMS)


@cache
def dictionary(version: str) -> Dictionary:
    """Return the dictionary of one of `VERSIONS`; the tables of one version load in a hundredth of a second."""
    if version not in VERSIONS:
        message = f"there are no tables for HL7 {version!r}; there are for {', '.join(VERSIONS)}"
        raise ValueError(message)
    return Dictionary(version)


def nearest_version(text: str) -> str:
    """Return the version with tables that is meant by MSH-12; `ASSUMED` where that is none of HL7's."""
    return text if text in VERSIONS else NEAREST.get(text, ASSUMED)


def type_name(datatype: str) -> str:
    """Return a data type's name in the standard: the tables tell variants of one apart, such as ``DR_SIMPLE``."""
    return datatype.partition("_")[0]


def check_location(location: Location | str, version: str = ASSUMED) -> str | None:
    """Return what is wrong with a location in a version of HL7 v2, or None.

    Z segments are a site's own and pass; so does everything in a version that the tables do not have.
    """
    place = Location.parse(location) if isinstance(location, str) else location
    if place.within is not None and (mistake := check_location(place.within, version)):
        return mistake
    if version not in VERSIONS or place.segment.startswith("Z"):
        return None
    known = dictionary(version)
    fields = known.fields(place.segment)
    if fields is None:
        return f"{place.segment} is no segment of HL7 {version}"
    last = fields[-1].number if fields else 0
    if place.field > last:
        what = f"{place.segment}-{place.field}"
        return f"{what} does not exist in HL7 {version}; {place.segment} has {last} fields"
    field = next((each for each in fields if each.number == place.field), None)
    return None if field is None else _check_parts(place, field, known)


def _check_parts(place: Location, field: Element, known: Dictionary) -> str | None:
    name, element = f"{place.segment}-{place.field}", field
    for number, word in ((place.component, "component"), (place.subcomponent, "subcomponent")):
        if element.datatype in {ANYTHING, WITHDRAWN, "CM"}:
            return None
        parts = known.components(element.datatype)
        last = parts[-1].number if parts else 1
        if number > last:
            has = f"has {last} {word}s" if parts else "is not divided"
            return (
                f"{name}.{number} does not exist in HL7 {known.version}; {name} ({type_name(element.datatype)}) {has}"
            )
        found = next((part for part in parts if part.number == max(number, 1)), None)
        if found is None:
            return None
        name, element = f"{name}.{max(number, 1)}", found
    return None
