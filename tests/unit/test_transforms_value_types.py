"""This module tests what is a value of HL7's simple data types, hl7apy being the second opinion."""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import pytest
from hl7apy.utils import check_date, check_datetime, check_timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms.value_types import CERTAIN, EXPECTED, is_value

WIDE: Final = "\uff12\uff10\uff12\uff14"  # digits to Unicode, and none to HL7
GOOD: Final = {
    "DT": ["2024", "202405", "20240501", "20240229", "20241231"],
    "TM": ["00", "2359", "235959", "235959.1234", "1030-0500", "1030+1400"],
    "DTM": ["2024", "202405", "20240501", "2024050110", "202405011030", "20240501103000.1+0200", "2024-0500"],
    "NM": ["0", "-1", "+1.5", "1.", ".5", "007"],
    "SI": ["1", "0001", "99999"],
    "SNM": ["+12025550100", "0012"],
    "ST": ["", "anything"],
}
BAD: Final = {
    "DT": [
        "",
        "24",
        "20241",
        "20241301",
        "20240230",
        "20230229",
        "2024-05-01",
        "00000101",
        "20240501 ",
        "\uff12\uff10\uff12\uff14",
    ],
    "TM": ["", "24", "1060", "10:30", "103000.12345", "1030-05", "1030+1500"],
    "DTM": ["", "May 1", "2024050125", "20240501103060", "20240431", "20240501T1030", "202405011030Z"],
    "NM": ["", "-", ".", "1,5", "1e3", ">5", "\u0663"],
    "SI": ["", "-1", "1.0", "A"],
    "SNM": ["", "1 2", "+"],
}
QUICK = settings(max_examples=60, deadline=None)
STAMP = st.from_regex(re.compile(r"[0-9]{3,9}[0-9]{0,6}(\.[0-9]{0,5})?([+-][0-9]{3,5})?", re.ASCII), fullmatch=True)


@pytest.mark.parametrize(("datatype", "text"), [(name, text) for name, texts in GOOD.items() for text in texts])
def test_values_are_taken(datatype: str, text: str) -> None:
    assert is_value(datatype, text)


@pytest.mark.parametrize(("datatype", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_what_is_no_value_is_not_taken(datatype: str, text: str) -> None:
    assert not is_value(datatype, text)
    assert EXPECTED[datatype]


@QUICK
@given(st.sampled_from(sorted(CERTAIN)), STAMP)
def test_what_is_certain_is_a_value(datatype: str, text: str) -> None:
    if re.fullmatch(CERTAIN[datatype], text):
        assert is_value(datatype, text)


@QUICK
@given(st.from_regex(r"[0-9]{3,9}", fullmatch=True))
@example("20240229")
def test_dates_are_those_of_hl7apy(text: str) -> None:
    assert is_value("DT", text) == check_date(text)


@QUICK
@given(STAMP)
@example("20240501103000.1234+0200")
def test_times_are_those_of_hl7apy_where_it_is_right(text: str) -> None:
    """It cuts an offset out wherever the same characters stand, and takes -1300 for none."""
    digits, sign, offset = re.match(r"([0-9.]*)([+-]?)(.*)", text).groups()  # type: ignore[union-attr]
    if sign + offset in digits or offset[:2] in {"13", "14"} or digits.startswith("0000"):
        return
    assert is_value("DTM", text) == check_datetime(text)


@QUICK
@given(st.from_regex(r"[0-9]{1,7}(\.[0-9]{1,4})?", fullmatch=True))
def test_times_of_day_are_those_of_hl7apy(text: str) -> None:
    assert is_value("TM", text) == check_timestamp(text)


@QUICK
@given(st.text(alphabet="+-.0123456789", max_size=8))
def test_numbers_are_those_of_arithmetic(text: str) -> None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = None
    assert is_value("NM", text) == (number is not None)
