"""Bundles about several patients: what is whose follows from the references, and nothing of one is told of another."""

from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from broker.errors import StepError
from broker.fhir.check import read_resource
from config.build import build_index, build_program
from config.program import Program
from console.inspection import Asked, inspect
from tests.fhir_resources import BASE, Resource, bundle, coded, resource
from tests.project import plan_of
from transforms.kit import Kit
from transforms.map_fhir import map_fhir
from transforms.split_bundle import split_bundle

MOST: Final = 63


def patient(number: str, **changes: Any) -> Resource:
    known = {"type": coded("MR", "http://terminology.hl7.org/CodeSystem/v2-0203"), "system": "urn:m", "value": number}
    own = {"resourceType": "Patient", "id": number, "identifier": [known], "name": [{"family": f"F{number}"}]}
    return own | changes


def about(kind: str, number: str, **changes: Any) -> Resource:
    """Return a resource about a patient, found by the address of its entry."""
    name = "patient" if kind == "AllergyIntolerance" else "subject"
    return resource(kind, id=f"{kind}-{number}", **{name: {"reference": f"Patient/{number}"}}, **changes)


def parts_of(made: Resource) -> list[list[str]]:
    """Return the ids of what goes with each patient."""
    found = split_bundle(made, MOST)
    return [[entry["resource"]["id"] for entry in part.message()["entry"]] for part in found]


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "searchset", "history", "message"])
def test_each_resource_goes_with_its_subject(kind: str) -> None:
    made = bundle(kind, patient("1"), patient("2"), about("Observation", "2"), about("AllergyIntolerance", "1"))
    assert parts_of(made) == [["1", "AllergyIntolerance-1"], ["2", "Observation-2"]]
    first, second = split_bundle(made, MOST)
    assert [map_fhir(part.message()).patient.family for part in (first, second)] == ["F1", "F2"]
    assert (str(second), second.place) == ("patient 2 of 2", "Bundle.entry[1]")
    assert second.located("Bundle.entry[1].resource.status and Bundle.entry") == (
        "Bundle.entry[2].resource.status and Bundle.entry[1]"
    )
    assert second.located("Bundle.entry[9]") == "Bundle.entry[9]"
    assert first.message()["type"] == kind


def test_one_patient_and_a_document_are_left_whole() -> None:
    assert parts_of(bundle("transaction", patient("1"), about("Observation", "1"))) == []
    assert parts_of(bundle("document", patient("1"), patient("2"))) == []
    assert split_bundle(patient("1"), MOST) == []


def test_what_is_nobodys_goes_with_each_that_refers_to_it() -> None:
    doctor = resource("Practitioner", id="d1")
    clinic = {"resourceType": "Organization", "id": "o1", "name": "Clinic", "partOf": {"reference": "Organization/o2"}}
    owner = {"resourceType": "Organization", "id": "o2", "name": "Owner"}
    other = {"resourceType": "Organization", "id": "o3", "name": "Nobody refers to it"}
    scan = {"resourceType": "Binary", "id": "b1", "contentType": "text/plain", "data": "eA=="}
    paper = about("DocumentReference", "2", content=[{"attachment": {"url": "Binary/b1"}}])
    treated = patient("1", managingOrganization={"reference": "Organization/o1"})
    seen = about("Observation", "2", performer=[{"reference": "Practitioner/d1"}])
    made = bundle("collection", treated, patient("2"), doctor, clinic, owner, other, scan, paper, seen)
    assert parts_of(made) == [
        ["1", "o1", "o2", "o3"],
        ["2", "d1", "o3", "b1", "DocumentReference-2", "Observation-2"],
    ]


