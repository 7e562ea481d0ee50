"""A message about several patients goes through a channel once for each of them, and ends as one."""

from pathlib import Path
from typing import Any, Final

import pytest

from config.build import build_index, build_program
from config.program import Program
from tests.project import CHANNEL, Project, plan_of
from transforms.kit import Kit

MSH: Final = "MSH|^~\\&|APP|MERCY|HANDOFF|PRM|20240501103000||{}|MSG1|P|2.5.1"
LISTEN: Final = {"mllp": {"endpoint": "127.0.0.1:0"}}
TO: Final = "+1205555010{{ patient.mrn.value }}"
TEXT: Final = {"sms": {"gateway": "g", "to": TO, "text": "{{ PV1-3.1 | default('') }} {{ event.kind }}"}}
WARD: Final = {"sms": {"gateway": "g", "to": TO, "text": "{{ ward }} {{ event.kind }}"}}
STORE: Final[dict[str, Any]] = {"prm": {}}


def body(kind: str, *segments: str) -> bytes:
    return ("\r".join([MSH.format(kind), "EVN||20240501", *segments]) + "\r").encode()


def patient(number: str, ward: str = "W") -> tuple[str, str]:
    return f"PID|1||{number}^^^MERCY^MR||F{number}", f"PV1|1|I|{ward}||||||||||||||||V{number}"


def tree(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"channel": "adt", "listen": LISTEN, "steps": list(steps), "deliver": {"text": TEXT}, **more}


def program(*steps: dict[str, Any], **more: Any) -> Program:
    return build_program(tree(*steps, **more), Path())


SWAP: Final = body("ADT^A17", *patient("1", "A"), *patient("2", "B"))


def test_each_patient_is_delivered_in_a_lane_of_its_own() -> None:
    steps: tuple[dict[str, Any], ...] = ({"set": {"ward": "PV1-3.1"}}, {"canonical": {}})
    made = program(*steps, order="PID-3[5=MR].1", deliver={"text": WARD})
    (state, step, location, reason, ways), requests = made.process(SWAP, 0.0)
    assert (state, step, location, reason) == ("processed", None, None, None)
    assert [(place, lane) for place, lane, *_ in ways] == [(0, "1"), (1, "2")]
    assert [b"A encounter.swapped" in requests[0], b"B encounter.swapped" in requests[1]] == [True, True]


def test_places_go_on_from_patient_to_patient() -> None:
    ways = {
        "first": TEXT,
        "second": {**TEXT, "when": "patient.mrn.value != '1'"},
        "third": {**TEXT, "after": "first"},
    }
    made = program({"canonical": {}}, deliver=ways)
    (_, _, _, _, found), _ = made.process(SWAP, 0.0)
    assert [(place, lane) for place, lane, *_ in found] == [
        (0, "MERCY|1"), (2, "MERCY|1"), (3, "MERCY|2"), (4, "MERCY|2"), (5, "MERCY|2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        ({"filter": "PV1-3.1 == 'B'"}, {"canonical": {}}),
        ({"canonical": {}}, {"filter": "patient.mrn.value == '2'"}),
    ],
    ids=["before", "after"],
)
def test_part_that_is_filtered_is_filtered_alone(steps: tuple[dict[str, Any], ...]) -> None:
    (state, step, location, reason, ways), requests = program(*steps).process(SWAP, 0.0)
    assert (state, step, location) == ("processed", None, "PID")
    assert reason is not None
    assert reason.startswith("1 filtered, the first at steps.")
    assert "patient 1 of 2: not " in reason
    assert ([place for place, *_ in ways], len(requests)) == ([1], 1)
    assert b"B encounter" in requests[0]


def test_message_is_filtered_when_all_its_parts_are() -> None:
    (state, step, location, reason, ways), _ = program({"canonical": {}}, {"filter": "PV1-2 == 'O'"}).process(SWAP, 0.0)
    assert (state, step, location, ways) == ("filtered", "steps.2.filter", "PID", [])
    assert reason == "patient 1 of 2: not PV1-2 == 'O'"


