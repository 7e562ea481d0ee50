"""This module tests which structure a message has, and where in it a segment may follow."""

import pytest

from transforms.dictionary import VERSIONS, dictionary
from transforms.structures import Walk, structure, structure_of


def walk(version: str, name: str, segments: str) -> list[str]:
    """Return what is wrong with an order of segments: ``-X`` is missing, ``?X`` may not come."""
    way = Walk(structure(version, name))
    wrong = [f"?{segment}" for segment in segments.split() if not way.take(segment, 1)]
    return [f"-{missing}" for missing, _ in way.missing()] + wrong


@pytest.mark.parametrize(
    ("version", "name", "segments"),
    [
        ("2.5.1", "ADT_A01", "MSH EVN PID PV1"),
        ("2.5.1", "ADT_A01", "MSH SFT SFT EVN PID PD1 ROL NK1 NK1 PV1 PV2 ROL OBX OBX AL1 PR1 ROL PR1 GT1 IN1 IN2 IN1"),
        ("2.5.1", "ADT_A39", "MSH EVN PID MRG PID PD1 MRG PV1"),
        ("2.5.1", "ORU_R01", "MSH PID PV1 ORC OBR NTE OBX NTE OBX SPM OBX ORC OBR OBX PID OBR DSC"),
        ("2.5.1", "OML_O21", "MSH PID ORC OBR SPM ORC OBR OBX SPM ORC OBR"),
        ("2.5.1", "ORM_O01", "MSH PID ORC OBR NTE OBX ORC RXO ORC"),
        ("2.5.1", "SIU_S12", "MSH SCH PID PV1 RGS AIS NTE AIP RGS AIL"),
        ("2.3", "ADT_A01", "MSH EVN PID PV1 DG1"),
        ("2.1", "ADT_A01", "MSH EVN PID NK1 PV1"),
        ("2.8.2", "VXU_V04", "MSH PID NK1 ORC RXA RXR OBX OBX ORC RXA"),
    ],
)  # fmt: skip
def test_right_order_passes(version: str, name: str, segments: str) -> None:
    assert walk(version, name, segments) == []


@pytest.mark.parametrize(
    ("name", "segments", "wrong"),
    [
        ("ADT_A01", "MSH PID PV1", ["-EVN"]),
        ("ADT_A01", "MSH EVN PID", ["-PV1"]),
        ("ADT_A01", "MSH", ["-EVN", "-PID", "-PV1"]),
        ("ADT_A01", "MSH PID EVN PV1", ["-EVN", "?EVN"]),
        ("ADT_A01", "MSH EVN PID PV1 SCH", ["?SCH"]),
        ("ADT_A01", "MSH EVN PID PV1 IN2", ["-IN1"]),
        ("ADT_A39", "MSH EVN PID PID MRG", ["-MRG"]),
        ("ORU_R01", "MSH PID OBX", ["-OBR"]),
        ("ORM_O01", "MSH PID ORC NTE", ["-OBR or RQD or RQ1 or RXO or ODS or ODT"]),
    ],
)  # fmt: skip
def test_wrong_order_is_told(name: str, segments: str, wrong: list[str]) -> None:
    assert walk("2.5.1", name, segments) == wrong


@pytest.mark.parametrize(
    ("version", "code", "trigger", "declared", "name"),
    [
        ("2.5.1", "ADT", "A04", "ADT_A01", "ADT_A01"),
        ("2.5.1", "ADT", "A04", "", "ADT_A01"),
        ("2.5.1", "ADT", "A04", "ADT_A04", "ADT_A01"),
        ("2.5.1", "ADT", "A28", "", "ADT_A05"),
        ("2.3", "ADT", "A28", "", "ADT_A01"),
        ("2.2", "ADT", "A28", "", "ADT_A28"),
        ("2.5.1", "ADT", "A40", "", "ADT_A39"),
        ("2.3.1", "SIU", "S15", "", "SIU_S12"),
        ("2.5.1", "ACK", "A04", "", "ACK"),
        ("2.5.1", "MDM", "T10", "", "MDM_T02"),
        ("2.5.1", "ZZZ", "Z01", "", ""),
        ("2.5.1", "ADT", "A99", "", ""),
    ],
)
def test_structure_is_found_by_what_is_declared_and_by_the_event(
    version: str, code: str, trigger: str, declared: str, name: str
) -> None:
    assert structure_of(dictionary(version), code, trigger, declared) == name


def test_segments_that_occur_once_are_known() -> None:
    assert {"MSH", "EVN", "PID", "PV1"} <= structure("2.5.1", "ADT_A01").single
    assert "PID" not in structure("2.5.1", "ADT_A39").single
    assert "ROL" not in structure("2.5.1", "ADT_A01").single


def test_unknown_structure_raises() -> None:
    with pytest.raises(KeyError):
        structure("2.5.1", "ADT_A99")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_structure_takes_its_own_segments_in_their_order(version: str) -> None:
    """Each segment once, in the order of the structure, of a choice the first: nothing may be wrong with that."""
    known = dictionary(version)
    for name in known.structures:
        assert walk(version, name, " ".join(_first_of(structure(version, name).tree))) == [], name


def _first_of(group: object) -> list[str]:
    children = getattr(group, "children", ())
    if not children:
        return [getattr(group, "name", "")]
    chosen = children[:1] if getattr(group, "one_of", False) else children
    return [name for child in chosen for name in _first_of(child)]
