"""This module finds NUL characters in HL7 messages: no value has one, and PostgreSQL keeps no text with one.

They come from senders that pad their records, or that send more of a buffer than they filled. What pads a message at
its ends is left out; one inside it stands where something was lost, so the sender has to know.
"""

from typing import Final

from broker.errors import NotAccepted
from broker.wire.lines import beginnings
from broker.wire.location import Location

_NUL: Final = "\0"
_CR: Final = "\r"
_PADDING: Final = "\0\r\t \x0b\x1c\x1a"
_MALFORMED: Final = 102  # HL7 table 0357: data type error


def refuse_nul(text: str, separator: str) -> NotAccepted | None:
    """Return the refusal of a message with a NUL inside, or None where all that it has are padding at its end.

    ``text`` is the message from MSH on, its line ends CR.
    """
    at = text.find(_NUL, 0, len(text.rstrip(_PADDING)))
    if at < 0:
        return None
    place = _place_of(text, at, separator)
    reason = f"{place}: there is a NUL character (0x00), which no value has; send the message without it"
    return NotAccepted(reason, code="AE", condition=_MALFORMED, location=place)


def _place_of(text: str, at: int, separator: str) -> str:
    """Return the field in which a character is; where it stands in the name of a segment, its line and column."""
    starts = [0, *(found.end() for found in beginnings(separator).finditer(text, 0, at + 1))]
    begin = starts[-1]
    name = text[begin : begin + 3]
    field = text.count(separator, begin, at) + (name == "MSH")
    line_begin = text.rfind(_CR, 0, at) + 1
    if at <= line_begin + len(name) or (name == "MSH" and line_begin):
        return f"line {text.count(_CR, 0, at) + 1}, column {at - line_begin + 1}"
    occurrence = sum(text.startswith(name, start) for start in starts)
    return str(Location(name, field, occurrence=occurrence if occurrence > 1 else 0))
