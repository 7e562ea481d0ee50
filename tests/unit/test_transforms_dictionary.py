"""This module tests whether locations that no version of HL7 has are found."""

import pytest

from transforms.dictionary import check_location


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("PID-55", "PID-55 does not exist in HL7 2.5.1; PID has 39 fields"),
        ("PID-3.15", "PID-3.15 does not exist in HL7 2.5.1; PID-3 (CX) has 10 components"),
        ("PID-3.4.9", "PID-3.4.9 does not exist in HL7 2.5.1; PID-3.4 (HD) has 3 subcomponents"),
        ("PID-8.2", "PID-8.2 does not exist in HL7 2.5.1; PID-8 (IS) is not divided"),
        ("XXX-1", "XXX is no segment of HL7 2.5.1"),
        ("XXX[1]/OBX-5", "XXX is no segment of HL7 2.5.1"),
        ("OBR[1]/OBX-77", "OBX-77 does not exist in HL7 2.5.1; OBX has 25 fields"),
    ],
)
def test_location_that_does_not_exist_is_explained(location: str, says: str) -> None:
    assert check_location(location) == says


@pytest.mark.parametrize(
    "location", ["PID-3[5=MR].1", "PID-3.4.2", "PID-5.1.1", "MSH-9.2", "OBX-5.9", "ZPI-99.9", "PID", "PID-8.1"]
)
def test_location_that_exists_passes(location: str) -> None:
    assert check_location(location) is None


def test_version_decides_and_an_unknown_one_lets_everything_pass() -> None:
    assert check_location("PID-8.2", "2.8") is None
    assert check_location("PID-39", "2.3") is not None
    assert check_location("PID-55", "9.9") is None
