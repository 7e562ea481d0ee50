"""This module compares the times that senders state, where they can be compared at all, and places them in time."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

_SECONDS: Final = len("2026-11-20T10:30:45")
_DATE: Final = len("2026-11-20")
_YEAR: Final = len("2026")


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


def moment(text: str | None, *, is_end: bool = False) -> float | None:
    """Return when a FHIR dateTime begins, in POSIX seconds, or (``is_end``) when it is over; None where it is none.

    A date, month or year without a time of day is one of UTC; so is a time without an offset.
    """
    if text is None:
        return None
    try:
        if len(text) >= _SECONDS:
            read = datetime.fromisoformat(text)
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        day = date.fromisoformat(f"{text}-01-01"[:_DATE] if len(text) == _YEAR else f"{text}-01"[:_DATE])
    except ValueError:
        return None
    if is_end:
        day = _day_after(day, len(text))
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day_after(day: date, length: int) -> date:
    """Return the day after what a text of a length names: a day, a month or a year."""
    if length == _YEAR:
        return date(day.year + 1, 1, 1)
    return (day + timedelta(days=32)).replace(day=1) if length < _DATE else day + timedelta(days=1)
