"""This module tells whether a text is a value of one of HL7 v2's simple data types (v2.5.1 and 2.9, chapter 2A)."""

import re
from datetime import date
from typing import Final

_MONTH: Final = "(?:0[1-9]|1[0-2])"
_DAY: Final = "(?:0[1-9]|[12][0-9]|3[01])"
_EVERY_MONTH_HAS: Final = "(?:0[1-9]|1[0-9]|2[0-8])"
_MINUTE: Final = "[0-5][0-9]"
_SECOND: Final = rf"{_MINUTE}(?:\.[0-9]{{1,4}})?"
_CLOCK: Final = rf"(?:[01][0-9]|2[0-3])(?:{_MINUTE}(?:{_SECOND})?)?"
_ZONE: Final = rf"(?:[+-](?:0[0-9]|1[0-4]){_MINUTE})?"
_YEAR: Final = "(?!0000)[0-9]{4}"


def _stamp(day: str, clock: str, zone: str) -> str:
    return f"{_YEAR}(?:{_MONTH}(?:{day}{clock})?)?{zone}"


_SIMPLE: Final = {
    "DT": _stamp(_DAY, "", ""),
    "DTM": _stamp(_DAY, f"(?:{_CLOCK})?", _ZONE),
    "TM": _CLOCK + _ZONE,
    "NM": r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)",
    "SI": "[0-9]+",
    "SNM": r"\+?[0-9]+",
}
_CHECKS: Final = {name: re.compile(pattern).fullmatch for name, pattern in _SIMPLE.items()}
_DATED: Final = frozenset({"DT", "DTM"})
_WHOLE_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")

# What matches is a value for certain; what does not may be one (the 29th to the 31st depend on month and year).
CERTAIN: Final = {
    **_SIMPLE,
    "DT": _stamp(_EVERY_MONTH_HAS, "", ""),
    "DTM": _stamp(_EVERY_MONTH_HAS, f"(?:{_CLOCK})?", _ZONE),
}

# What is wrong with a value of the type, and what was expected.
EXPECTED: Final = {
    "DT": "is no date; expected YYYY[MM[DD]]",
    "DTM": "is no date and time; expected YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]",
    "TM": "is no time of day; expected HH[MM[SS[.S[S[S[S]]]]]][+/-ZZZZ]",
    "NM": "is no number; expected digits with an optional sign and decimal point",
    "SI": "is no sequence number; expected digits",
    "SNM": "is no string of digits",
}


def is_value(datatype: str, text: str) -> bool:
    """Tell whether a text is a value of a simple data type; types without a form of their own take any text."""
    check = _CHECKS.get(datatype)
    if check is None:
        return True
    if not check(text):
        return False
    found = _WHOLE_DATE.match(text) if datatype in _DATED else None
    return found is None or _exists(*found.groups())


def _exists(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True
