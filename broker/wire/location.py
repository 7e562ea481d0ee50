"""This module reads HL7 locations, the short names of places in a message: ``PID-3[5=MR].1``."""

import dataclasses
import re
from functools import lru_cache
from typing import Final

_NUMBER_OR_CONDITION: Final = r"""(?:[\[(]\s*(?P<{0}>(?:[^\])'"]|'[^']*'|"[^"]*")*+)[\])])?"""
_SEGMENT: Final = r"(?P<segment>[A-Z][A-Z0-9]{2})" + _NUMBER_OR_CONDITION.format("of_segment")
_GROUP: Final = re.compile(_SEGMENT + "/")
_LOCATION: Final = re.compile(
    _SEGMENT
    + r"(?:-(?P<field>\d{1,3})"
    + _NUMBER_OR_CONDITION.format("of_field")
    + r"(?:[.-](?P<component>\d{1,3})(?:[.-](?P<subcomponent>\d{1,3}))?)?)?"
)
# Other programs' spellings that can mean one thing only: python-hl7 writes every level with its letter, and a Terser
# path may begin with a slash or a dot, or both.
_LETTERED: Final = re.compile(r"([A-Z][A-Z0-9]{2})(\d*)\.F(\d{1,3})(?:\.R(\d{1,9}))?(?:\.C(\d{1,3}))?(?:\.S(\d{1,3}))?")
# … and one that can mean two: the second number of PID.3.1 is a component to some and a repetition to others.
_DOTTED: Final = re.compile(r"([A-Z][A-Z0-9]{2})[.:](\d{1,3})(.*)", re.DOTALL)
_DEEPEST: Final = 8  # groups around a location
_CONDITION: Final = re.compile(r"(?P<first>\d{1,3})(?:\.(?P<second>\d{1,3}))?\s*=\s*(?P<value>.+)", re.DOTALL)
_SPECIAL: Final = re.compile(r"[\])'\"]")
_QUOTES: Final = ("'", '"')
_SHORTEST_QUOTED: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """``5=MR`` or ``4.2=1.2.3``: the part numbered ``first`` (``second`` within it) equals ``value``.

    On a field's repetitions the parts are component and subcomponent, on segments they are field and component.
    """

    first: int
    second: int
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """One place in a message. Numbers count from 1; 0 means that the location does not say.

    ``SEG``, ``SEG-f``, ``SEG-f.c``, ``SEG-f.c.s`` (also ``SEG-f-c-s``). A repetition follows what it counts: by number
    ``PID-3(2).1`` or by condition ``PID-3[5=MR].1`` (the first whose component 5 is MR). Segments likewise:
    ``OBX(3)-5``, ``OBX[3]-5``, ``OBX[3.1=8302-2]-5`` (the first OBX whose field 3, component 1, is that).
    In groups: ``OBR[2]/OBX[3]-5`` is in the third OBX of those that belong to the second OBR; ``within`` is OBR[2].
    """

    segment: str
    field: int = 0
    component: int = 0
    subcomponent: int = 0
    occurrence: int = 0  # of the segment
    which: Condition | None = None  # of the segments
    repetition: int = 0  # of the field
    condition: Condition | None = None  # of the field's repetitions
    within: "Location | None" = None  # the segment that opens the group which the place is in
    # What every look-up needs, put together once: segment, field, component, subcomponent; None unless the first
    # segment's first repetition is meant.
    plain: tuple[str, int, int, int] | None = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what is derived."""
        first = self.occurrence <= 1 and self.repetition <= 1
        first = first and self.which is None and self.condition is None and self.within is None
        plain = (self.segment, self.field, self.component, self.subcomponent) if first else None
        object.__setattr__(self, "plain", plain)

    @classmethod
    def parse(cls, text: str) -> "Location":
        """Read a location; raise ValueError with a sentence for an analyst."""
        return _parse(text)

    def __str__(self) -> str:
        """Write the location in its shortest usual form."""
        text = "" if self.within is None else f"{self.within}/"
        text += self.segment + _bracket(self.occurrence, self.which)
        if self.field:
            text += f"-{self.field}" + _bracket(self.repetition, self.condition)
        if self.component:
            text += f".{self.component}"
        if self.subcomponent:
            text += f".{self.subcomponent}"
        return text


@lru_cache(maxsize=4096)
def _parse(text: str) -> Location:
    written = text.strip()
    lettered = _LETTERED.fullmatch(written)
    if lettered is not None:
        written = _without_letters(lettered)
    begin = _lead(written)
    within: Location | None = None
    for _ in range(_DEEPEST):
        group = _GROUP.match(written, begin)
        if group is None:
            break
        within = Location(group["segment"], 0, 0, 0, *_selection(text, group["of_segment"]), within=within)
        begin = group.end()
    found = _LOCATION.fullmatch(written, begin)
    if found is None:
        raise ValueError(_mistake(text))
    numbers = [found[name] for name in ("field", "component", "subcomponent")]
    if any(number is not None and not int(number) for number in numbers):
        message = f"{text!r}: fields, components and subcomponents are numbered from 1"
        raise ValueError(message)
    occurrence, which = _selection(text, found["of_segment"])
    repetition, condition = _selection(text, found["of_field"])
    field, component, subcomponent = (int(number or 0) for number in numbers)
    return Location(found["segment"], field, component, subcomponent, occurrence, which, repetition, condition, within)


def _lead(written: str) -> int:
    """Return how many characters in front say nothing: ``/``, ``.`` or ``/.``."""
    return len(written) - len(written.removeprefix("/").removeprefix("."))


def _without_letters(found: re.Match[str]) -> str:
    segment, occurrence, field, repetition, component, subcomponent = found.groups()
    text = segment + (f"({occurrence})" if occurrence else "") + f"-{field}"
    text += f"({repetition})" if repetition else ""
    if component or subcomponent:
        text += f".{component or 1}"
    return text + (f".{subcomponent}" if subcomponent else "")


def _mistake(text: str) -> str:
    dotted = _DOTTED.fullmatch(text.strip())
    if dotted is None:
        return f"{text!r} is not an HL7 location; write SEG-field.component, such as PID-5.1 or PID-3[5=MR].1"
    right = f"{dotted[1]}-{dotted[2]}"
    return f"{text!r} is not an HL7 location; a hyphen goes before the field, such as {right}, or {right}.1"


def _selection(text: str, chosen: str | None) -> tuple[int, Condition | None]:
    if chosen is None:
        return 0, None
    chosen = chosen.rstrip()
    if chosen.isdecimal() and int(chosen):
        return int(chosen), None
    found = _CONDITION.fullmatch(chosen)
    if found is None:
        message = f"{text!r}: in brackets goes a number from 1, or a condition such as [5=MR]; found {chosen!r}"
        raise ValueError(message)
    value = found["value"]
    if len(value) >= _SHORTEST_QUOTED and value[0] in _QUOTES and value[-1] == value[0]:
        value = value[1:-1]
    return 0, Condition(int(found["first"]), int(found["second"] or 0), value)


def _bracket(number: int, condition: Condition | None) -> str:
    if condition is not None:
        part = f"{condition.first}.{condition.second}" if condition.second else str(condition.first)
        return f"[{part}={_quoted(condition.value)}]"
    return f"({number})" if number else ""


def _quoted(value: str) -> str:
    """Quote a value that would not be read as it is."""
    if value == value.strip() and not _SPECIAL.search(value):
        return value
    return f'"{value}"' if "'" in value else f"'{value}'"
