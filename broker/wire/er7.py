"""This module reads HL7 v2 messages in their vertical-bar form (ER7): lossless, lazy, and fast.

A message keeps its bytes as they came. Segments and fields are split when somebody asks for them, and then kept.
"""

import gc
from collections.abc import Iterable
from typing import Final, Self

from broker.errors import NotAccepted
from broker.wire.bounds import MOST_REPETITIONS, excess_of, refuse_nul
from broker.wire.charset import Charset, decode
from broker.wire.groups import Group
from broker.wire.header import Header, Separators, read_header
from broker.wire.lines import SEGMENTS, beginnings, is_name, small_names, split, unwrap
from broker.wire.location import Location
from broker.wire.segment import LongSegment, Segment

__all__ = ["Group", "Header", "Location", "Message", "Segment", "Separators", "read_header"]

_LONG: Final = 65_536  # characters from which on a segment is not copied
_MANY: Final = 1_048_576  # characters of a message from which on it may have very many segments
_BEGINNINGS: Final = frozenset(name + "|" for name in SEGMENTS)
_BEFORE: Final = "\ufeff\x0b\r\n\t \0"
_AFTER: Final = "\x1c\r\n\0\x1a"  # framing, and what files end with or are filled up with
_STRAY: Final = frozenset("\x1c\0\x1a")
_NO_TEXTS: Final[list[str]] = []


