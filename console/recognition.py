"""This module recognizes flat files, which only a channel can read: nothing in them says what their columns mean."""

import re
from typing import Any, Final

from broker.wire.charset import mark_of
from broker.wire.delimited import Dialect, sniff_delimiter
from broker.wire.text_lines import SAMPLE

WHAT_TO_DO: Final = "to see what a channel makes of it, name the channel: handoff show FILE --channel NAME"
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}[^A-Za-z0-9\s]")
_FEWEST: Final = 2  # lines that make a table


def flat_kind(data: bytes) -> str:
    """Return the format that a file has by its beginning, ``csv`` or ``fixed``; nothing for what shows no columns."""
    mark = mark_of(data[:4])
    lines = data[:SAMPLE].decode(mark or "utf-8", "replace").splitlines(keepends=True)
    if len(data) > SAMPLE and len(lines) > _FEWEST:
        lines.pop()  # it is not all there
    filled = [line.rstrip("\r\n") for line in lines if line.strip()]
    if len(filled) < _FEWEST or all(_SEGMENT.match(line) for line in filled):
        return ""
    if sniff_delimiter("".join(lines), Dialect()):
        return "csv"
    return "fixed" if len({len(line) for line in filled}) == 1 else ""


def is_plain_json(value: Any) -> bool:
    """Say whether JSON is an object that is no FHIR resource."""
    return isinstance(value, dict) and "resourceType" not in value
