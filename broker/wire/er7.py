"""This module reads HL7 v2 messages in their vertical-bar form (ER7): lossless, lazy, and fast.

A message keeps its bytes as they came. Segments and fields are split when somebody asks for them, and then kept.
"""

from collections.abc import Iterator
from typing import Final, Self

from broker.wire.charset import decode
from broker.wire.escape import unescape
from broker.wire.header import Header, Separators, read_header
from broker.wire.location import Location

__all__ = ["Header", "Location", "Message", "Segment", "Separators", "read_header"]

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
        if number >= len(self.fields) or self._is_definition(number):
            return None
        chosen = self._chosen(self.fields[number], location)
        return self._part(chosen[0], location.component, location.subcomponent) if chosen else None

    def first(self, field: int, component: int, subcomponent: int) -> str | None:
        """Return a value of a field's first repetition; number 0 stands for the whole segment, or the first part."""
        try:
            value = self.fields[field]
        except IndexError:
            return None
        if value.isalnum():  # the usual case: nothing in it separates or escapes
            return (value if field else self.text) if component <= 1 and subcomponent <= 1 else None
        if self._is_definition(field):
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
        chosen = self._chosen(self.fields[number], location) if number < len(self.fields) else []
        values = [self._part(repetition, location.component, location.subcomponent) for repetition in chosen]
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

    def _chosen(self, value: str, location: Location) -> list[str]:
        """Return the repetitions of a field that a location chooses."""
        separator = self.separators[2]
        repetitions = value.split(separator) if separator else [value]
        number = location.repetition
        if number:
            repetitions = repetitions[number - 1 : number]
        condition = location.condition
        if condition is None:
            return repetitions
        wanted, escape = condition.value, self.separators[3]
        return [
            repetition
            for repetition in repetitions
            # The first test is cheap and mostly decides; an escaped value may be spelt otherwise.
            if (wanted in repetition or (escape and escape in repetition))
            and self._part(repetition, condition.first, condition.second) == wanted
        ]

    def _part(self, value: str, component: int, subcomponent: int) -> str | None:
        _, mark, _, escape, lower, _ = self.separators
        try:
            if component > 1:
                value = value.split(mark, component)[component - 1]
            elif mark in value:
                value = value[: value.index(mark)]
            if lower and lower in value:
                value = value.split(lower, subcomponent or 1)[subcomponent - 1 if subcomponent else 0]
            elif subcomponent > 1:
                return None
        except IndexError:
            return None
        if escape and escape in value:
            value = unescape(value, self.separators, self._encoding)
        return value or None