def test_part_that_fails_fails_the_message_at_its_place_in_it() -> None:
    made = program({"canonical": {}})
    merges = body("ADT^A40", "PID|1||1^^^MERCY^MR", "MRG|2^^^MERCY^MR", "PID|2||3^^^MERCY^MR", "MRG|^^^MERCY^MR")
    (state, _, location, reason, ways), requests = made.process(merges, 0.0)
    assert (state, location, ways, requests) == ("failed", "MRG(2)-1", [], [])
    assert reason is not None
    assert reason.startswith("patient 2 of 2: MRG-1 has no identifier")


@pytest.mark.parametrize(("broken", "place"), [("raise_it", "PID(2)"), ("read_it", "PID(2)-5")])
def test_what_a_script_cannot_do_is_told_with_the_patient(tmp_path: Path, broken: str, place: str) -> None:
    (tmp_path / "rules.py").write_text(
        "from broker.errors import StepError\n"
        "def raise_it(document):\n"
        "    return document if document.event.patient.family == 'F1' else 1 / 0\n"
        "def read_it(document):\n"
        "    if document.message.get('PID-5') == 'F1':\n"
        "        return document\n"
        "    raise StepError('who?', location='PID-5')\n"
    )
    made = build_program(tree({"canonical": {}}, {"script": f"rules.py:{broken}"}), tmp_path)
    (state, _, location, reason, _), _ = made.process(SWAP, 0.0)
    assert (state, location) == ("failed", place)
    assert reason is not None
    assert reason.startswith("patient 2 of 2: ")
    # What it was about before says nothing about the next message.
    (state, _, location, _, _), _ = made.process(body("ADT^A99", *patient("1")), 0.0)
    assert (state, location) == ("failed", "MSH-9")


def test_validation_looks_at_the_whole_message_once() -> None:
    made = program(
        {"set": {"ward": "PV1-3.1"}}, {"validate": {"level": "strict"}}, {"canonical": {}},
        {"filter": "validation.warnings >= 0 and ward in ['A', 'B']"},
    )  # fmt: skip
    whole = body("ADT^A17^ADT_A17", *patient("1", "A"), *patient("2", "B"))
    (state, _, location, reason, ways), _ = made.process(whole.replace(b"EVN||", b"EVN|A17|"), 0.0)
    assert (state, location, reason, len(ways)) == ("processed", None, None, 2)
    made.process(whole.replace(b"EVN||", b"EVN|A17|").replace(b"|I|B", b"|Q|B"), 0.0)
    assert made.warned == {103: 1}  # PV1(2)-2, and not once for each patient
    (state, step, location, reason, _), _ = made.process(whole.replace(b"|I|B", b"||B"), 0.0)
    assert (state, step, location) == ("failed", "steps.2.validate", "PV1(2)-2")
    assert reason is not None
    assert "patient 2" not in reason


def test_more_than_fit_are_refused() -> None:
    made = program({"canonical": {}}, deliver=dict.fromkeys("abc", STORE))
    results = [line for number in range(21) for line in (f"PID|1||{number}^^^M^MR", "OBR|1")]
    (state, _, _, _, ways), _ = made.process(body("ORU^R01", *results), 0.0)
    assert (state, max(place for place, *_ in ways)) == ("processed", 62)
    (state, _, location, reason, _), _ = made.process(body("ORU^R01", *results, "PID|1||99^^^M^MR", "OBR|1"), 0.0)
    assert (state, location) == ("failed", "PID")
    assert reason is not None
    assert "22 patients; at most 21" in reason


def test_channel_without_events_passes_the_message_on_whole() -> None:
    deliver = {"text": {"sms": {"gateway": "g", "to": "+12055550101", "text": "{{ wards }}"}}}
    made = program({"set": {"wards": "PV1[2]-3.1"}}, deliver=deliver)
    (state, _, _, _, ways), requests = made.process(SWAP, 0.0)
    assert (state, len(ways)) == ("processed", 1)
    assert b"B" in requests[0]


