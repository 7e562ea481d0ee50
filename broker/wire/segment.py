"""This module reads values out of one segment of an HL7 v2 message, splitting it as far as somebody asks."""

from typing import Any, Final

from broker.wire.escape import unescape
from broker.wire.header import Separators
from broker.wire.location import Condition, Location

# Field 1 of these segments is the field separator itself, and field 2 is never split.
_DEFINING: Final = frozenset({"MSH", "BHS", "FHS"})
_DEFINED: Final = 2


class Segment:
    """One segment: ``name``, ``text`` (as sent), and ``fields``.

    Fields are as sent (not unescaped) and numbered as in the standard; ``fields[0]`` is the name.
    """

    __slots__ = ("_encoding", "fields", "name", "separators", "text")

    def __init__(self, name: str, text: str, separators: Separators, encoding: str) -> None:
        self.name = name
        self.text = text
        self.separators = separators
        self._encoding = encoding
        self.fields = text.split(separators[0])
        if name in _DEFINING:
            self.fields.insert(1, separators[0])

    def get(self, field: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str | None:
        """Return a value by its numbers (from 1), decoded and unescaped, or None when it is not valued."""
        if repetition == 1:
            return self.first(field, component, subcomponent)
        return self.at(Location(self.name, field, component, subcomponent, repetition=repetition))

    def at(self, location: Location) -> str | None:
        """Return the value at a location's field in this segment, whatever segment the location names.

        Without a field that is the whole segment as sent; otherwise it reads as `Message.get` does.
        """
        number = location.field
        if location.repetition <= 1 and location.condition is None:
            return self.first(number, location.component, location.subcomponent)
        if number >= len(self.fields) or (number <= _DEFINED and self._is_definition(number)):
            return None
        repetitions, condition = self._numbered(self.fields[number], location.repetition), location.condition
        for repetition in repetitions:
            if condition is None or self.meets(repetition, condition):
                return self._part(repetition, location.component, location.subcomponent)
        return None

    def first(self, field: int, component: int, subcomponent: int) -> str | None:
        """Return a value of a field's first repetition; number 0 stands for the whole segment, or the first part."""
        try:
            value = self.fields[field]
        except IndexError:
            return None
        if value.isalnum():  # the usual case: nothing in it separates or escapes
            return (value if field else self.text) if component <= 1 and subcomponent <= 1 else None
        if field <= _DEFINED and self._is_definition(field):
            return value if field else self.text
        separator = self.separators[2]
        if separator and separator in value:
            value = value[: value.index(separator)]
        return self._part(value, component, subcomponent)

    def every(self, location: Location) -> list[str]:
        """Return the value of each repetition that the location does not exclude, where it is valued."""
        number = location.field
        if self._is_definition(number):
            value = self.at(location)
            return [] if value is None else [value]
        condition = location.condition
        values = [
            self._part(repetition, location.component, location.subcomponent)
            for repetition in self._numbered(
                self.fields[number] if number < len(self.fields) else "", location.repetition
            )
            if condition is None or self.meets(repetition, condition)
        ]
        return [value for value in values if value is not None]

    def repetitions(self, field: int) -> list[str]:
        """Return the repetitions of a field as sent (not unescaped); an absent or empty field has none."""
        value = self.fields[field] if field < len(self.fields) else ""
        separator = self.separators.repetition
        if not value:
            return []
        return value.split(separator) if separator and not self._is_definition(field) else [value]

    def _is_definition(self, field: int) -> bool:
        """Tell what is never taken apart: the separators in MSH, and field 0, which stands for the whole segment."""
        return field <= _DEFINED and (not field or self.name in _DEFINING)

    def _numbered(self, value: str, number: int) -> list[str]:
        """Return the repetitions of a field, or the one with a number."""
        separator = self.separators[2]
        if not separator or separator not in value:
            return [value] if number <= 1 else []
        repetitions = value.split(separator, number or -1)
        return repetitions[number - 1 : number] if number else repetitions

    def meets(self, repetition: str, condition: Condition) -> bool:
        """Tell whether a repetition, as sent, meets a condition."""
        wanted, escape = condition.value, self.separators[3]
        # The first test is cheap and mostly decides; an escaped value may be spelt otherwise.
        if wanted not in repetition and not (escape and escape in repetition):
            return False
        return self._part(repetition, condition.first, condition.second) == wanted

    def _part(self, value: str, component: int, subcomponent: int) -> str | None:
        separators = self.separators
        mark = separators[1]  # by number: a named tuple is slow to unpack, and the others are mostly not needed
        try:
            if mark in value:
                value = value.split(mark, component or 1)[component - 1 if component else 0]
            elif component > 1:
                return None
            if value.isalnum() and subcomponent <= 1:
                return value
            lower = separators[4]
            if lower and lower in value:
                value = value.split(lower, subcomponent or 1)[subcomponent - 1 if subcomponent else 0]
            elif subcomponent > 1:
                return None
        except IndexError:
            return None
        escape = separators[3]
        if escape and escape in value:
            value = unescape(value, separators, self._encoding)
        return value or None


class LongSegment(Segment):
    """A segment so long (a document in base64) that copies of it count.

    It is a stretch of another text, and what is asked for is cut out of that. Only ``fields`` and ``text`` copy.
    """

    __slots__ = ("_begin", "_end", "_whole")

    def __init__(self, name: str, whole: str, begin: int, end: int, separators: Separators, encoding: str) -> None:
        self.name = name
        self.separators = separators
        self._encoding = encoding
        self._whole, self._begin, self._end = whole, begin, end

    def __getattr__(self, attribute: str) -> Any:
        """Make ``text`` for whoever asks, and ``fields`` when they are first asked for."""
        if attribute == "text":
            return self._whole[self._begin : self._end]
        if attribute != "fields":
            raise AttributeError(attribute)
        self.fields = self.text.split(self.separators[0])
        if self.name in _DEFINING:
            self.fields.insert(1, self.separators[0])
        return self.fields

    def first(self, field: int, component: int, subcomponent: int) -> str | None:
        """Return a value of a field's first repetition, as `Segment.first` does."""
        if self._is_definition(field):
            return super().first(field, component, subcomponent)
        bar, mark, repeat, escape, lower, _ = self.separators
        if self.name in _DEFINING:
            field -= 1
        whole, place = self._whole, (self._begin, self._end)
        for separator, number in ((bar, field), (repeat, 0), (mark, max(component, 1) - 1)):
            if separator:
                found = _cut(whole, *place, separator, number)
                if found is None:
                    return None
                place = found
        below = _cut(whole, *place, lower, max(subcomponent, 1) - 1) if lower else None
        if below is None and subcomponent > 1:
            return None
        begin, end = below or place
        value = whole[begin:end]
        return (unescape(value, self.separators, self._encoding) if escape and escape in value else value) or None


def _cut(text: str, begin: int, end: int, separator: str, number: int) -> tuple[int, int] | None:
    """Return where the part with a number (from 0) lies in a stretch of text, or None when it has fewer parts."""
    for _ in range(number):
        begin = text.find(separator, begin, end) + 1
        if not begin:
            return None
    found = text.find(separator, begin, end)
    return begin, end if found < 0 else found