class Message:
    """One message: its bytes as they came (``raw``), its header, and its values by location.

    Lines end with CR, LF or both, and empty lines do not count. Nothing is checked beyond MSH.
    """

    __slots__ = ("_first", "_segments", "_text", "encoding", "header", "raw", "separators")

    def __init__(self, raw: bytes, header: Header, text: str, encoding: str) -> None:
        """Take a message that was read; `parse` reads one."""
        self.raw = raw
        self.header = header
        self.separators = header.separators
        self.encoding = encoding  # the codec that the bytes were decoded with
        if not text.startswith("MSH"):
            text = text.lstrip("\ufeff\x0b\r\n\t \0")
        if "\n" in text:
            text = text.replace("\n", "\r")
        self._text = "\r" + text  # so that every segment has one in front
        self._first: dict[str, Segment | None] = {}  # the first of each name that somebody asked for
        self._segments: dict[str, list[Segment]] | None = None  # all of them by name, once somebody asked for more

    @classmethod
    def parse(cls, raw: bytes, encoding: str | None = None, header: Header | None = None) -> Self:
        """Read a message; ``encoding`` (a codec, or a name of HL7 table 0211) overrules MSH-18.

        ``header`` is its MSH, where that was read before.

        Raises `MessageError` where MSH cannot be read, or a byte does not belong to the character set.
        """
        header = header or read_header(raw)
        text, codec = decode(raw, header.charset, encoding)
        return cls(raw, header, text, codec)

    def get(self, location: Location | str) -> str | None:
        r"""Return the value at a location, decoded and unescaped, or None when it is not valued (absent or empty).

        HL7's rule for a shorter name holds: a field without a component is its first component, and that without a
        subcomponent its first subcomponent, so ``PID-8 == 'F'`` and ``MSH-9.1 == 'ADT'`` mean what they say, and
        ``PID-3`` is the id alone. Where no repetition is named the first is meant. An explicit null is the two
        characters ``""``. A location without a field gives the segment as sent.
        """
        if isinstance(location, str):
            location = Location.parse(location)
        if location.plain is None:
            return self._get_chosen(location)
        name, field, component, subcomponent = location.plain
        try:
            segment = self._first[name]
        except KeyError:
            segment = self._first_with_name(name)
        return None if segment is None else segment.first(field, component, subcomponent)

    def all(self, location: Location | str) -> list[str]:
        """Return every value at a location, over all segments and repetitions that it does not exclude.

        Places that are not valued are left out; use `segments` where the position matters.
        """
        if isinstance(location, str):
            location = Location.parse(location)
        segments = self._with_name(location.segment)
        return [value for segment in _chosen(segments, location) for value in segment.every(location)]

    def first(self, name: str) -> Segment | None:
        """Return the first segment of a name, without taking the others apart; None if there is none."""
        return self._first[name] if name in self._first else self._first_with_name(name)

    def segments(self, name: str = "") -> list[Segment]:
        """Return the segments of a name, or all of them, in the order of the message."""
        if name:
            return list(self._with_name(name))
        separator = self.separators.field
        names = [line.partition(separator)[0] for line in self._text.split("\r") if line]
        walk = {name: iter(self._with_name(name)) for name in names}
        return [next(walk[name]) for name in names]

    def texts(self, name: str) -> list[str]:
        """Return the segments of a name as sent, without taking anything apart; those without fields are left out.

        It costs a search where there are none, so that a mapping can ask for everything that might be there.
        """
        text, start = self._text, f"\r{name}{self.separators.field}"
        found = []
        begin = text.find(start)
        while begin >= 0:
            end = text.find("\r", begin + 1)
            found.append(text[begin + 1 :] if end < 0 else text[begin + 1 : end])
            begin = text.find(start, end) if end >= 0 else -1
        return found

    def lines(self) -> list[str]:
        """Return every segment as sent, in the order of the message, without taking anything apart."""
        return [line for line in self._text.split("\r") if line]

    def __repr__(self) -> str:
        """Show type and size alone: a message is patient data."""
        return f"Message({self.header.type}, {len(self.raw)} bytes)"

    def _get_chosen(self, location: Location) -> str | None:
        name = location.segment
        if location.occurrence <= 1 and location.which is None:
            segment = self.first(name)
        else:
            segment = next(_chosen(self._with_name(name), location), None)
        return None if segment is None else segment.at(location)

    def _first_with_name(self, name: str) -> Segment | None:
        """Find the first segment of a name by searching: most are never asked for, and so never taken apart."""
        segment: Segment | None = None
        text = self._text
        begin = text.find(f"\r{name}{self.separators.field}") + 1
        if begin:
            end = text.find("\r", begin)
            line = text[begin:] if end < 0 else text[begin:end]
            segment = Segment(name, line, self.separators, self.encoding)
        elif f"\r{name}" in text:  # a segment without fields has no separator either
            segment = next(iter(self._with_name(name)), None)
        self._first[name] = segment
        return segment

    def _with_name(self, name: str) -> list[Segment]:
        if self._segments is None:
            self._segments = self._by_name()
        return self._segments.get(name, [])

    def _by_name(self) -> dict[str, list[Segment]]:
        named: dict[str, list[Segment]] = {}
        separators, encoding = self.separators, self.encoding
        for line in self._text.split("\r"):
            if line:
                name = line.partition(separators.field)[0]
                named.setdefault(name, []).append(Segment(name, line, separators, encoding))
        return named


def _chosen(segments: list[Segment], location: Location) -> Iterator[Segment]:
    which = location.which
    for number, segment in enumerate(segments, 1):
        if location.occurrence in (0, number) and (
            which is None or segment.get(which.first, which.second or 1) == which.value
        ):
            yield segment
