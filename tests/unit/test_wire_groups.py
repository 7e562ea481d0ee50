"""This module checks which segments belong together, and that a value is found under the right order."""

import pytest

from broker.wire.er7 import Group, Message

ORU = (
    "MSH|^~\\&|A|B|||||ORU^R01|1|P|2.5.1\r"
    "PID|1||11\rPV1|1|I\r"
    "ORC|RE|o1\rOBR|1|o1||CBC\rNTE|1||of order 1\rOBX|1|NM|WBC||5\rNTE|1||of WBC\rOBX|2|NM|RBC||4\r"
    "ORC|RE|o2\rOBR|2|o2||LIPID\rOBX|1|NM|HDL||50\rOBX|2|NM|LDL||90~91\rZRX|z\rSPM|1|s2\rOBX|3|ST|COLOR||red\r"
    "OBR|3|o3||EMPTY\r"
    "PID|2||22\rOBR|4|o4||CBC\rOBX|1|NM|WBC||7\r"
    "DSC|x\r"
)


@pytest.fixture
def oru() -> Message:
    return Message.parse(ORU.encode())


def names(group: Group) -> str:
    return " ".join(segment.name for segment in group.segments())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("OBR", ["OBR NTE OBX NTE OBX", "OBR OBX OBX ZRX SPM OBX", "OBR", "OBR OBX"]),
        ("ORC", ["ORC OBR NTE OBX NTE OBX", "ORC OBR OBX OBX ZRX SPM OBX OBR"]),
        ("OBX", ["OBX NTE", "OBX", "OBX", "OBX ZRX", "OBX", "OBX"]),
        ("SPM", ["SPM OBX"]),
        ("NTE", ["NTE", "NTE"]),
        ("ZRX", ["ZRX"]),
        ("AL1", []),
    ],
)
def test_group_ends_when_a_segment_of_its_level_or_a_higher_one_comes(
    oru: Message, name: str, found: list[str]
) -> None:
    assert [names(group) for group in oru.groups(name)] == found


def test_groups_nest_when_asked_inside_a_group(oru: Message) -> None:
    first, second = oru.groups("PID")
    assert [group.get("OBR-4") for group in first.groups("OBR")] == ["CBC", "LIPID", "EMPTY"]
    assert [group.get("OBX-3") for group in first.groups("OBR")[1].groups("OBX")] == ["HDL", "LDL", "COLOR"]
    assert (second.get("PID-3"), second.get("OBX-5"), second.first("PV1"), second.first("OBR")) == (
        *("22", "7", None),
        second.segments("OBR")[0],
    )
    assert second.all("OBX-5") == ["7"]
    assert len(first.segments()) + len(second.segments()) == len(oru.segments()) - 2


@pytest.mark.parametrize(
    ("location", "value", "every"),
    [
        ("OBR[2]/OBX-5", "50", ["50", "90", "91", "red"]),
        ("OBR[2]/OBX[2]-5", "90", ["90", "91"]),
        ("OBR[2]/OBX[2]-5(2)", "91", ["91"]),
        ("OBR[4=LIPID]/OBX[3=LDL]-5", "90", ["90", "91"]),
        ("OBR[2]/OBX[9]-5", None, []),
        ("OBR[9]/OBX-5", None, []),
        ("OBR[3]/OBX-5", None, []),
        ("OBR[4=CBC]/OBX-5", "5", ["5", "4", "7"]),
        ("OBR/OBX[3=HDL]-5", None, ["50"]),
        ("OBR/NTE-3", "of order 1", ["of order 1", "of WBC"]),
        ("OBR/OBX/NTE-3", "of WBC", ["of WBC"]),
        ("PID[2]/OBR/OBX-5", "7", ["7"]),
        ("PID[2]/ORC/OBX-5", None, []),
        ("ORC[2]/OBR[2]-4", "EMPTY", ["EMPTY"]),
        ("OBR[2]/ZRX-1", "z", ["z"]),
        ("OBR[2]/SPM", "SPM|1|s2", ["SPM|1|s2"]),
    ],
)
def test_value_is_that_of_its_group_when_located(
    oru: Message, location: str, value: str | None, every: list[str]
) -> None:
    assert oru.get(location) == value
    assert oru.all(location) == every


def test_specimens_stand_above_orders_when_they_come_first() -> None:
    message = Message.parse(
        b"MSH|^~\\&|A|B|||||OML^O33|1|P|2.5.1\rPID|1\rSPM|1|a\rSAC|x\rORC|NW|1\rOBR|1\rSPM|2|b\rORC|NW|2\rOBR|2\rOBR|3\r"
    )
    assert [names(group) for group in message.groups("SPM")] == ["SPM SAC ORC OBR", "SPM ORC OBR OBR"]
    assert message.get("SPM[2]/OBR[2]-1") == "3"


def test_order_control_belongs_to_the_request_before_it_when_it_follows() -> None:
    message = Message.parse(
        b"MSH|^~\\&|A|B|||||OUL^R22|1|P|2.5.1\rPID|1\rSPM|1\rOBR|1||f1\rORC|SC|c1\rOBX|1\rOBR|2||f2\rORC|SC|c2\rOBX|1\r"
    )
    assert [names(group) for group in message.groups("OBR")] == ["OBR ORC OBX", "OBR ORC OBX"]
    assert message.get("OBR[3=f2]/ORC-2") == "c2"


def test_insurance_and_scheduling_groups_end_at_their_like() -> None:
    adt = Message.parse(b"MSH|^~\\&|\rPID|1\rPV1|1\rDG1|1\rPR1|1\rROL|1\rIN1|1\rIN2|a\rIN3|b\rIN1|2\rIN2|c\rORC|1\r")
    assert [names(group) for group in adt.groups("IN1")] == ["IN1 IN2 IN3", "IN1 IN2"]
    assert adt.get("IN1[2]/IN2-1") == "c"
    assert names(adt.groups("PR1")[0]) == "PR1 ROL"
    siu = Message.parse(b"MSH|^~\\&|\rSCH|1\rPID|1\rRGS|1\rAIS|1\rNTE|n\rAIP|1\rRGS|2\rAIL|1\r")
    assert [names(group) for group in siu.groups("RGS")] == ["RGS AIS NTE AIP", "RGS AIL"]
    assert names(siu.groups("PID")[0]) == "PID"