class Message:
    """One message: its bytes as they came (``raw``), its header, and its values by location.

    Lines end with CR, LF or both, and empty lines do not count. A line that begins no segment belongs to the one before
    it (see `broker.wire.lines`). Nothing is checked beyond MSH.
    """

    __slots__ = ("_first", "_lines", "_text", "_texts", "_whole", "encoding", "header", "raw", "separators")

    def __init__(self, raw: bytes, header: Header, text: str, encoding: str) -> None:
        """Take a message that was read; `parse` reads one."""
        self.raw = raw
        self.header = header
        self.separators = header.separators
        self.encoding = encoding  # the codec that the bytes were decoded with
        if not text.startswith("MSH"):
            text = text.lstrip(_BEFORE)
        if not _STRAY.isdisjoint(text[-3:]):
            text = text.rstrip(_AFTER)
        if "\n" in text:
            text = text.replace("\r\n", "\r").replace("\n", "\r")
        self._text = text
        self._first: dict[str, Segment | None] = {}  # the first of each name that somebody asked for
        self._lines: list[tuple[str, str]] | None = None  # name and text of all, once somebody asked for some
        self._texts: dict[str, list[str]] | None = None  # the texts of each name
        self._whole: Group | None = None  # all of them taken apart, once somebody asked for more

    @classmethod
    def parse(cls, raw: bytes, encoding: str | Charset | None = None, header: Header | None = None) -> Self:
        """Read a message; ``encoding`` (a codec, or a name of HL7 table 0211) overrules MSH-18, a `Charset` says more.

        ``header`` is its MSH, where that was read before.

        Raises `MessageError` where MSH cannot be read, or a byte does not belong to the character set.
        """
        header = header or read_header(raw)
        text, codec = decode(raw, header.charset, encoding, "", header[0][2])
        return cls(raw, header, text, codec)

    def check_text(self) -> NotAccepted | None:
        """Return why a message with this text is refused: it has a NUL character, and not as padding; or None."""
        text = self._text or "\r".join(self.lines())
        return refuse_nul(text, self.separators[0]) if "\0" in text else None

    def small_names(self) -> dict[str, int]:
        """Return what lines begin with as segments do, but in small letters: the names, and their first line (from 1).

        Such a line begins no segment: it belongs to the one before it, as any line of text.
        """
        text = self._text or "\r".join(self.lines()).replace("\n", "\r")
        return small_names(text, self.separators[0])

    def excess(self) -> tuple[str, str] | None:
        """Return where this has more parts than can be mapped or validated, and a sentence on it; mostly None."""
        if len(self.raw) <= MOST_REPETITIONS:  # each part is a character at least
            return None
        return excess_of(self._text or "\r".join(self.lines()), self.separators)

    def get(self, location: Location | str) -> str | None:
        r"""Return the value at a location, decoded and unescaped, or None when it is not valued (absent or empty).

        HL7's rule for a shorter name holds: a field without a component is its first component, and that without a
        subcomponent its first subcomponent, so ``PID-8 == 'F'`` and ``MSH-9.1 == 'ADT'`` mean what they say, and
        ``PID-3`` is the id alone. Where no repetition is named the first is meant. An explicit null is the two
        characters ``""``. A location without a field gives the segment as sent.
        """
        if isinstance(location, str):
            location = Location.parse(location)
        plain = location.plain
        if plain is None:
            return self._get_chosen(location)
        name, field, component, subcomponent = plain
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
        return self._group().all(location)

    def first(self, name: str) -> Segment | None:
        """Return the first segment of a name, without taking the others apart; None if there is none."""
        return self._first[name] if name in self._first else self._first_with_name(name)

    def segments(self, name: str = "") -> list[Segment]:
        """Return the segments of a name, or all of them, in the order of the message."""
        return self._group().segments(name)

    def groups(self, name: str) -> list[Group]:
        """Return the groups that segments of a name open, such as ``OBR``: each with what belongs to it.

        A group ends at the next segment of the same level or a higher one; see `broker.wire.groups`.
        """
        return self._group().groups(name)

    def segment_at(self, location: Location) -> Segment | None:
        """Return the segment that a location is in; where it names no number, the first is meant."""
        return self._group().segment_at(location)

    def texts(self, name: str) -> list[str]:
        """Return the segments of a name as sent, without taking them apart; the list is the message's own.

        Every line is looked at once, so that a mapping can ask for everything that might be there.
        """
        texts = self._texts
        if texts is None:
            texts = self._texts = {}
            for found, text in self._split():
                texts.setdefault(found, []).append(text)
        return texts.get(name, _NO_TEXTS)

    def lines(self) -> list[str]:
        """Return every segment as sent, in the order of the message, without taking anything apart."""
        return [text for _, text in self._split()]

    def _split(self) -> list[tuple[str, str]]:
        if self._lines is None:
            self._lines = split(self._text, self.separators[0])
            if len(self._text) > _LONG:
                self._text = ""  # the lines hold all of it, and a document need not be in memory twice
        return self._lines

    def has_several(self, name: str) -> bool:
        """Tell whether more than one segment has a name; mostly that is seen without taking anything apart."""
        text, mark = self._text, f"\r{name}"
        if 0 < len(text) < _LONG and ((begin := text.find(mark)) < 0 or text.find(mark, begin + 4) < 0):
            return False  # splitting a long text into lines is faster than looking for this in it
        return len(self.texts(name)) > 1

    def with_lines(self, lines: Iterable[str]) -> Self:
        """Return a message of segments as in `lines`, MSH the first; its ``raw`` is in the encoding of this one."""
        text = "\r".join([*lines, ""])
        return type(self)(text.replace("\n", "\r").encode(self.encoding, "replace"), self.header, text, self.encoding)

    def __repr__(self) -> str:
        """Show type and size alone: a message is patient data."""
        return f"Message({self.header.type}, {len(self.raw)} bytes)"

    def _get_chosen(self, location: Location) -> str | None:
        if location.occurrence <= 1 and location.which is None and location.within is None:
            segment = self.first(location.segment)
            return None if segment is None else segment.at(location)
        return self._group().get(location)

    def _first_with_name(self, name: str) -> Segment | None:
        """Find the first segment of a name by searching: most are never asked for, and so never taken apart."""
        text, separator = self._text, self.separators[0]
        segment: Segment | None
        if not text:  # it was taken apart before
            segment = next((self._segment(name, line) for line in self.texts(name)), None)
        elif name == "MSH":  # it is one line, whatever follows
            line = text.partition("\r")[0]
            segment = Segment(name, line, self.separators, self.encoding)
        elif not (begin := text.find(f"\r{name}") + 1) and name:
            segment = None
        elif text[begin + 3 : begin + 4] != separator or (name not in SEGMENTS and not is_name(name)):
            # Wrapped text that begins like it, or a segment without fields, which has no separator either.
            segment = self._group().first(name)
        else:
            end = text.find("\r", begin)
            # The usual cases are decided without a pattern: a segment that HL7 knows follows, or nothing does.
            if (text[end + 1 : end + 5] not in _BEGINNINGS or separator != "|") and 0 <= end < len(text) - 1:
                segment = self._last_or_wrapped(begin, name)
            elif end - begin > _LONG or (end < 0 and len(text) - begin > _LONG):
                segment = LongSegment(name, text, begin, end if end > 0 else len(text), self.separators, self.encoding)
            else:
                line = text[begin:end] if end > 0 else text[begin:]
                segment = Segment(name, line, self.separators, self.encoding)
        self._first[name] = segment
        return segment

    def _last_or_wrapped(self, begin: int, name: str) -> Segment:
        text, separator = self._text, self.separators[0]
        following = beginnings(separator).search(text, begin)
        end = following.start() if following else len(text)
        if text.find("\r", begin, end) >= 0:
            text = unwrap(text[begin:end], separator)
            begin, end = 0, len(text)
        if end - begin > _LONG:
            return LongSegment(name, text, begin, end, self.separators, self.encoding)
        return Segment(name, text[begin:end], self.separators, self.encoding)

    def _segment(self, name: str, text: str) -> Segment:
        if len(text) > _LONG:
            return LongSegment(name, text, 0, len(text), self.separators, self.encoding)
        return Segment(name, text, self.separators, self.encoding)

    def _group(self) -> Group:
        if self._whole is None:
            # Looking through a million new objects for cycles costs three times what making them does.
            paused = len(self._text) > _MANY and gc.isenabled()
            if paused:
                gc.disable()
            try:
                self._whole = Group([self._segment(name, text) for name, text in self._split()])
            finally:
                if paused:
                    gc.enable()
        return self._whole
