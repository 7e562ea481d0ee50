"""This module compiles the dictionary and a profile to shapes: what a field must look like, and a pattern to see it.

A shape's pattern matches only what is right for certain, so that most fields of most messages cost one match. What does
not match is looked at part by part (`transforms.fields`), which decides, and finds the words for what is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from broker.wire.er7 import Location, Separators
from transforms.dictionary import ANYTHING, UNLIMITED, WITHDRAWN, Dictionary, Element, Table
from transforms.profile import FieldRule, Profile
from transforms.value_types import CERTAIN

# Composites whose first component is a code, of the table that the field names.
CODED: Final = frozenset({"CE", "CWE", "CNE", "CF"})
# What MSH-9 and MSH-12 may say is looked up among the structures and versions; hl7apy's lists of it have gaps.
_LOOKED_UP: Final = frozenset({"0003", "0076", "0104", "0354"})
TIME: Final = "TS"
_FREE: Final = frozenset({ANYTHING, "CM"})  # nobody says what it is made of
_FIELD, _COMPONENT, _SUBCOMPONENT = 0, 1, 2
_MOST_CODES: Final = 512  # in a pattern; a longer table is looked up
_REPEATS_ALLOWED: Final = 1000  # what a pattern can count to


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes that a value is checked against; ``ours`` says that the site declared them, ``closed`` that HL7 did."""

    table: Table
    closed: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What a field, component or subcomponent must look like; ``parts`` by place, None for one that was withdrawn.

    ``codes`` of a composite are those of its first component. What a profile asks for is ``enforced``.
    """

    name: str
    datatype: str
    least: int = 0
    most: int = 1
    codes: Codes | None = None
    length: int = 0
    parts: tuple["Shape | None", ...] = ()
    enforced: frozenset[str] = frozenset()  # of: required, repeat, table, length


class Shapes:
    """Makes the shapes of one version under one profile; those of a data type are made once."""

    def __init__(self, known: Dictionary, profile: Profile | None) -> None:
        self.known = known
        self._profile = profile or Profile()
        self._parts: dict[tuple[str, int], tuple[Shape | None, ...]] = {}

    def of_segment(self, name: str) -> tuple[Shape | None, ...] | None:
        """Return the shapes of a segment's fields, by place from 0 for field 1; None for an unknown segment."""
        declared = self._profile.segments.get(name)
        if declared is not None and name.startswith("Z"):
            own = {int(number): self._own(rule) for number, rule in declared.fields.items()}
            return tuple(own.get(number) for number in range(1, max(own, default=0) + 1))
        fields = self.known.fields(name)
        if fields is None:
            return None
        rules = self._rules(name)
        shapes = {field.number: self._field(field, rules) for field in fields}
        # What HL7 withdrew, or never had, may still be in use at a site that says what it is.
        shapes |= {
            number: self._own(rule) for (number, part), rule in rules.items() if not part and number not in shapes
        }
        return tuple(shapes.get(number) for number in range(1, max(shapes, default=0) + 1))

    def of_type(self, datatype: str, name: str, most: int) -> Shape:
        """Return the shape of a field that has a data type by what another field says."""
        return self._shape(Element(0, name, datatype, most=most), _FIELD)

    def _own(self, rule: FieldRule) -> Shape:
        most = UNLIMITED if rule.repeat else 1
        element = Element(0, rule.name, rule.type or "ST", least=int(bool(rule.required)), most=most)
        return _ruled(self._shape(element, _FIELD), rule, self._codes(rule.table or "", ""))

    def _rules(self, segment: str) -> Mapping[tuple[int, int], FieldRule]:
        found = {}
        for location, rule in self._profile.fields.items():
            place = Location.parse(location)
            if place.segment == segment:
                found[place.field, place.component] = rule
        return found

    def _field(self, field: Element, rules: Mapping[tuple[int, int], FieldRule]) -> Shape:
        rule = rules.get((field.number, 0))
        if rule is not None and rule.type is not None:
            field = replace(field, datatype=rule.type, most=field.most or 1)
        shape = self._shape(field, _FIELD)
        if rule is not None:
            shape = _ruled(shape, rule, self._codes(rule.table or "", ""))
        of_parts = {
            component: each for (number, component), each in rules.items() if number == field.number and component
        }
        if not of_parts:
            return shape
        parts = list(shape.parts)
        for component, each in of_parts.items():
            part = parts[component - 1] if component <= len(parts) else None
            if part is not None:
                parts[component - 1] = _ruled(part, each, self._codes(each.table or "", ""))
        return replace(shape, parts=tuple(parts))

    def _shape(self, element: Element, level: int) -> Shape:
        datatype = element.datatype
        if level == _SUBCOMPONENT:  # nothing divides a subcomponent, so its first component is all that it can hold
            while parts := self.known.components(datatype):
                datatype = parts[0].datatype
        made = self._parts_of(datatype, level)
        if datatype == TIME and made and made[0] is not None:  # its first component is the value itself
            made = (replace(made[0], name=element.name), *made[1:])
        codes = self._codes(element.table, datatype)
        return Shape(element.name, datatype, element.least, element.most, codes, parts=made)

    def _parts_of(self, datatype: str, level: int) -> tuple[Shape | None, ...]:
        key = (datatype, level)
        if key not in self._parts:
            components = self.known.components(datatype) if level < _SUBCOMPONENT else ()
            made = {each.number: self._shape(each, level + 1) for each in components}
            self._parts[key] = tuple(made.get(number) for number in range(1, max(made, default=0) + 1))
        return self._parts[key]

    def _codes(self, number: str, datatype: str) -> Codes | None:
        """Return the codes of a table, as a value of the data type is bound by them; without a type, as the site is."""
        table, declared = self.known.tables.get(number), self._profile.tables.get(number)
        if number in _LOOKED_UP and declared is None:
            return None
        if datatype and datatype not in CODED and datatype not in {"ID", "IS"}:
            return None
        if declared is not None:
            codes = frozenset(declared.codes) if declared.codes is not None else table.codes if table else frozenset()
            table = Table(number, declared.name or (table.title if table else ""), codes | frozenset(declared.add))
        if table is None or (not table.closed and declared is None and datatype):
            return None
        # HL7 closes the tables of ID and CNE; what IS and CE name are suggestions.
        return Codes(table, closed=datatype in {"ID", "CNE"}, ours=declared is not None or not datatype)


