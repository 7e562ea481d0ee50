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
        ("OBX[3.2='Height (cm) [a]']-5", Location("OBX", 5, which=Condition(3, 2, "Height (cm) [a]"))),
        ('OBX[3.2="it\'s"]-5', Location("OBX", 5, which=Condition(3, 2, "it's"))),
        ("OBR/OBX-5", Location("OBX", 5, within=Location("OBR"))),
        ("OBR[2]/OBX[3]-5", Location("OBX", 5, occurrence=3, within=Location("OBR", occurrence=2))),
        (
            "PID(2)/ORC[2=7]/OBX-5.2",
            Location(
                "OBX", 5, 2, within=Location("ORC", which=Condition(2, 0, "7"), within=Location("PID", 0, 0, 0, 2))
            ),
        ),
        ("/PID-3-1", Location("PID", 3, 1)),
        ("/.OBX(2)-5", Location("OBX", 5, occurrence=2)),
        (".PID-5-2", Location("PID", 5, 2)),
        ("PID.F3.R2.C1.S4", Location("PID", 3, 1, 4, repetition=2)),
        ("PID.F3.S2", Location("PID", 3, 1, 2)),
        ("PV12.F3.C4", Location("PV1", 3, 4, occurrence=2)),
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
        *("OBR/", "OBR-4/OBX-5", "OBR//OBX-5", "obr/OBX-5", "PID.3.1", "PID.F0", "PID.F3.R0", "OBR[x]/OBX-5", "/"),
        "OBR/" * 9 + "OBX-5",
    ],
)
def test_location_is_refused_when_not_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"location|numbered|brackets"):
        Location.parse(text)


@pytest.mark.parametrize("text", ["PID.3", "PID.3.1", "PID:3"])
def test_right_spelling_is_named_when_another_program_writes_it_otherwise(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as PID-3, or PID-3\.1"):
        Location.parse(text)
