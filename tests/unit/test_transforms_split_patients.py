"""Messages about several patients: what is whose, what all of them share, and what nobody can tell."""

import contextlib

import pytest

from broker.canonical.model import Event
from broker.errors import StepError
from broker.wire.er7 import Message
from tests.mapping import parsed
from tests.pace import within
from transforms.map_message import map_message
from transforms.split_patients import Part, split_patients

MOST = 21


def pid(number: str) -> str:
    return f"PID|1||{number}^^^MERCY^MR||Family{number}"


def parts(kind: str, *segments: str) -> list[Part]:
    return split_patients(parsed(kind, *segments), MOST)


def names(part: Part) -> str:
    return " ".join(line[:3] for line in part.message().lines())


def events(found: list[Part]) -> list[Event]:
    return [map_message(part.message()) for part in found]


def mrns(found: list[Part]) -> list[str | None]:
    return [event.patient.mrn.value if event.patient.mrn else None for event in events(found)]


@pytest.mark.parametrize("trigger", ["A39", "A40", "A41", "A43", "A44", "A47", "A50"])
def test_each_pair_of_pid_and_mrg_is_a_part(trigger: str) -> None:
    found = parts(f"ADT^{trigger}", "EVN||20240501", pid("1"), "PD1", "MRG|2^^^MERCY^MR", pid("3"), "MRG|4^^^MERCY^MR")
    assert [names(part) for part in found] == ["MSH EVN PID PD1 MRG", "MSH EVN PID MRG"]
    merges = [(event.patient.mrn, event.merge and event.merge.mrn) for event in events(found)]
    assert [tuple(each.value for each in pair if each) for pair in merges] == [("1", "2"), ("3", "4")]


def test_several_mrg_below_one_pid_are_merges_of_their_own() -> None:
    found = parts("ADT^A45", pid("1"), "PD1", "MRG|2|||||V2", "PV1|1|I", "MRG|3|||||V3", "PV1|2|O")
    assert [names(part) for part in found] == ["MSH PID PD1 MRG PV1"] * 2
    assert [event.merge.mrn.value for event in events(found) if event.merge] == ["2", "3"]
    assert [event.encounter.patient_class for event in events(found) if event.encounter] == ["I", "O"]


def test_swap_is_two_patients_each_with_the_visit_below() -> None:
    found = parts("ADT^A17", "EVN||20240501", pid("1"), "PV1|1|I|W^1^A", pid("2"), "PV1|1|I|W^2^B")
    told = [(event.kind, event.encounter and event.encounter.location) for event in events(found)]
    assert [kind for kind, _ in told] == ["encounter.swapped"] * 2
    assert [place.bed for _, place in told if place] == ["A", "B"]


def test_results_of_several_patients_stay_apart() -> None:
    result = ("OBR|1|||GLU", "OBX|1|NM|GLU||5||||||F")
    found = parts("ORU^R01", pid("1"), *result, pid("2"), *result, "OBX|2|NM|NA||140||||||F", "ZZZ|1")
    assert mrns(found) == ["1", "2"]
    assert [names(part) for part in found] == ["MSH PID OBR OBX", "MSH PID OBR OBX OBX ZZZ"]


def test_pid_that_repeats_the_same_number_repeats_the_patient() -> None:
    assert parts("ORU^R01", pid("1"), "OBR|1", pid("1"), "OBR|2") == []
    found = parts("ORU^R01", pid("1"), "OBR|1", pid("2"), "OBR|2", pid("1"), "OBR|3")
    assert mrns(found) == ["1", "2"]
    assert [len(event.results) for event in events(found)] == [2, 1]


def test_pid_without_numbers_is_nobody_else() -> None:
    found = parts("ORU^R01", "PID|1|||||x", "OBR|1", "PID|2|||||y", "OBR|2")
    assert [names(part) for part in found] == ["MSH PID OBR"] * 2


@pytest.mark.parametrize("kind", ["ORM^O01", "OML^O21", "OMG^O19"])
def test_orders_for_several_patients_stay_apart(kind: str) -> None:
    found = parts(kind, pid("1"), "ORC|NW|1", "OBR|1", pid("2"), "PV1|1|O", "ORC|NW|2", "OBR|1")
    assert mrns(found) == ["1", "2"]
    assert [event.kind for event in events(found)] == ["order.placed"] * 2


@pytest.mark.parametrize(
    "earlier",
    [("ORC|PR", "OBR|1"), ("OBR|1", "OBX|1|NM|NA||1"), ("ORC||1", "OBR|1"), ()],
    ids=["PR", "OBR", "", "none"],
)
def test_earlier_results_below_another_number_are_not_taken_for_another_patient(earlier: tuple[str, ...]) -> None:
    segments = (pid("1"), "ORC|NW|1", "OBR|1", pid("9"), *earlier)
    assert parts("OML^O21", *segments) == []
    with pytest.raises(StepError, match="2 PID segments"):
        map_message(parsed("OML^O21", *segments))
    found = parts("OML^O21", *segments, pid("2"), "ORC|NW|2", "OBR|1")
    assert [names(part).count("PID") for part in found] == [2, 1]