def _ruled(shape: Shape, rule: FieldRule, codes: Codes | None) -> Shape:
    """Return a shape with what a profile asks for."""
    enforced = set(shape.enforced)
    least, most = shape.least, shape.most
    if rule.required is not None:
        least = int(rule.required)
        enforced.add("required")
        most = most or 1  # a withdrawn field that a site requires is in use there
    if rule.repeat is not None:
        most = UNLIMITED if rule.repeat else 1
        enforced.add("repeat")
    if codes is not None:
        enforced.add("table")
    if rule.length is not None:
        enforced.add("length")
    return replace(
        shape,
        name=rule.name or shape.name,
        least=least,
        most=most,
        codes=codes or shape.codes,
        length=rule.length or shape.length,
        enforced=frozenset(enforced),
    )


class Patterns:
    """Writes the patterns of shapes for one set of separators."""

    def __init__(self, separators: Separators) -> None:
        component, repetition, lower = separators.component, separators.repetition, separators.subcomponent
        self._repetition = re.escape(repetition) if repetition else ""
        self._marks = (re.escape(component) if component else "", re.escape(lower) if lower else "")
        self._any = tuple(
            _unlike(below) for below in ((repetition,), (repetition, component), (repetition, component, lower))
        )

    def of_field(self, shape: Shape) -> re.Pattern[str] | None:
        """Compile a field's pattern; None where nothing is right for certain."""
        pattern = self._of(shape, _FIELD)
        if pattern is None or not shape.most:
            return None
        if shape.most == 1 or not self._repetition:
            return re.compile(pattern)
        more = "*" if shape.most == UNLIMITED else f"{{0,{min(shape.most, _REPEATS_ALLOWED) - 1}}}"
        return re.compile(f"(?:{pattern})?(?:{self._repetition}(?:{pattern})?){more}")

    def _of(self, shape: Shape, level: int) -> str | None:
        if shape.parts:
            return self._of_parts(shape, level) if not shape.length else None
        if shape.datatype in _FREE and not shape.length:
            return f"{self._any[level]}*+"
        if shape.datatype == WITHDRAWN:
            return None
        if shape.codes is not None and shape.datatype not in CODED:
            return self._alternatives(shape.codes.table)
        certain = CERTAIN.get(shape.datatype)
        if shape.length:
            return f"{self._any[_SUBCOMPONENT]}{{0,{shape.length}}}+" if certain is None else None
        return certain or f"{self._any[_SUBCOMPONENT]}*+"

    def _of_parts(self, shape: Shape, level: int) -> str | None:
        """Write the parts from the last to the first: what comes after the last valued one may be left out."""
        mark, tail, must = self._marks[level], "", False
        for number in range(len(shape.parts) - 1, -1, -1):
            part = shape.parts[number]
            inner = None if part is None or not part.most else self._of(part, level + 1)
            if not number and shape.codes is not None:
                inner = self._alternatives(shape.codes.table)
            required = part is not None and bool(part.least)
            if required and (inner is None or (number and not mark)):
                return None
            must = must or required
            one = f"(?={self._any[level + 1]}){inner}" if required else f"(?:{inner})?" if inner else ""
            if not number:
                return one + tail
            if mark:
                tail = f"{mark}{one}{tail}" if must else f"(?:{mark}{one}{tail})?"
        return tail

    def _alternatives(self, table: Table) -> str | None:
        """Return a pattern for the codes of a table, by first letter and the longest first."""
        if len(table.codes) > _MOST_CODES:
            return None
        by_letter: dict[str, list[str]] = {}
        for code in sorted(table.codes, key=lambda code: (-len(code), code)):
            by_letter.setdefault(code[0], []).append(re.escape(code[1:]))
        choices = [f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in by_letter.items()]
        choices += [f"{re.escape(begins)}{self._any[_SUBCOMPONENT]}*" for begins in table.beginnings]
        return f"(?:{'|'.join(choices)})"


def _unlike(separators: tuple[str, ...]) -> str:
    """Return the class of characters that are none of some separators; one stands for those that do not exist."""
    return f"[^{re.escape(''.join(separators))}\\r]"
