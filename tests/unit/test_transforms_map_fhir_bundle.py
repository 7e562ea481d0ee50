"""Bundles become events: references among their entries followed, in the order in which they take effect."""

from pathlib import Path
from typing import Any

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Event, Identifier, Location
from broker.errors import MessageError, StepError
from broker.fhir.check import read_resource
from tests.fhir_resources import BASE, Resource, bundle, coded, resource
from transforms.map_fhir import map_bundle, map_fhir, map_resource

DATA = Path(__file__).parents[2] / "../shared/data/fhir"
PATIENT = resource("Patient")


def told(made: Resource, base: str = "") -> list[Event]:
    events = map_bundle(made, base=base)
    assert [decode(encode(event)) for event in events] == events
    return events


def kinds(made: Resource) -> list[str]:
    return [event.kind for event in told(made)]


def entry(method: str, url: str, made: Resource | None = None, **more: Any) -> Resource:
    return {"request": {"method": method, "url": url}, **({"resource": made} if made else {}), **more}


def of(kind: str, *entries: Resource, **more: Any) -> Resource:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more}


@pytest.mark.parametrize("kind", ["collection", "searchset", "transaction", "batch", "message"])
def test_people_come_before_what_happened_to_them(kind: str) -> None:
    observation, patient = resource("Observation"), PATIENT
    order = ["patient.updated", "observation.recorded"]
    assert kinds(bundle(kind, observation, patient)) == (order[::-1] if kind == "batch" else order)


def test_patient_of_the_bundle_is_told_in_full() -> None:
    (observation,) = (
        each for each in told(bundle("collection", PATIENT, resource("Observation"))) if each.observations
    )
    assert observation.patient.family == "Testwood"
    assert observation.patient.mrn == Identifier(value="MR-1", system="urn:oid:1.2.3", type="MR")


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        ("urn:uuid:9a0e", "urn:uuid:9a0e"),
        (f"{BASE}/Patient/p1", "Patient/p1"),
        (f"{BASE}/Patient/p1", f"{BASE}/Patient/p1/_history/2"),
        ("urn:uuid:9a0e", "Patient/p1"),
        ("", "Patient/p1"),
    ],
)
def test_references_are_followed(url: str, reference: str) -> None:
    observation = resource("Observation", subject={"reference": reference})
    patient: Resource = {"resource": PATIENT} | ({"fullUrl": url} if url else {})
    events = told(of("collection", patient, {"fullUrl": f"{BASE}/Observation/o", "resource": observation}))
    assert [event.patient.family for event in events] == ["Testwood", "Testwood"]


def test_the_same_id_of_two_servers_is_not_the_same_patient() -> None:
    here = {"fullUrl": f"{BASE}/Patient/p1", "resource": PATIENT}
    there = {"fullUrl": "https://other.example/Patient/p1", "resource": resource("Patient", name=[{"family": "Other"}])}
    theirs = resource("Observation", subject={"reference": "Patient/p1"})
    for url, family in ((f"{BASE}/Observation/o", "Testwood"), ("https://other.example/Observation/o", "Other")):
        *_, event = told(of("collection", here, there, {"fullUrl": url, "resource": theirs}))
        assert event.patient.family == family
    *_, event = told(of("collection", here, there, {"resource": theirs}))
    assert event.patient.family is None
    *_, event = told(of("collection", there, {"fullUrl": f"{BASE}/Observation/o", "resource": theirs}))
    assert event.patient.family is None
    assert event.patient.mrn == Identifier(value="p1", system=f"{BASE}/Patient", type="RI")


def test_a_patient_that_is_being_created_has_no_id_yet() -> None:
    made = of("transaction", entry("POST", "Patient", resource("Patient", identifier=None), fullUrl="urn:uuid:1"))
    (event,) = told(made, base=BASE)
    assert event.kind == "patient.registered"
    assert event.patient.mrn is None
    assert event.patient.identifiers == ()


def test_observations_of_a_report_are_told_with_it_alone() -> None:
    inside = resource("Observation", id="o1")
    report = resource("DiagnosticReport", contained=None, result=[{"reference": "Observation/o1"}])
    other = resource("Observation", id="o2")
    events = told(bundle("collection", PATIENT, report, inside, other))
    assert [event.kind for event in events] == ["patient.updated", "result.corrected", "observation.recorded"]
    assert len(events[1].results[0].observations) == 1


