"""This module compares the times that senders state, where they can be compared at all."""

from datetime import datetime
from typing import Final

_SECONDS: Final = len("2026-11-20T10:30:45")


def is_older(time: str | None, than: str | None) -> bool:
    """Say whether one FHIR dateTime surely lies before another.

    Times of the same precision, both without an offset, compare as text; two with offsets compare as instants.
    Everything else (one is not said, a date against a time, one with an offset against one without) is not comparable,
    and then the answer is False: what arrives later counts.
    """
    if time is None or than is None or time == than:
        return False
    if len(time) == len(than) and time[_SECONDS:] == than[_SECONDS:]:
        return time < than
    first, second = _instant(time), _instant(than)
    return first is not None and second is not None and first < second


def _instant(text: str) -> datetime | None:
    if len(text) <= _SECONDS:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else None
