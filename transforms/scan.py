"""This module finds bare HL7 locations in expressions and templates, so that they need no quotes.

Jinja would read ``PID-3.1`` as a subtraction. So each location is masked by a name of the same length (``_000001``)
before Jinja sees the text: every position stays what it was, and errors point at what was written.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.wire.er7 import Location
from transforms.mistakes import ExpressionError

# Repetitions are bounded or possessive, or end at one place only: no text, however odd, takes more than linear time.
# Not possessive is what can begin another round and not end it: up to 3.11.2 Python goes on in the middle (gh-100061).
_VALUE: Final = r"""(?:'[^']{0,200}'|"[^"]{0,200}"|[^\])'"]{0,200}?)"""
_CHOICE: Final = rf"(?:[\[(]\s{{0,9}}(?:\d{{1,9}}|\d{{1,3}}(?:\.\d{{1,3}})?\s{{0,9}}=\s{{0,9}}{_VALUE})\s{{0,9}}[\])])?"
_SEGMENT: Final = rf"[A-Z][A-Z0-9]{{2}}{_CHOICE}"
LOCATION: Final = re.compile(
    rf"(?<![\w.])(?:{_SEGMENT}/){{0,8}}{_SEGMENT}-\d{{1,9}}{_CHOICE}(?:[.-]\d{{1,9}})*(?!\w|[.-]\d)", re.ASCII
)
_STRING: Final = r"""'(?:\\.|[^'\\])*+'|"(?:\\.|[^"\\])*+\""""
_TOKEN: Final = re.compile(rf"(?:{_STRING})|(?P<location>{LOCATION.pattern})", re.DOTALL | re.ASCII)
# Where Jinja begins to read code, a comment or raw text in a template, and where it ends.
_OPENING: Final = re.compile(r"\{%[-+]?\s{0,99}raw\s{0,99}[-+]?%\}|\{\{|\{%|\{#")
_ENDCOMMENT: Final = re.compile(r"#\}")
_ENDRAW: Final = re.compile(r"\{%[-+]?\s{0,99}endraw\s{0,99}[-+]?%\}")
_IN_CODE: Final = {end: re.compile(rf"{_STRING}|(?P<end>{re.escape(end)})", re.DOTALL) for end in ("}}", "%}")}


@dataclass(frozen=True, slots=True)
class Source:
    """What was written (``text``), the same with locations masked, and the location behind each mask."""

    text: str
    masked: str
    locations: dict[str, Location]

    def written(self, name: str) -> str:
        """Return what was written where the masked text has a name."""
        position = self.masked.find(name) if name in self.locations else -1
        return name if position < 0 else self.text[position : position + len(name)]

    def mistake(self, text: str, position: int, length: int, hint: str = "") -> ExpressionError:
        """Return an error that points into the text as written."""
        return ExpressionError(text, source=self.text, position=position, length=length, hint=hint)


def read_expression(text: str) -> Source:
    """Mask the locations of an expression; raise `ExpressionError` for one that cannot be."""
    return _Masking(text).source([(0, len(text))])


def read_template(text: str) -> Source:
    """Mask the locations in the code of a template; raise `ExpressionError` for one that cannot be."""
    return _Masking(text).source(list(_code(text)))


def _code(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the code of a template is; what does not end is left to Jinja to complain about."""
    position = 0
    while opening := _OPENING.search(text, position):
        mark = opening[0]
        if mark in ("{{", "{%"):
            tokens = _IN_CODE["}}" if mark == "{{" else "%}"].finditer(text, opening.end())
            end = next((token.end() for token in tokens if token["end"]), None)
            if end is not None:
                yield opening.start(), end
        else:
            closing = (_ENDCOMMENT if mark == "{#" else _ENDRAW).search(text, opening.end())
            end = closing.end() if closing else None
        if end is None:
            return
        position = end


class _Masking:
    """Replaces locations by names, part by part."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._names: dict[str, str] = {}  # location as written -> mask
        self._locations: dict[str, Location] = {}

    def source(self, spans: list[tuple[int, int]]) -> Source:
        pieces, end = [], 0
        for start, stop in spans:
            pieces += [self._text[end:start], _TOKEN.sub(self._mask, self._text[start:stop])]
            end = stop
        return Source(self._text, "".join([*pieces, self._text[end:]]), self._locations)

    def _mask(self, found: re.Match[str]) -> str:
        written = found["location"]
        if written is None:
            return found[0]
        if written not in self._names:
            name = f"_{len(self._names):0{len(written) - 1}}"
            self._locations[name] = self._location(written)
            self._names[written] = name
        return self._names[written]

    def _location(self, written: str) -> Location:
        try:
            return Location.parse(written)
        except ValueError as error:
            position = self._text.find(written)
            raise ExpressionError(str(error), source=self._text, position=position, length=len(written)) from None