def test_visits_diagnoses_people_and_places_are_followed() -> None:
    ward = {"resourceType": "Location", "id": "w", "name": "Ward 3", "physicalType": coded("wa")}
    bed = {"resourceType": "Location", "id": "b", "name": "Bed 2", "physicalType": coded("bd"), "partOf": {"reference": "Location/w"}}  # fmt: skip  # noqa: E501
    visit = resource(
        "Encounter",
        id="v1",
        location=[{"location": {"reference": "Location/b"}}],
        diagnosis=[{"condition": {"reference": "Condition/c1"}, "use": coded("AD"), "rank": 1}],
    )
    condition = resource("Condition", id="c1")
    events = told(bundle("collection", PATIENT, visit, condition, ward, bed, resource("Practitioner")))
    assert [event.kind for event in events] == [
        "patient.updated", "encounter.discharged", "condition.recorded", "staff.updated"
    ]  # fmt: skip
    stay = events[1]
    assert stay.encounter
    assert stay.encounter.location == Location(point_of_care="Ward 3", bed="Bed 2")
    assert stay.encounter.attending
    assert stay.encounter.attending.family == "Heal"
    assert [(each.kind, each.rank) for each in stay.conditions] == [("A", 1)]
    assert events[2].encounter == stay.encounter


def test_order_of_a_report_is_followed_to_its_orderer() -> None:
    asked = resource("ServiceRequest", id="s1")
    report = resource("DiagnosticReport", basedOn=[{"reference": "ServiceRequest/s1"}])
    *_, event = told(bundle("collection", PATIENT, asked, report))
    (result,) = event.results
    assert result.order == Identifier(value="P-1", type="PLAC")
    assert result.orderer
    assert result.orderer.family == "Dr Heal"


def test_what_was_not_asked_for_is_no_event() -> None:
    made = bundle("searchset", resource("Appointment"), PATIENT)
    made["entry"][1]["search"] = {"mode": "include"}
    assert kinds(made) == ["appointment.booked"]


def test_history_is_told_from_its_begin() -> None:
    newest = entry("DELETE", "Patient/p1", fullUrl=f"{BASE}/Patient/p1", response={"status": "204", "lastModified": "2026-11-22T00:00:00Z"})  # fmt: skip  # noqa: E501
    older = entry("PUT", "Patient/p1", PATIENT, fullUrl=f"{BASE}/Patient/p1")
    oldest = entry("POST", "Patient", PATIENT, fullUrl=f"{BASE}/Patient/p1")
    events = told(of("history", newest, older, oldest), base=BASE)
    assert [event.kind for event in events] == ["patient.registered", "patient.updated", "patient.deleted"]
    assert events[2].patient.mrn == Identifier(value="p1", system=f"{BASE}/Patient", type="RI")
    assert events[2].occurred_at == "2026-11-22T00:00:00Z"


def test_transaction_deletes_creates_and_updates_in_this_order() -> None:
    made = of(
        "transaction",
        entry("PUT", "Patient/p1", PATIENT),
        entry("POST", "Patient", PATIENT),
        entry("DELETE", "Patient?identifier=urn:mrn|9"),
        entry("GET", "Patient/p1"),
    )
    events = told(made)
    assert [event.kind for event in events] == ["patient.deleted", "patient.registered", "patient.updated"]
    assert events[0].patient.mrn == Identifier(value="9", system="urn:mrn")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (entry("DELETE", "Appointment/7"), "a DELETE of Appointment names no patient"),
        (entry("PATCH", "Patient/7", {"resourceType": "Parameters"}), "a PATCH says only what changes"),
        (entry("PUT", "Observation/7", resource("Observation", subject=None)), "names no patient"),
    ],
)
def test_what_no_event_can_tell_is_refused_with_its_place(made: Resource, words: str) -> None:
    with pytest.raises(StepError, match=words) as caught:
        told(of("transaction", entry("PUT", "Patient/p1", PATIENT), made))
    assert caught.value.location.startswith("Bundle.entry[1].re")


def test_what_has_no_meaning_here_is_passed_over() -> None:
    made = of(
        "batch",
        entry("DELETE", "Location/7"),
        entry("PATCH", "Device/7", {"resourceType": "Parameters"}),
        entry("PUT", "Group/1", {"resourceType": "Group"}),
        entry("PUT", "Observation/1", resource("Observation", subject={"reference": "Device/1"})),
        entry("PUT", "Appointment/1", resource("Appointment", participant=[{"status": "accepted"}])),
        entry("PUT", "Consent/1", resource("Consent", status="proposed")),
    )
    assert kinds(made) == []
    with pytest.raises(StepError, match="nothing in it tells anything"):
        map_fhir(made)


def test_a_merge_that_both_records_tell_is_told_once() -> None:
    survivor = resource("Patient", id="p2", identifier=None, link=[{"type": "replaces", "other": {"reference": "Patient/p1"}}])  # fmt: skip  # noqa: E501
    retired = resource("Patient", link=[{"type": "replaced-by", "other": {"reference": "Patient/p2"}}])
    (event,) = told(bundle("transaction", survivor, retired))
    assert event.kind == "patient.merged"
    assert event.patient.mrn == Identifier(value="p2", system=f"{BASE}/Patient", type="RI")
    assert event.merge
    assert event.merge.mrn.value == "MR-1"