def test_what_refers_to_several_tells_each_of_their_own() -> None:
    head = {
        "resourceType": "MessageHeader", "id": "m", "source": {"name": "ADT"},
        "focus": [{"reference": "Patient/1"}, {"reference": "Patient/2"}],
    }  # fmt: skip
    origin = {
        "resourceType": "Provenance", "id": "p", "target": [{"reference": "Observation/Observation-2"}],
        "agent": [{"who": {"reference": "Practitioner/d1"}}],
    }  # fmt: skip
    group = resource(
        "Appointment",
        id="a",
        participant=[
            {"actor": {"reference": "Patient/1"}, "status": "accepted"},
            {"actor": {"reference": "Patient/2"}, "status": "declined"},
            {"actor": {"reference": "Patient/9"}, "status": "declined"},
            {"actor": {"display": "Room 1"}, "status": "accepted"},
        ],
    )
    doctor = resource("Practitioner", id="d1")
    made = bundle("message", head, patient("1"), patient("2"), about("Observation", "2"), origin, group, doctor)
    first, second, third = split_bundle(made, MOST)
    assert [len(part.message()["entry"]) for part in (first, second, third)] == [3, 6, 2]
    for part, number in ((first, "1"), (second, "2")):
        assert f"Patient/{3 - int(number)}" not in orjson.dumps(part.message()).decode()
        event = map_fhir(part.message())
        assert (event.kind, event.patient.family) == ("appointment.booked", f"F{number}")
        assert event.source.application == "ADT"
    assert "focus" not in third.message()["entry"][0]["resource"]
    assert [each["actor"] for each in third.message()["entry"][1]["resource"]["participant"]] == [
        {"reference": "Patient/9"}, {"display": "Room 1"},
    ]  # fmt: skip


def test_what_is_true_of_the_whole_alone_is_left_out() -> None:
    made = bundle("searchset", patient("1"), patient("2")) | {
        "total": 2,
        "link": [{"relation": "self", "url": f"{BASE}/Patient?_id=1,2"}],
    }
    assert all({"total", "link"}.isdisjoint(part.message()) for part in split_bundle(made, MOST))


def test_whom_nothing_is_told_of_has_no_part() -> None:
    made = bundle("searchset", about("Observation", "1"), about("Observation", "2"), patient("1"), patient("3"))
    made["entry"][3]["search"] = {"mode": "include"}
    plan = {"resourceType": "CarePlan", "id": "c", "subject": {"reference": "Patient/3"}}
    made["entry"].append({"resource": plan})
    made["entry"].append({"request": {"method": "GET", "url": "Patient/3"}})
    assert parts_of(made) == [["Observation-1", "1"], ["Observation-2"]]


def test_records_that_are_merged_are_one_part() -> None:
    kept = patient("1", link=[{"type": "replaces", "other": {"reference": "Patient/2"}}])
    gone = patient("2", active=False, link=[{"type": "replaced-by", "other": {"reference": "Patient/1"}}])
    made = bundle("transaction", patient("3"), gone, kept)
    assert parts_of(made) == [["3"], ["2", "1"]]
    event = map_fhir(split_bundle(made, MOST)[1].message())
    assert event.merge
    assert (event.kind, event.patient.family, event.merge.mrn.value) == ("patient.merged", "F1", "2")


def test_two_versions_and_two_ways_to_name_a_patient_are_one() -> None:
    logical = {"type": "Patient", "identifier": {"system": "urn:m", "value": "1"}}
    made = bundle("collection", patient("1"), patient("1", id="x"), resource("Observation", id="o", subject=logical))
    assert split_bundle(made, MOST) == []
    assert map_fhir(made).patient.family == "F1"
    assert len(split_bundle(bundle("collection", made["entry"][2]["resource"], patient("2")), MOST)) == 2


def test_removal_goes_with_the_patient_that_is_removed() -> None:
    made: Resource = {
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            {"request": {"method": "DELETE", "url": "Patient?identifier=urn:m|7"}},
            {"resource": patient("1"), "request": {"method": "PUT", "url": "Patient/1"}},
            {"request": {"method": "DELETE", "url": "Slot/1"}},
        ],
    }  # fmt: skip
    first, second = split_bundle(made, MOST)
    assert [map_fhir(part.message()).kind for part in (first, second)] == ["patient.deleted", "patient.updated"]
    assert [len(part.message()["entry"]) for part in (first, second)] == [2, 2]


