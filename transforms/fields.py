"""This module looks at one field of a message part by part, and says what is wrong with it and where."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from broker.wire.er7 import Separators
from broker.wire.escape import unescape
from broker.wire.location import Location
from transforms import finding
from transforms.dictionary import UNLIMITED, WITHDRAWN
from transforms.finding import Findings, Kind
from transforms.scope import NULL
from transforms.shapes import TIME, Codes, Shape
from transforms.value_types import EXPECTED, is_value

# Tables of codes for which HL7 has conditions of their own (table 0357): message types, events, processing ids.
_KINDS: Final = {
    "0076": finding.STRUCTURE_UNKNOWN,
    "0003": finding.EVENT_UNKNOWN,
    "0103": finding.PROCESSING_UNKNOWN,
}
_SYSTEM: Final = 2  # where a coded value names its coding system: component 3
_UNDIVIDED: Final = frozenset({"varies", "CM"})


class Place(NamedTuple):
    """Where we are in a message; it becomes a `Location` when something is found there. 0 means: not in particular."""

    segment: str
    occurrence: int
    field: int
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0

    def below(self, number: int, level: int) -> "Place":
        """Return the place of a component (level 0) or subcomponent (1)."""
        segment, occurrence, field, repetition, component, _ = self
        if level:
            return Place(segment, occurrence, field, repetition, component, number)
        return Place(segment, occurrence, field, repetition, number)

    def __str__(self) -> str:
        """Write it as a location; the first of several needs no number."""
        return _spelt(self)


@lru_cache(maxsize=4096)
def _spelt(place: Place) -> str:
    segment, occurrence, field, repetition, component, subcomponent = place
    number = occurrence if occurrence > 1 else 0
    return str(Location(segment, field, component, subcomponent, occurrence=number, repetition=repetition))


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at a message's fields needs."""

    separators: Separators
    encoding: str
    findings: Findings

    def field(self, place: Place, text: str, shape: Shape | None) -> None:
        """Look at a field that is valued; a shape of None is one that the version does not have (any more)."""
        if shape is None or not shape.most or shape.datatype == WITHDRAWN:
            if text != NULL:
                what = f"{_called(shape)} was withdrawn" if shape and shape.name else "the field is not defined"
                self._add(finding.NOT_DEFINED, place, f"{what} in this version of HL7, and is valued")
            return
        mark = self.separators.repetition
        repetitions = text.split(mark) if mark else [text]
        if shape.most != UNLIMITED and len(repetitions) > shape.most:
            times = "may not repeat" if shape.most == 1 else f"may occur {shape.most} times"
            self._add(
                finding.REPEATS, place, f"{_called(shape)} {times}, and occurs {len(repetitions)} times",
                enforced="repeat" in shape.enforced,
            )  # fmt: skip
        for number, repetition in enumerate(repetitions, 1):
            if repetition and repetition != NULL:
                where = place if len(repetitions) == 1 else Place(*place[:3], number)
                self._part(where, repetition, shape, 0)

    def missing(self, place: Place, shape: Shape) -> None:
        """Say that a field or component is not valued that must be."""
        text = f"{_called(shape)} is required and not valued"
        self._add(finding.FIELD_MISSING, place, text, enforced="required" in shape.enforced)

    def _part(self, place: Place, text: str, shape: Shape, level: int) -> None:
        if shape.datatype in _UNDIVIDED:
            self._length(place, text, shape)
        elif shape.parts:
            self._composite(place, text, shape, level)
        else:
            self._simple(place, text, shape, level)

    def _composite(self, place: Place, text: str, shape: Shape, level: int) -> None:
        self._length(place, text, shape)
        mark = (self.separators.component, self.separators.subcomponent)[level]
        parts = text.split(mark) if mark else [text]
        for number, part in enumerate(shape.parts, 1):
            value = parts[number - 1] if number <= len(parts) else ""
            if value and value != NULL:
                # A time is its first component: nobody calls PID-7 PID-7.1.
                whole = shape.datatype == TIME and number == 1
                self._valued(place if whole else place.below(number, level), value, part, level)
            elif not value and part is not None and part.least:
                self.missing(place.below(number, level), part)
        if shape.codes is not None and parts[0] and parts[0] != NULL and _is_of_table(parts, shape.codes):
            self._code(place.below(1, level), parts[0], shape, shape.codes)
        if any(parts[len(shape.parts) :]):
            word = ("components", "subcomponents")[level]
            found = f"{_called(shape)} ({shape.datatype}) has {len(shape.parts)} {word}, found {len(parts)}"
            self._add(finding.TOO_MANY_PARTS, place, found)

    def _valued(self, place: Place, text: str, part: Shape | None, level: int) -> None:
        if part is None or not part.most:
            what = part.name if part is not None and part.name else ("the component", "the subcomponent")[level]
            wrong = f"{what} was withdrawn in this version of HL7, and is valued"
            self._add(finding.NOT_DEFINED, place, wrong)
        else:
            self._part(place, text, part, level + 1)

    def _simple(self, place: Place, text: str, shape: Shape, level: int) -> None:
        marks = (self.separators.component, self.separators.subcomponent)[level:]
        whole = text
        for mark in marks:
            if mark and mark in text:
                text = text.partition(mark)[0]
        if text != whole and whole.strip("".join(marks)) != text:
            self._add(finding.TOO_MANY_PARTS, place, f"{_called(shape)} ({shape.datatype}) is not divided, found parts")
        if not text or text == NULL:
            return
        self._length(place, text, shape)
        if not is_value(shape.datatype, text):
            self._add(finding.WRONG_TYPE, place, f"{_called(shape)} {EXPECTED[shape.datatype]}")
        if shape.codes is not None:
            self._code(place, text, shape, shape.codes)

    def _code(self, place: Place, text: str, shape: Shape, codes: Codes) -> None:
        escape = self.separators.escape
        value = unescape(text, self.separators, self.encoding) if escape and escape in text else text
        if value in codes.table:
            return
        kind = finding.CODE_UNKNOWN if codes.closed or codes.ours else finding.SITE_CODE_UNKNOWN
        kind = _KINDS.get(codes.table.number, kind)
        title = f" ({codes.table.title})" if codes.table.title else ""
        whose = "" if codes.ours else "HL7 "
        wrong = f"{_called(shape)} has a code that {whose}table {codes.table.number}{title} does not have"
        self._add(kind, place, wrong, enforced="table" in shape.enforced or codes.ours)

    def _length(self, place: Place, text: str, shape: Shape) -> None:
        if shape.length:
            length = len(unescape(text, self.separators, self.encoding))
            if length > shape.length:
                wrong = f"{_called(shape)} has {length} characters; at most {shape.length} are allowed"
                self._add(finding.TOO_LONG, place, wrong, enforced=True)

    def _add(self, kind: Kind, place: Place, text: str, *, enforced: bool = False) -> None:
        self.findings.add(kind, str(place), text[:1].upper() + text[1:], enforced=enforced)


def _called(shape: Shape | None) -> str:
    return shape.name if shape is not None and shape.name else "the field"


def _is_of_table(parts: list[str], codes: Codes) -> bool:
    """Tell whether a coded value says that its code is of the field's table, or does not say of which it is."""
    system = parts[_SYSTEM] if len(parts) > _SYSTEM else ""
    return codes.ours or not system or system == f"HL7{codes.table.number}"