def test_what_stands_above_patients_is_for_all_of_them() -> None:
    found = parts("SIU^S12", "SCH|1|2", "NTE|1||bring it", pid("1"), "PV1|1|O", pid("2"), "RGS|1", "AIS|1", "AIL|1||R5")
    assert [names(part) for part in found] == [
        "MSH SCH NTE PID PV1 RGS AIS AIL",
        "MSH SCH NTE PID RGS AIS AIL",
    ]
    assert [event.appointment.identifier for event in events(found) if event.appointment] == [
        events(found)[0].appointment.identifier  # type: ignore[union-attr] # it is there
    ] * 2
    assert names(parts("SIU^S12", "SCH|1|2", pid("1"), pid("2"), "AIS|1")[0]) == "MSH SCH PID AIS"


@pytest.mark.parametrize("segment", ["PV1|1|I", "PD1|", "OBX|1", "MRG|1"])
def test_patients_segment_before_the_first_pid_is_nobodys(segment: str) -> None:
    with pytest.raises(StepError, match="stands before the first of several PID") as caught:
        parts("ADT^A17", segment, pid("1"), pid("2"))
    assert caught.value.location == segment[:3]


@pytest.mark.parametrize("kind", ["ADT^A24", "ADT^A37", "RSP^K22", "ADR^A19", "XXX^X01", "QBP^Q22"])
def test_one_event_of_two_records_and_lists_of_people_stay_whole(kind: str) -> None:
    assert parts(kind, pid("1"), pid("2")) == []


@pytest.mark.parametrize("segments", [(), (pid("1"), "MRG|2"), (pid("1"), "OBR|1")])
def test_message_about_one_patient_is_no_parts(segments: tuple[str, ...]) -> None:
    assert parts("ADT^A40", *segments) == []


def test_places_in_a_part_are_told_as_places_in_the_message() -> None:
    result = ("OBR|1", "OBX|1", "OBX|2")
    first, second = parts("ORU^R01", pid("1"), *result, *result, pid("2"), *result, "NTE|1")
    told = ("PID-3", "PID-3(2).1", "OBR-4", "OBX(2)-5", "OBR(1)/OBX(2)-5", "OBX[3.1=X]-5", "MSH-9", "PV1-3", "line 7")
    assert [first.located(place) for place in told] == [
        "PID-3", "PID-3(2).1", "OBR-4", "OBX(2)-5", "OBR(1)/OBX(2)-5", "PID/OBX[3.1=X]-5", "MSH-9", "PV1-3", "line 7",
    ]  # fmt: skip
    assert [second.located(place) for place in told] == [
        "PID(2)-3", "PID(2)-3(2).1", "OBR(3)-4", "OBX(6)-5", "OBR(3)/OBX(2)-5", "PID(2)/OBX[3.1=X]-5", "MSH-9", "PV1-3",
        "line 7",
    ]  # fmt: skip
    assert str(second) == "patient 2 of 2"
    for place in ("PID-3", "OBX(2)-1", "OBR(1)/OBX(2)-1"):
        whole = parsed("ORU^R01", pid("1"), *result, *result, pid("2"), *result, "NTE|1")
        assert whole.get(second.located(place)) == second.message().get(place)


@pytest.mark.parametrize("segment", ["PID|1||1", "MRG|1"])
def test_too_many_are_refused(segment: str) -> None:
    with pytest.raises(StepError, match=f"{MOST + 1} patients; at most {MOST}") as caught:
        parts("ADT^A40", *(["PID|1||1"] if segment.startswith("MRG") else []), *[segment] * (MOST + 1))
    assert caught.value.location == "PID"
    assert len(parts("ADT^A40", *["PID|1||1"] * MOST)) == MOST


@pytest.mark.parametrize(("charset", "codec"), [("8859/1", "iso8859-1"), ("UNICODE UTF-8", "utf-8")])
def test_part_keeps_encoding_separators_and_wrapped_lines(charset: str, codec: str) -> None:
    text = f"MSH#*~\\&#A#B#C#D#2024##ORU*R01#1#P#2.5#####XX#{charset}\rPID###1##Müller\rOBR#1\rOBX#1#TX#T##a\rb\r"
    text += "PID###2\rOBR#2\r"
    first, _ = split_patients(Message.parse(text.encode(codec)), MOST)
    message = first.message()
    assert message.get("PID-5") == "Müller"
    assert message.get("OBX-5") == "a\nb"
    assert message.raw == text.partition("PID###2")[0].encode(codec)
    assert Message.parse(message.raw).lines() == message.lines()


@pytest.mark.parametrize("kind", ["ORU^R01", "ORM^O01", "ADT^A40", "ADT^A01"])
@pytest.mark.parametrize("segments", [("PID|1||%s",), ("PID|1||%s", "ORC|NW"), ("OBR|1", "PID|1||%s"), ("MRG|1",)])
def test_very_many_patients_are_refused_in_time(kind: str, segments: tuple[str, ...]) -> None:
    lines = [line % number if "%s" in line else line for number in range(9_000 // len(segments)) for line in segments]
    message = parsed(kind, "PID|1||1", *lines)

    def split() -> None:
        with contextlib.suppress(StepError):
            split_patients(message, MOST)

    assert message.excess() is None
    assert within(0.3, split)