@pytest.mark.parametrize(
    ("extra", "place", "words"),
    [
        ({"resourceType": "Binary", "id": "b", "data": "eA=="}, "Bundle.entry[2].resource", "nobody can say"),
        (resource("Condition", subject=None), "Bundle.entry[2].resource.subject", "names no patient"),
    ],
)
def test_what_nobody_can_say_whose_it_is_is_refused(extra: Resource, place: str, words: str) -> None:
    with pytest.raises(StepError, match=words) as caught:
        split_bundle(bundle("batch", patient("1"), patient("2"), extra), MOST)
    assert caught.value.location == place
    draft = resource("Appointment", participant=[{"status": "accepted", "actor": {"display": "Room"}}])
    assert len(parts_of(bundle("batch", patient("1"), patient("2"), draft | {"id": "free"}))) == 2


def test_more_than_fit_are_refused() -> None:
    made = bundle("batch", *(patient(str(number)) for number in range(5)))
    assert len(split_bundle(made, 5)) == 5
    with pytest.raises(StepError, match="5 patients; at most 4"):
        split_bundle(made, 4)


LISTEN: Final = {"files": {"folder": "in"}}
TEXT: Final = {"sms": {"gateway": "g", "to": "+12055550101", "text": "{{ patient.family }} {{ Bundle.entry[0].resource.id }}"}}  # fmt: skip  # noqa: E501


def tree(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "channel": "b",
        "listen": LISTEN,
        "format": {"fhir": {}},
        "steps": list(steps),
        "deliver": {"t": TEXT},
    } | more


def program(*steps: dict[str, Any], **more: Any) -> Program:
    return build_program(tree(*steps, **more), Path())


def body(*resources: Resource) -> bytes:
    data = orjson.dumps(bundle("collection", *resources))
    read_resource(data)
    return data


def test_channel_sees_each_patient_alone() -> None:
    data = body(patient("1"), patient("2"), about("Observation", "2"))
    (state, _, _, reason, ways), requests = program({"canonical": {}}).process(data, 0.0)
    assert (state, reason) == ("processed", None)
    assert [(place, lane) for place, lane, *_ in ways] == [(0, "urn:m|1"), (1, "urn:m|2")]
    assert [b"F1 1" in requests[0], b"F2 2" in requests[1]] == [True, True]
    (state, _, location, reason, ways), _ = program({"canonical": {}}, {"filter": "patient.family == 'F1'"}).process(
        data, 0.0
    )
    assert (state, location, len(ways)) == ("processed", "Bundle.entry[1]", 1)


def test_channel_is_told_the_place_in_the_whole_and_delivers_nothing() -> None:
    papers = [about("DocumentReference", "2", masterIdentifier={"value": name}) for name in ("a", "b")]
    twice = body(patient("1"), patient("2"), *papers)
    (state, _, location, reason, ways), requests = program({"canonical": {}}).process(twice, 0.0)
    assert (state, location, ways, requests) == ("failed", "Bundle", [], [])
    assert reason is not None
    assert reason.startswith("patient 2 of 2: Bundle: it tells of several slots")


def test_original_of_a_part_is_the_part() -> None:
    made = build_program(
        tree({"canonical": {}}, deliver={"t": {"files": {"folder": "out", "name": "x.json", "content": "original"}}}),
        Path(),
    )
    (_, _, _, reason, _), requests = made.process(body(patient("1"), patient("2")), 0.0)
    assert reason is None
    assert [b"F2" in requests[0], b"F1" in requests[1], len(requests)] == [False, False, 2]


def test_message_is_found_by_each_of_its_patients() -> None:
    plan = plan_of(tree({"canonical": {}}, index={"mrn": "Bundle.entry[0].resource.id"}))
    form = plan.format.spec.build(plan.listen.charset)
    read = build_index(plan, Kit(Path(), form))
    assert list(read(form.document(body(patient("1"), patient("2")), 0.0))) == [("mrn", "1"), ("mrn", "2")]


def test_analyst_is_shown_every_event() -> None:
    seen = inspect(body(patient("1"), patient("2"), about("Observation", "2")), Asked())
    assert [event["patient"]["family"] for event in seen.events] == ["F1", "F2"]
    assert seen.canonical == seen.events[0]
