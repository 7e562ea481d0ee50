"""This module finds bare HL7 locations in expressions and templates, so that they need no quotes.

Jinja would read ``PID-3.1`` as a subtraction. So each location is masked by a name of the same length (``_000001``)
before Jinja sees the text: every position stays what it was, and errors point at what was written.
"""

import re
from dataclasses import dataclass
from typing import Final

from broker.wire.er7 import Location
from transforms.mistakes import ExpressionError

_CHOICE: Final = r"""(?:[\[(]\s*(?:\d+|\d+(?:\.\d+)?\s*=\s*(?:'[^']*'|"[^"]*"|[^\])'"]*?))\s*[\])])?"""
LOCATION: Final = re.compile(rf"(?<![\w.])[A-Z][A-Z0-9]{{2}}{_CHOICE}-\d+{_CHOICE}(?:[.-]\d+)*(?!\w)", re.ASCII)
_STRING: Final = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_TOKEN: Final = re.compile(rf"(?:{_STRING})|(?P<location>{LOCATION.pattern})", re.DOTALL | re.ASCII)
# The parts of a template in which Jinja reads code; comments and raw blocks are passed over.
_CODE: Final = re.compile(
    r"\{#.*?#\}|\{%[-+]?\s*raw\b.*?\{%[-+]?\s*endraw\b.*?%\}|"
    rf"(?P<code>\{{\{{(?:{_STRING}|(?!\}}\}}).)*\}}\}}|\{{%(?:{_STRING}|(?!%\}}).)*%\}})",
    re.DOTALL,
)


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
    return _Masking(text).source([found.span("code") for found in _CODE.finditer(text) if found["code"]])


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