def test_message_says_where_it_came_from() -> None:
    header = {
        "resourceType": "MessageHeader",
        "eventUri": "urn:e",
        "source": {"name": "ehr", "endpoint": "https://ehr.example"},
        "sender": {"display": "Mercy"},
    }
    made = bundle("message", header, PATIENT, identifier={"value": "M-1"}, timestamp="2026-11-20T10:00:00Z")
    (event,) = told(made)
    assert (event.source.application, event.source.facility, event.source.control_id) == ("ehr", "Mercy", "M-1")


HEAD = {
    "resourceType": "Composition",
    "id": "c",
    "identifier": {"value": "DOC-1"},
    "status": "final",
    "type": coded("34133-9", "http://loinc.org"),
    "subject": {"reference": f"{BASE}/Patient/p1"},
    "date": "2026-11-20T10:00:00Z",
    "author": [{"reference": "Practitioner/d1"}],
    "title": "Summary",
    "section": [{"title": "Problems", "text": {"status": "generated", "div": "<div>x</div>"}}],
}


def test_document_is_one_summary_of_all_that_it_holds() -> None:
    head = HEAD
    rest = (resource(kind) for kind in ("Practitioner", "Condition", "AllergyIntolerance", "MedicationRequest", "Observation", "Coverage"))  # fmt: skip  # noqa: E501
    (event,) = told(bundle("document", head, PATIENT, *rest, resource("DiagnosticReport"), resource("Encounter")))
    assert (event.kind, event.occurred_at, event.patient.family) == ("summary.received", head["date"], "Testwood")
    assert event.document
    assert event.document.author
    assert (event.document.title, event.document.author.family) == ("Summary", "Heal")
    assert event.document.attachments[0].url == "Composition.section[0].text"
    assert (len(event.conditions), len(event.allergies), len(event.medications), len(event.results)) == (1, 1, 1, 1)
    assert event.encounter
    with pytest.raises(StepError, match="begins with a Composition"):
        told(bundle("document", PATIENT))


def test_document_takes_nothing_in_about_another_patient() -> None:
    mother = resource(
        "Patient", id="p2", identifier=[{"system": "urn:x", "value": "2"}], contact=[{"name": {"family": "Else"}}]
    )
    (event,) = told(bundle("document", HEAD, PATIENT, mother, resource("Observation", subject=None)))
    assert (event.patient.family, len(event.observations)) == ("Testwood", 1)
    assert "Else" not in repr(event)
    for kind in ("Condition", "Observation", "Encounter", "Appointment"):
        other = {"reference": f"{BASE}/Patient/p2"}
        subject = {"participant": [{"actor": other}]} if kind == "Appointment" else {"subject": other}
        with pytest.raises(StepError, match=rf"entry\[3\].resource: this {kind} is about another patient"):
            told(bundle("document", HEAD, PATIENT, mother, resource(kind, **subject)))
    (event,) = told(bundle("document", HEAD, PATIENT, resource("Condition", subject={"reference": "Group/g"})))
    assert not event.conditions


def test_several_resources_about_one_patient_are_one_event_for_a_channel() -> None:
    made = bundle("transaction", PATIENT, *(resource(kind) for kind in ("Observation", "Condition", "Appointment")))
    event = map_fhir(made)
    assert (event.kind, event.patient.family) == ("appointment.booked", "Testwood")
    assert (len(event.observations), len(event.conditions), len(event.related_people)) == (1, 1, 1)
    assert map_resource(made) == told(made)


@pytest.mark.parametrize(
    "others",
    [
        [resource("Patient", id="p2", identifier=None)],
        [resource("Appointment"), resource("Appointment", status="cancelled")],
        [resource("Patient", link=[{"type": "replaces", "other": {"identifier": {"value": "0"}}}])],
    ],
)
def test_what_is_no_one_event_is_refused_for_a_channel(others: list[Resource]) -> None:
    with pytest.raises(StepError, match=r"split it before|send each by itself"):
        map_fhir(bundle("transaction", PATIENT, *others))


def test_other_peoples_resources_are_mapped_or_refused_with_a_place() -> None:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/fhir, which is not here")
    mapped = known = 0
    refused = []
    for path in sorted(DATA.glob("*.json")):
        try:
            events = map_resource(read_resource(path.read_bytes()), base=BASE)
        except MessageError:
            continue
        except StepError as error:
            refused.append(error)
        else:
            mapped += 1
            assert [decode(encode(event)) for event in events] == events, path.name
            known += sum(event.patient.mrn is not None for event in events)
    assert mapped >= 40
    assert known >= 80
    assert len(refused) < 12
    assert all(error.location.startswith("Bundle.entry") or "tells nothing" in str(error) for error in refused)
