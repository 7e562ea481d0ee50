"""This module changes messages: a draft is a copy in which values are set, and segments added and taken out.

What is not changed keeps its bytes: line ends, empty fields at the end, escape sequences, the character set. Only the
segment with a changed value is encoded again, and only if all the rest of it comes out as it came.
"""

import codecs
import re
from typing import Final, Self

from broker.errors import MessageError
from broker.wire.charset import Charset
from broker.wire.er7 import Message
from broker.wire.escape import escape
from broker.wire.header import Separators
from broker.wire.lines import beginnings_in_bytes, is_name
from broker.wire.location import Location
from broker.wire.segment import Segment

_DEFINING: Final = frozenset({"MSH", "BHS", "FHS"})
_DEFINED: Final = 2
_CHARSET: Final = 18
_BLANK: Final = b"\r\n\t \0\x1c\x1a"
_FRAMING: Final = b"\x0b\r\n"
_LINE_END: Final = re.compile(rb"\r\n|[\r\n]")
_STRAY: Final = b"\x1c\0\x1a"
_END: Final = re.compile(rb"[\r\n\x1c\0\x1a]")
_ENDIAN: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Draft:
    """A message that is being changed; the one that it was made from stays as it is."""

    def __init__(self, message: Message) -> None:
        self._wide = _wide_codec(message)
        self._codec = "utf-8" if self._wide or message.encoding == "utf-8-sig" else message.encoding
        self._charset = Charset(message.encoding, undecodable="replace")
        self._separators = message.separators
        data = message.raw.lstrip(_FRAMING) if self._wide else message.raw
        self._framing = message.raw[: len(message.raw) - len(data)]  # single bytes, even in front of wide characters
        self._before, self._pieces = _cut(data.decode(self._wide).encode() if self._wide else data, message)
        self._message: Message | None = message

    @property
    def message(self) -> Message:
        """The message as it stands now."""
        if self._message is None:
            self._message = Message.parse(self.encode(), self._charset)
        return self._message

    def encode(self) -> bytes:
        """Return the bytes of the message as it stands now."""
        data = b"".join((self._before, *self._pieces))
        return self._framing + (data.decode().encode(self._wide) if self._wide else data)

    def set(self, location: Location | str, value: str | None) -> Self:
        r"""Set the value at a location, so that `Message.get` gives it; None empties the place, ``\"\"`` is HL7's null.

        A shorter name means what it means for reading: PID-5 is the first component of PID-5. Fields, components and
        one more repetition are added as needed; a segment is not. Raises `MessageError` with the location.
        """
        if isinstance(location, str):
            location = Location.parse(location)
        if not location.field:
            raise _refused(location, "a value has a place in a field; name one, such as PID-5.1")
        if location.segment in _DEFINING and location.field in (1, _DEFINED, _CHARSET):
            raise _refused(location, "separators and character set hold for the whole message and cannot be changed")
        place = self._place(location)
        if not value and self.message.get(location) is None:
            return self
        try:
            written = escape(value or "", self._separators)
            self._encoded(written, location, "strict")
            self._rewrite(place, location, written)
        except ValueError as error:
            raise _refused(location, str(error)) from None
        self._message = None
        return self

    def append(self, segment: str, after: Location | str | None = None) -> Self:
        """Add a segment, as it is to be sent, behind the one at a location or at the end of the message."""
        name, bar = segment[:3], self._separators.field
        if not is_name(name) or segment[3:4] not in ("", bar) or "\r" in segment or "\n" in segment:
            text = f"a segment is one line that begins with its name and {bar}, such as NTE{bar}1"
            raise MessageError(text, condition=100)
        location = Location.parse(after) if isinstance(after, str) else after
        place = len(self._pieces) - 1 if location is None else self._place(location)
        body, end = _body_and_end(self._pieces[place], first=not place)
        written = self._encoded(segment, location or Location(name), "strict")
        line_end = _LINE_END.match(end)
        # Where the last line has no end, the new last line gets none either; framing stays at the end.
        above = body + (line_end[0] if line_end else self._line_end())
        self._pieces[place : place + 1] = [above, written + end]
        self._message = None
        return self

    def remove(self, location: Location | str) -> Self:
        """Take out the segment at a location; MSH stays."""
        location = Location.parse(location) if isinstance(location, str) else location
        place = self._place(location)
        if not place:
            raise _refused(location, "a message begins with MSH, which cannot be taken out")
        del self._pieces[place]
        self._message = None
        return self

    def _place(self, location: Location) -> int:
        found = self.message.segment_at(location)
        if found is None:
            raise _refused(location, "the message has no such segment; append it first")
        return next(place for place, segment in enumerate(self.message.segments()) if segment is found)

    def _line_end(self) -> bytes:
        found = _LINE_END.search(self._pieces[0])
        return found[0] if found else b"\r"

    def _rewrite(self, place: int, location: Location, written: str) -> None:
        body, end = _body_and_end(self._pieces[place], first=not place)
        text = body.decode(self._codec, "surrogateescape")
        if self._encoded(text, location) != body:
            raise ValueError("the segment cannot be encoded again as it came, so it cannot be changed")
        bar = self._separators.field
        text = re.sub(rf"[\r\n]+ADD(?:{re.escape(bar)}|\Z)", "", text)
        fields = text.split(bar)
        number = location.field - (location.segment in _DEFINING)
        fields += [""] * (number + 1 - len(fields))
        fields[number] = _changed(fields[number], location, written, self._separators, self.message.encoding)
        self._pieces[place] = self._encoded(bar.join(fields), location) + end

    def _encoded(self, text: str, location: Location, errors: str = "surrogateescape") -> bytes:
        try:
            return text.encode(self._codec, errors)
        except UnicodeEncodeError:
            problem = f"the value has a character that the message's character set ({self._codec}) does not have"
            raise _refused(location, problem) from None


