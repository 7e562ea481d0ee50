"""This module checks the grammar of HL7 locations."""

import pytest

from broker.wire.location import Condition, Location


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("PID", Location("PID")),
        ("PID-3", Location("PID", 3)),
        ("PID-3.1", Location("PID", 3, 1)),
        ("PID-3-4-2", Location("PID", 3, 4, 2)),
        (" ZA1-12.3.4 ", Location("ZA1", 12, 3, 4)),
        ("PID-3(2).1", Location("PID", 3, 1, repetition=2)),
        ("PID-3[5=MR].1", Location("PID", 3, 1, condition=Condition(5, 0, "MR"))),
        ("PID-3[ 4.2 = 'a b' ].1", Location("PID", 3, 1, condition=Condition(4, 2, "a b"))),
        ("OBX(3)-5", Location("OBX", 5, occurrence=3)),
        ("OBX[3.1=8302-2]-5", Location("OBX", 5, which=Condition(3, 1, "8302-2"))),
    ],
)
def test_location_is_understood_when_written(text: str, location: Location) -> None:
    assert Location.parse(text) == location
    assert Location.parse(str(location)) == location


@pytest.mark.parametrize(
    "text",
    [
        *("", "pid-3", "PI-3", "PIDD-3", "PID-", "PID.3", "PID-0", "PID-3.0", "PID-3.1.0", "PID-3(0)", "PID-3[x].1"),
        *("PID-3[]", "PID-3[5=].1", "PID-3.1.2.3", "PID-3(2", "1ID-3", "PID-3 4", "PID-1234", "OBX[]-5"),
    ],
)
def test_location_is_refused_when_not_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"location|numbered|brackets"):
        Location.parse(text)