@pytest.mark.parametrize("order", ["PID-3[5=MR].1", "patient.mrn.value", "event.patient.mrn.value"])
@pytest.mark.parametrize("mrg", ["2^^^MERCY^MR", "2"])
def test_merge_stands_in_the_lanes_of_both_records(order: str, mrg: str) -> None:
    merge = body("ADT^A40", "PID|1||9^^^X^SS~1^^^MERCY^MR", f"MRG|{mrg}")
    (_, _, _, _, ways), [request] = program({"canonical": {}}, order=order, deliver={"s": STORE}).process(merge, 0.0)
    assert ways == [(0, "1", len(request), "2")]
    (_, _, _, _, ways), _ = program({"canonical": {}}, deliver={"s": STORE}).process(merge, 0.0)
    assert [way[3:] for way in ways] == [("MERCY|2",)]


def test_each_of_several_merges_has_its_own_lanes() -> None:
    merges = body("ADT^A40", "PID|1||1^^^M^MR", "MRG|2^^^M^MR", "PID|1||3^^^M^MR", "MRG|4^^^M^MR")
    (_, _, _, _, ways), _ = program({"canonical": {}}, order="PID-3.1", deliver={"s": STORE}).process(merges, 0.0)
    assert [(way[1], *way[3:]) for way in ways] == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("kind", "segments", "order", "lanes"),
    [
        ("ADT^A24", ("PID|1||1^^^M^MR", "PID|1||2^^^M^MR"), "PID-3.1", ("1", "2")),
        ("ADT^A37", ("PID|1||1^^^M^MR", "PID|1||2^^^M^MR"), None, ("M|1", "M|2")),
        ("ADT^A47", ("PID|1||1^^^M^MR", "MRG|2^^^M^MR"), "PID-3.1", ("1", "2")),
        ("ADT^A44", ("PID|1||1^^^M^MR", "MRG|2^^^M^MR||A7"), "PID-18", ("", "A7")),
        ("ADT^A42", ("PID|1||1", "MRG|2||||V7", "PV1|1|O" + "|" * 17 + "V1"), "PV1-19", ("V1", "V7")),
        ("ADT^A34", ("PID|1|5|1^^^M^MR", "MRG|||A|6"), "PID-2", ("5", "6")),
        ("ADT^A49", ("PID|1||1^^^M^MR", "MRG|||A1"), "PID-3.1", ("1",)),
        ("ADT^A40", ("PID|1||1^^^M^MR", "MRG|1^^^M^MR"), "PID-3.1", ("1",)),
        ("ADT^A40", ("PID|1||1^^^M^MR", "MRG|2^^^M^MR"), "MSH-4", ("MERCY",)),
        ("ADT^A08", ("PID|1||1^^^M^MR",), "PID-3.1", ("1",)),
    ],
)
def test_what_concerns_two_records_stands_in_two_lanes(
    kind: str, segments: tuple[str, ...], order: str | None, lanes: tuple[str, ...]
) -> None:
    more: dict[str, Any] = {} if order is None else {"order": order}
    made = program({"canonical": {}}, deliver={"s": STORE}, **more)
    (state, _, _, reason, ways), _ = made.process(body(kind, *segments), 0.0)
    assert (state, reason) == ("processed", None)
    assert [(way[1], *way[3:]) for way in ways] == [lanes]


def index_of(data: bytes, **index: str) -> list[tuple[str, str]]:
    plan = plan_of(tree({"canonical": {}}, index=index))
    form = plan.format.spec.build(plan.listen.charset)
    return list(build_index(plan, Kit(Path(), form))(form.document(data, 0.0)))


def test_message_is_found_by_each_of_its_patients() -> None:
    assert index_of(SWAP, mrn="PID-3[5=MR].1", visit="PV1-19", app="MSH-3") == [
        ("mrn", "1"), ("visit", "V1"), ("app", "APP"), ("mrn", "2"), ("visit", "V2"),
    ]  # fmt: skip
    assert index_of(body("ADT^A01", *patient("1")), mrn="PID-3.1", bed="PV1-3.3") == [("mrn", "1")]
    assert index_of(body("ADT^A40", *["PID|1||1", "MRG|1"] * 99), mrn="PID-3.1") == [("mrn", "1")]


def test_too_many_destinations_are_found_by_a_check(tmp_path: Path) -> None:
    project = Project(tmp_path)
    ways = "".join(f"  way-{number}:\n    prm: {{}}\n" for number in range(64))
    project.channel(CHANNEL.partition("deliver:")[0] + "deliver:\n" + ways)
    (told,) = project.told()
    assert "at most 63" in told
    assert "deliver" in told
