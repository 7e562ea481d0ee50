"""This module tests how HL7 dates and times become FHIR's."""

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.times import fhir_date, fhir_datetime


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("1962", "1962"),
        ("196209", "1962-09"),
        ("19620910", "1962-09-10"),
        ("19620910103000", "1962-09-10"),
        ("198808181126+0215", "1988-08-18"),
        (" 19620910 ", "1962-09-10"),
        ("1962-09-10", "1962-09-10"),
        ("20240229", "2024-02-29"),
        ("Aug 15, 1942", "1942-08-15"),
        ("august 5 1942", "1942-08-05"),
        ("15-AUG-1942", "1942-08-15"),
        ("15 Sept. 1942", "1942-09-15"),
    ],
)
def test_date_is_read_to_the_precision_that_was_sent(sent: str, expected: str) -> None:
    assert fhir_date(sent) == expected


@pytest.mark.parametrize(
    "sent",
    [
        "DOB",
        "08/15/1942",
        "Aux 15, 1942",
        "Aug 35, 1942",
        "31 Feb 1942",
        "Aug 15, 42",
        "19",
        "196213",
        "19620931",
        "20230229",
        "1962091",
        "00000000",
        "",
        "19620910x",
        "1962/09/10",
        "١٩٦٢",
    ],
)
def test_date_is_none_for_what_is_no_date(sent: str) -> None:
    assert fhir_date(sent) is None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20240501103000", "2024-05-01T10:30:00"),
        ("202405011030", "2024-05-01T10:30:00"),
        ("2024050110", "2024-05-01T10:00:00"),
        ("20240501", "2024-05-01"),
        ("20240501103000-0500", "2024-05-01T10:30:00-05:00"),
        ("20240501103000.1234+0115", "2024-05-01T10:30:00.1234+01:15"),
    ],
)
def test_datetime_keeps_the_offset_of_the_sender_and_invents_none(sent: str, expected: str) -> None:
    assert fhir_datetime(sent) == expected


@pytest.mark.parametrize(
    "sent",
    ["20240501240000", "20240501106000", "20240501103060", "202405011030+1500", "202405011030+0160", "20240532103000"],
)
def test_datetime_is_none_for_what_is_no_time(sent: str) -> None:
    assert fhir_datetime(sent) is None


@given(st.dates(min_value=date(1000, 1, 1)))
def test_date_survives_the_way_there_and_back(day: date) -> None:
    assert fhir_date(day.strftime("%Y%m%d")) == day.isoformat()


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.integers(-14 * 60 + 1, 14 * 60))  # noqa: DTZ001 - local on purpose
def test_datetime_is_the_same_instant_as_python_reads_it(moment: datetime, minutes: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    found = fhir_datetime(moment.strftime("%Y%m%d%H%M%S%z"))
    assert found is not None
    assert datetime.fromisoformat(found) == moment


@given(st.text("0123456789+-.T /", max_size=30))
def test_whatever_is_read_is_a_date_that_exists(text: str) -> None:
    found = fhir_datetime(text)
    if found is not None and len(found) >= 10:
        assert date.fromisoformat(found[:10]).isoformat() == found[:10]
    assert (fhir_date(text) or "").count("T") == 0