def _changed(field: str, location: Location, written: str, separators: Separators, encoding: str) -> str:
    """Return a field with the value at a location changed."""
    _, mark, repeat, _, lower, _ = separators
    repetitions = field.split(repeat) if repeat else [field]
    place = max(location.repetition, 1) - 1
    if location.condition is not None:
        place = _meeting(field, location, separators, encoding)
    if place > len(repetitions) or (place and not repeat):
        raise ValueError(f"the field has {len(repetitions)} repetitions; one more can be added, and no gap left")
    repetitions += [""] * (place + 1 - len(repetitions))
    components = _padded(repetitions[place], mark, location.component)
    component = max(location.component, 1) - 1
    below = _padded(components[component], lower, location.subcomponent)
    below[max(location.subcomponent, 1) - 1] = written
    components[component] = lower.join(below)
    repetitions[place] = mark.join(components)
    return repeat.join(repetitions)


def _meeting(field: str, location: Location, separators: Separators, encoding: str) -> int:
    """Return which repetition (from 0) meets the location's condition."""
    alone = Segment("", separators.field + field, separators, encoding)
    for place, repetition in enumerate(alone.repetitions(1)):
        if location.condition is None or alone.meets(repetition, location.condition):
            return place
    raise ValueError("no repetition of the field meets the condition; add one by its number first")


def _padded(text: str, separator: str, number: int) -> list[str]:
    parts = text.split(separator) if separator else [text]
    if number > 1 and not separator:
        raise ValueError("MSH-2 of the message has no separator for so deep a place")
    return parts + [""] * (number - len(parts))


def _cut(data: bytes, message: Message) -> tuple[bytes, list[bytes]]:
    """Return what stands before MSH, and the segments with their line ends; together they are the data."""
    begin = data.find(b"MSH")
    places = [begin, *(found.end() for found in beginnings_in_bytes(data[begin + 3 : begin + 4]).finditer(data, begin))]
    pieces = [data[place:end] for place, end in zip(places, [*places[1:], len(data)], strict=True)]
    body, rest = _body_and_end(pieces[0], first=True)
    if rest.strip(_BLANK):  # text that follows MSH without being a segment
        gap = len(rest) - len(rest.lstrip(_BLANK))
        pieces[:1] = [body + rest[:gap], rest[gap:]]
    if len(pieces) != len(message.segments()):
        text = "the message's lines cannot be told apart in its character set, so it cannot be changed"
        raise MessageError(text, condition=207)
    return data[:begin], pieces


def _body_and_end(piece: bytes, *, first: bool) -> tuple[bytes, bytes]:
    """Split a piece into the segment and the line ends, framing and fillers behind it; MSH, the first, is one line."""
    found = (_LINE_END if first else _END).search(piece, 0 if first else len(piece.rstrip(_BLANK)))
    end = found.start() if found else len(piece.rstrip(_STRAY))
    return piece[:end], piece[end:]


def _wide_codec(message: Message) -> str:
    """Return the codec of a message in UTF-16 or UTF-32 with its byte order, which keeps the mark as a character."""
    wide = message.header.wide
    raw = message.raw.lstrip(_FRAMING)
    return next((codec for mark, codec in _ENDIAN if raw.startswith(mark)), wide) if wide else ""


def _refused(location: Location, problem: str) -> MessageError:
    return MessageError(f"{location}: {problem}", location=str(location), condition=207)
