"""This module finds what is out of bounds in an HL7 message: NUL characters, and more parts than can be mapped.

NUL comes from senders that pad their records, or that send more of a buffer than they filled. What pads a message at
its ends is left out; one inside it stands where something was lost, and PostgreSQL keeps no text with one.

A message can be kept and looked into whatever its size; mapping and validation take every part of it into their hands.
The bounds are many times what the largest reports and lists have, and what keeps to them takes a worker few seconds.
"""

from typing import Final

from broker.errors import NotAccepted
from broker.wire.header import Separators
from broker.wire.lines import beginnings, is_name
from broker.wire.location import Location

MOST_SEGMENTS: Final = 10_000  # and other lines
MOST_REPETITIONS: Final = 10_000  # of all fields together
MOST_FIELDS: Final = 250_000  # of all segments together

_NUL: Final = "\0"
_CR: Final = "\r"
_PADDING: Final = "\0\r\t \x0b\x1c\x1a"
_LAST_FIELD: Final = 999  # that a location can name
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


def excess_of(text: str, separators: Separators) -> tuple[str, str] | None:
    """Return where a message, as in `refuse_nul`, reaches a bound that it goes beyond, and which; mostly None.

    What stands between marks is one more than these, and MSH-2 has a mark that marks nothing.
    """
    bounds = (
        (_CR, MOST_SEGMENTS, "segments"),
        (separators.repetition, MOST_REPETITIONS, "repetitions of fields"),
        (separators.field, MOST_FIELDS, "fields"),
    )
    for mark, most, what in bounds:
        if mark and text.count(mark) > most:
            at = -1
            for _ in range(most):
                at = text.find(mark, at + 1)
            place = _place_of(text, at + (mark == _CR), separators.field)
            return place, f"the message has more than {most} {what} up to here; send it in several"
    return None


def _place_of(text: str, at: int, separator: str) -> str:
    """Return the field or segment that a character is in; in what begins as no segment does, its line and column."""
    starts = [0, *(found.end() for found in beginnings(separator).finditer(text, 0, at + len("MSH|")))]
    begin = starts[-1]
    name = text[begin : begin + 3]
    line_begin = text.rfind(_CR, 0, at) + 1
    is_in_name = at <= line_begin + len(name)
    if (is_in_name and not (at == begin and is_name(name))) or (name == "MSH" and line_begin):
        return f"line {text.count(_CR, 0, at) + 1}, column {at - line_begin + 1}"
    occurrence = sum(text.startswith(name, start) for start in starts)
    field = 0 if is_in_name else text.count(separator, begin, at) + (name == "MSH")
    return str(Location(name, field if field <= _LAST_FIELD else 0, occurrence=occurrence if occurrence > 1 else 0))
