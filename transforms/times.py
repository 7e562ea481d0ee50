"""This module turns HL7 v2 dates and times (DT, DTM, TS) into FHIR's partial date and dateTime.

A time without an offset stays local and without one (``2024-05-01T10:30:00``): inventing an offset would move it.
"""

import re
from datetime import date, datetime
from functools import lru_cache
from typing import Final

# YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]
_STAMP: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,6})?)?)?)?)?)?(?:([+-])(\d\d)(\d\d))?\Z",
    re.ASCII,
)
_WHOLE: Final = 14  # YYYYMMDDHHMMSS
_OFFSET: Final = re.compile(r"([+-](?:0\d|1[0-4]))([0-5]\d)\Z", re.ASCII)
_ISO: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?\Z", re.ASCII)
# As people write it, where there is one way to read it: Aug 15, 1942 and 15-AUG-1942, but not 08/15/1942.
_WRITTEN: Final = re.compile(
    r"(?:([A-Z]{3,9})\.?\s+(\d{1,2}),?\s+|(\d{1,2})[\s-]([A-Z]{3,9})\.?,?[\s-])(\d{4})\Z", re.ASCII | re.IGNORECASE
)
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


@lru_cache(maxsize=4096)
def fhir_date(text: str) -> str | None:
    """Return an HL7 date or time as FHIR partial date; None when it is none.

    A date that is FHIR's already, or one with the month in English, is read as well.
    """
    text = text.strip()
    match = _STAMP.match(text) or _ISO.match(text)
    return _date_of(match) if match else _written(text)


def _written(text: str) -> str | None:
    match = _WRITTEN.match(text)
    if match is None:
        return None
    name = (match[1] or match[4]).lower()
    number = next((at for at, month in enumerate(_MONTHS, 1) if name in (month, month[:3], month[:4])), None)
    month, day, year = f"{number or 0:02}", f"{int(match[2] or match[3]):02}", match[5]
    return f"{year}-{month}-{day}" if number and year != "0000" and _exists(year, month, day) else None


# What a pattern of a date may be made of besides plain characters (strptime's letters).
_PARTS: Final = {"d": "day", "m": "month", "b": "month's short name", "B": "month's name", "Y": "year with four digits"}


def pattern_mistake(pattern: str) -> str | None:
    """Return what is wrong with the pattern of a date, or None."""
    letters = re.findall(r"%(.?)", pattern)
    wrong = next((letter for letter in letters if letter not in _PARTS), None)
    if wrong == "y":
        return "a year with two digits may be of either century; have the sender write four (%Y)"
    if wrong is not None or "Y" not in letters or len(set(letters)) != len(letters):
        return "a pattern of a date has %Y, %m (or %b, %B) and %d, each once, such as %m/%d/%Y"
    return None


@lru_cache(maxsize=4096)
def date_by(text: str, pattern: str) -> str | None:
    """Return a date that is written by a pattern as FHIR partial date; None when it is not."""
    if pattern_mistake(pattern) is not None:
        return None
    try:
        found = datetime.strptime(text.strip(), pattern)  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return None
    whole = found.strftime("%Y-%m-%d") if found.year > 999 else f"{found.year:04}-{found:%m-%d}"  # noqa: PLR2004
    if "%d" in pattern:
        return whole
    return whole[:7] if any(month in pattern for month in ("%m", "%b", "%B")) else whole[:4]


def fhir_datetime(text: str) -> str | None:
    """Return an HL7 time as FHIR dateTime to the precision that was sent; None when it is no time.

    Minutes and seconds that were not sent are zero, because FHIR has no dateTime by the hour or minute.
    """
    digits = text[:_WHOLE]
    if len(digits) == _WHOLE and digits.isdecimal() and digits.isascii():
        offset = _offset(text[_WHOLE:]) if len(text) > _WHOLE else ""
        if offset is not None:
            return _whole(digits, offset)
    match = _STAMP.match(text.strip())
    if match is None:
        return None
    day = _date_of(match)
    hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()[3:]
    if day is None or hour is None:
        return day
    if hour > "23" or (minute or "00") > "59" or (second or "00") > "59":
        return None
    offset = ""
    if sign:
        if offset_hours > "14" or offset_minutes > "59":
            return None
        offset = f"{sign}{offset_hours}:{offset_minutes}"
    return f"{day}T{hour}:{minute or '00'}:{second or '00'}{fraction or ''}{offset}"


def _whole(text: str, offset: str) -> str | None:
    """Read YYYYMMDDHHMMSS, the usual form, in a quarter of the time."""
    day = fhir_date(text[:8])
    hour, minute, second = text[8:10], text[10:12], text[12:]
    if day is None or hour > "23" or minute > "59" or second > "59":
        return None
    return f"{day}T{hour}:{minute}:{second}{offset}"


@lru_cache(maxsize=128)
def _offset(text: str) -> str | None:
    """Return an offset such as ``-0500`` as FHIR writes it, or None when it is none."""
    found = _OFFSET.match(text)
    return f"{found[1]}:{found[2]}" if found else None


def _date_of(match: re.Match[str]) -> str | None:
    year, month, day = match.group(1, 2, 3)
    if year == "0000":
        return None
    if month is None:
        return year
    if not "01" <= month <= "12":
        return None
    if day is None:
        return f"{year}-{month}"
    if not _exists(year, month, day):
        return None
    return f"{year}-{month}-{day}"


def _exists(year: str, month: str, day: str) -> bool:
    if "01" <= day <= "28":
        return True
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True
