"""FHIR resources become canonical events: each kind with what it says, its patient, and when it happened."""

from typing import Any

import orjson
import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import KINDS, WITHOUT_PATIENT, Event, Identifier, Location
from broker.errors import StepError
from broker.wire.strict_json import read_json
from tests.fhir_resources import BASE, SUBJECT, coded, resource
from tests.fhir_resources import KINDS as RESOURCES
from transforms.map_fhir import map_fhir, map_resource

P1 = Identifier(value="p1", system=f"{BASE}/Patient", type="RI")


def told(kind: str, base: str = "", **changes: Any) -> Event:
    event = map_fhir(resource(kind, **changes), base=base)
    assert decode(encode(event)) == event
    assert event.kind in KINDS
    return event


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_resource_is_an_event_about_its_patient(kind: str) -> None:
    event = told(kind)
    assert event.source.message_type == kind
    if event.kind in WITHOUT_PATIENT:
        assert event.patient.mrn is None
    elif kind != "Patient":
        assert event.patient.mrn == P1
    assert map_resource(resource(kind)) == [event]


def test_patient() -> None:
    event = told("Patient")
    patient = event.patient
    assert (event.kind, event.occurred_at) == ("patient.updated", "2026-11-20T10:00:00Z")
    assert (event.source.application, event.source.control_id) == ("urn:ehr", "p1/_history/3")
    assert patient.mrn == Identifier(value="MR-1", system="urn:oid:1.2.3", type="MR")
    assert [each.type for each in patient.identifiers] == ["MR", "SS", "MR", "RI"]
    assert (patient.family, patient.given, patient.sex, patient.birth_date) == (
        "Testwood",
        "Ada",
        "female",
        "1962-09-10",
    )
    assert (patient.mobile, patient.email, patient.language) == ("+12055550123", "ada@example.org", "en")
    assert (patient.marital_status, patient.multiple_birth, patient.birth_order) == ("M", True, 2)
    assert (patient.birth_place, patient.active) == ("Mobile, AL", True)
    assert patient.race
    assert (patient.race.code, patient.race.text) == ("2106-3", "White")
    assert patient.general_practitioner
    assert patient.general_practitioner.family == "Dr Known"
    assert [(each.role, each.names[0].family) for each in event.related_people] == [("next-of-kin", "Kin")]


def test_patient_without_record_number_is_known_by_the_servers_id_where_the_server_is_known() -> None:
    ssn = [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "000112222"}]
    assert told("Patient", identifier=ssn).patient.mrn is None
    assert told("Patient", identifier=ssn, base=f"{BASE}/").patient.mrn == P1
    old = [{"use": "old", "type": coded("MR"), "value": "OLD"}]
    assert told("Patient", identifier=old).patient.mrn is None


def test_first_version_of_a_patient_is_registered() -> None:
    assert told("Patient", meta={"versionId": "1"}).kind == "patient.registered"


def test_the_dead_are_dead_whichever_way_it_is_said() -> None:
    dead = told("Patient", deceasedDateTime="2026-11-01").patient
    assert (dead.deceased, dead.deceased_at) == (True, "2026-11-01")
    assert told("Patient", deceasedBoolean=False).patient.deceased is False


def test_confidential_patients_are_marked() -> None:
    assert told("Patient", meta={"security": [{"code": "R"}]}).patient.confidential is True
    assert told("Patient").patient.confidential is None


@pytest.mark.parametrize(
    ("reference", "mrn"),
    [
        ({"reference": f"{BASE}/Patient/p1/_history/4"}, P1),
        ({"reference": "Patient/p1"}, None),
        ({"reference": "Patient?identifier=urn:mrn|77"}, Identifier(value="77", system="urn:mrn")),
        ({"reference": "Patient/p1", "identifier": {"system": "s", "value": "9"}}, Identifier(value="9", system="s")),
        ({"identifier": {"system": "s", "value": "9"}}, Identifier(value="9", system="s")),
        ({"reference": "#gone"}, None),
        ({"display": "Somebody"}, None),
    ],
)
def test_patient_is_known_by_what_a_reference_says(reference: dict[str, Any], mrn: Identifier | None) -> None:
    assert told("Observation", subject=reference).patient.mrn == mrn


def test_patient_of_a_relative_reference_is_known_with_the_senders_server() -> None:
    relative = {"reference": "Patient/p1"}
    assert told("Observation", subject=relative, base=BASE).patient.mrn == P1
    assert told("Observation", subject=relative).patient.identifiers == (Identifier(value="p1", type="RI"),)


def test_contained_patient_is_told_in_full() -> None:
    inside = resource("Patient", id="me")
    event = told("Observation", subject={"reference": "#me"}, contained=[inside], base=BASE)
    assert event.patient.family == "Testwood"
    assert "me" not in [each.value for each in event.patient.identifiers]


def test_resource_about_nobody_or_something_else_is_refused_with_its_place() -> None:
    with pytest.raises(StepError, match="names no patient") as caught:
        told("Observation", subject=None)
    assert caught.value.location == "Observation.subject"
    with pytest.raises(StepError, match="is no patient"):
        told("Observation", subject={"reference": "Location/1"})
    with pytest.raises(StepError, match="Location tells nothing"):
        map_fhir({"resourceType": "Location"})
    with pytest.raises(StepError, match="this resource tells nothing"):
        map_fhir({"resourceType": "Okafor"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("proposed", "appointment.requested"),
        ("booked", "appointment.booked"),
        ("checked-in", "appointment.arrived"),
        ("noshow", "appointment.no_show"),
        ("cancelled", "appointment.cancelled"),
        ("entered-in-error", "appointment.cancelled"),
    ],
)
def test_appointment_kinds(status: str, kind: str) -> None:
    assert told("Appointment", status=status).kind == kind


def test_appointment() -> None:
    slot = told("Appointment").appointment
    assert slot
    assert slot.identifier == Identifier(value="S-1", system="urn:slots")
    assert (slot.starts_at, slot.minutes, slot.priority) == ("2026-12-01T09:00:00+01:00", 30, "5")
    assert [each.family for each in slot.practitioners] == ["Dr Heal"]
    assert slot.locations == (Location(point_of_care="Room 7"),)
    assert [each.text for each in slot.resources] == ["Scanner"]
    assert [each.text for each in slot.services] == ["Check-up"]


@pytest.mark.parametrize(
    ("status", "meta", "kind"),
    [
        ("planned", None, "encounter.planned"),
        ("in-progress", {"versionId": "1"}, "encounter.admitted"),
        ("in-progress", {"versionId": "2"}, "encounter.updated"),
        ("onleave", None, "encounter.leave_began"),
        ("finished", None, "encounter.discharged"),
        ("cancelled", None, "encounter.plan_cancelled"),
        ("entered-in-error", None, "encounter.deleted"),
        ("unknown", None, "encounter.updated"),
    ],
)
def test_encounter_kinds(status: str, meta: dict[str, Any] | None, kind: str) -> None:
    assert told("Encounter", status=status, meta=meta).kind == kind


def test_encounter() -> None:
    visit = told("Encounter").encounter
    assert visit
    assert (visit.patient_class, visit.service, visit.disposition, visit.origin) == ("I", "Medicine", "home", "emd")
    assert (visit.location, visit.prior_location) == (
        Location(point_of_care="Ward 2"),
        Location(point_of_care="Ward 1"),
    )
    assert visit.attending
    assert visit.referring
    assert [visit.attending.family, visit.referring.family, *(each.family for each in visit.consulting)] == [
        "Dr Heal", "Dr Refer", "Dr Consult"
    ]  # fmt: skip
    assert visit.preadmit == Identifier(value="PRE-1")
    planned = told("Encounter", status="planned").encounter
    assert planned
    assert (planned.discharged_at, planned.expected_discharge_at) == (None, "2026-11-20T12:00:00Z")


def test_condition_allergy_and_immunization() -> None:
    (condition,) = told("Condition").conditions
    assert condition.code
    assert (condition.code.code, condition.code.text, condition.code.alternates[0].code) == ("38341003", "HTN", "I10")
    assert (condition.clinical_status, condition.abated_at, condition.notes) == (
        "active", "2026-01", ("onset: 52 a", "watch")
    )  # fmt: skip
    (allergy,) = told("AllergyIntolerance").allergies
    assert (allergy.severity, len(allergy.reactions), allergy.category) == ("severe", 2, "medication")
    (vaccine,) = told("Immunization").immunizations
    assert vaccine.reason
    assert vaccine.manufacturer
    assert (vaccine.status, vaccine.reason.code, vaccine.historical, vaccine.manufacturer.name) == (
        "not-done", "PATOBJ", False, "Maker"
    )  # fmt: skip


def test_medications() -> None:
    event = told("MedicationRequest")
    (asked,) = event.medications
    assert (event.kind, asked.kind, asked.frequency) == ("medication.prescribed", "request", "2 per 1 d")
    assert (asked.dose, asked.dose_unit, asked.quantity, asked.refills) == ("1", "TAB", "60", 3)
    assert (asked.starts_at, asked.ends_at) == ("2026-11-20", "2027-11-20")
    event = told("MedicationStatement")
    (taken,) = event.medications
    assert taken.code
    assert taken.form
    assert (event.kind, taken.code.text, taken.frequency, taken.starts_at) == (
        "medication.recorded", "Aspirin", "QD", "2026-01-01"
    )  # fmt: skip
    assert event.encounter
    assert event.encounter.identifier == Identifier(value="v1", system=f"{BASE}/Encounter", type="RI")
    assert told("MedicationDispense").kind == "medication.dispensed"
    (given,) = told("MedicationAdministration").medications
    assert (given.dose, given.dose_unit, given.starts_at) == ("5", "mg", "2026-11-20T10:00:00Z")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('"valueQuantity": {"value": 4.10, "unit": "mmol/L", "comparator": ">"}', ("4.10", "quantity", "mmol/L", ">")),
        ('"valueCodeableConcept": {"text": "red"}', ("red", "concept", None, None)),
        ('"valueString": "seen"', ("seen", "string", None, None)),
        ('"valueBoolean": false', ("false", "boolean", None, None)),
        ('"valueInteger": 7', ("7", "quantity", None, None)),
        ('"valueRange": {"low": {"value": 1, "unit": "g"}}', (">= 1", "range", "g", None)),
        ('"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}', ("1:128", "ratio", None, None)),
        ('"valueSampledData": {"data": "1 2", "origin": {"value": 0, "unit": "mV"}}', ("1 2", "string", "mV", None)),
        ('"valueTime": "10:00:00"', ("10:00:00", "time", None, None)),
        ('"valueDateTime": "2026"', ("2026", "datetime", None, None)),
        ('"valuePeriod": {"start": "2026"}', ("2026/", "datetime", None, None)),
        ('"dataAbsentReason": {"coding": [{"code": "error"}]}', (None, None, None, None)),
    ],
)
def test_values_of_every_type(value: str, found: tuple[str | None, ...]) -> None:
    text = orjson.dumps(resource("Observation", component=None))
    (seen,) = map_fhir(read_json(text[:-1] + b"," + value.encode() + b"}")).observations
    assert (seen.value, seen.value_type, seen.unit, seen.comparator) == found


def test_observation_with_components() -> None:
    (seen,) = told("Observation").observations
    systolic, diastolic = seen.components
    assert (systolic.value, systolic.comparator, diastolic.value) == ("128", "<", None)
    assert (seen.category, seen.interpretation, seen.observed_at) == ("vital-signs", "H", "2026-11-20T10:00:00Z")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("registered", "result.preliminary"),
        ("final", "result.final"),
        ("appended", "result.corrected"),
        ("cancelled", "result.cancelled"),
    ],
)
def test_report_kinds(status: str, kind: str) -> None:
    assert told("DiagnosticReport", status=status).kind == kind


def test_report_with_what_was_observed() -> None:
    (report,) = told("DiagnosticReport").results
    assert (report.order, report.category, report.observed_at) == (Identifier(value="PLACER-1"), "LAB", "2026-11-19")
    assert [(each.value, each.reference_range) for each in report.observations] == [("4", "3-5")]
    assert [each.content_type for each in report.attachments] == ["application/pdf"]


def test_members_of_a_panel_are_told_once_even_where_they_point_in_circles() -> None:
    panel = {"resourceType": "Observation", "id": "a", "status": "final", "code": coded("p")}
    other = panel | {"id": "b", "hasMember": [{"reference": "#a"}]}
    inside = [panel | {"hasMember": [{"reference": "#b"}]}, other]
    (report,) = told("DiagnosticReport", contained=inside, result=[{"reference": "#a"}]).results
    assert len(report.observations) == 2


@pytest.mark.parametrize(
    ("status", "order", "referral"),
    [
        ("active", "order.placed", "referral.requested"),
        ("on-hold", "order.updated", "referral.updated"),
        ("revoked", "order.cancelled", "referral.cancelled"),
    ],
)
def test_requests_are_orders_or_referrals(status: str, order: str, referral: str) -> None:
    event = told("ServiceRequest", status=status)
    (asked,) = event.orders
    assert (event.kind, asked.priority) == (order, "urgent")
    assert (asked.identifier, asked.filler) == (
        Identifier(value="P-1", type="PLAC"), Identifier(value="F-1", type="FILL")
    )  # fmt: skip
    performer = [{"reference": "Organization/o", "display": "Clinic"}, {"display": "Dr Next"}]
    sent = told("ServiceRequest", status=status, category=[coded("3457005")], performer=performer)
    assert sent.referral
    assert sent.referral.sender
    assert sent.referral.receiver
    assert sent.referral.receiving_organization
    assert (sent.kind, sent.referral.sender.family, sent.referral.receiver.family) == (referral, "Dr Heal", "Dr Next")
    assert sent.referral.receiving_organization.name == "Clinic"
    assert not sent.orders


def test_referral_says_why_for_how_long_and_what_the_payer_answered() -> None:
    condition = {"resourceType": "Condition", "id": "c", "code": coded("R07.4"), "subject": {"reference": "Patient/p1"}}
    claim = {"resourceType": "ClaimResponse", "id": "a", "identifier": [{"value": "AUTH-1"}]}
    period = {"repeat": {"boundsPeriod": {"start": "2026-12-01", "end": "2027-01-01"}}}
    found = told(
        "ServiceRequest",
        category=[coded("3457005")],
        contained=[condition, claim],
        reasonCode=None,
        reasonReference=[{"reference": "#c"}],
        insurance=[{"display": "Plan A"}, {"reference": "#a", "type": "ClaimResponse"}],
        occurrenceTiming=period,
        patientInstruction="Do not eat before",
    ).referral
    assert found is not None
    assert found.reason is not None
    assert (found.reason.code, found.notes[-1]) == ("R07.4", "Do not eat before")
    assert found.authorization == Identifier(value="AUTH-1")
    plain = told("ServiceRequest", category=[coded("3457005")], reasonCode=None, insurance=None).referral
    assert plain is not None
    assert (plain.reason, plain.authorization) == (None, None)


def test_order_says_of_what_specimen_it_is() -> None:
    specimen = {"resourceType": "Specimen", "id": "s", "type": coded("BLD")}
    (asked,) = told("ServiceRequest", contained=[specimen], specimen=[{"reference": "#s"}]).orders
    assert asked.specimen is not None
    assert asked.specimen.code == "BLD"
    (bare,) = told("ServiceRequest", specimen=None).orders
    assert bare.specimen is None


def test_coverage_communication_and_document() -> None:
    (plan,) = told("Coverage").coverage
    assert plan.payer
    assert (plan.payer.name, plan.group_number, plan.rank, plan.subscriber_id) == ("Insurer", "G-1", 1, "SUB-1")
    sent = told("Communication").communication
    assert sent
    assert (sent.text, sent.recipients[0].id) == ("See you\ntomorrow", SUBJECT["reference"])
    event = told("DocumentReference")
    assert event.document
    assert event.encounter
    assert (event.kind, event.document.replaces) == ("document.replaced", Identifier(value="D-1"))
    assert event.document.attachments[0].data == "aGVsbG8="
    assert told("DocumentReference", relatesTo=None).kind == "document.added"
    assert told("DocumentReference", docStatus="entered-in-error").kind == "document.cancelled"


def test_consent_is_given_or_withdrawn_and_a_draft_is_neither() -> None:
    given = told("Consent")
    assert given.consent
    assert (given.kind, given.consent.purpose, given.consent.decision) == ("consent.given", "marketing", "permit")
    assert told("Consent", provision={"type": "deny"}).kind == "consent.withdrawn"
    assert told("Consent", status="inactive").kind == "consent.withdrawn"
    out = coded("OPTOUT", "http://terminology.hl7.org/CodeSystem/v3-ActCode")
    assert told("Consent", provision=None, policyRule=out).kind == "consent.withdrawn"
    of_research = told("Consent", scope={"coding": [{"code": "research"}]}, provision={"type": "deny"}).consent
    in_general = told("Consent", provision={"type": "deny"}).consent
    assert of_research
    assert in_general
    assert (of_research.purpose, in_general.purpose) == ("research", None)
    with pytest.raises(StepError, match=r"Consent\.status: a consent that is a draft"):
        told("Consent", status="draft")


def test_practitioner_is_staff() -> None:
    event = told("Practitioner")
    (person,) = event.staff
    assert (event.kind, person.family, person.active) == ("staff.updated", "Heal", True)
    assert person.identifier == Identifier(value="1111111112", system="http://hl7.org/fhir/sid/us-npi", type="NPI")


def test_replaced_patient_is_merged_into_the_survivor() -> None:
    link = [{"type": "replaced-by", "other": {"reference": f"{BASE}/Patient/p2"}}]
    event = told("Patient", link=link)
    assert event.kind == "patient.merged"
    assert event.patient.mrn == Identifier(value="p2", system=f"{BASE}/Patient", type="RI")
    assert event.merge
    assert event.merge.mrn.value == "MR-1"
    event = told("Patient", link=[{"type": "replaces", "other": {"identifier": {"value": "MR-0"}}}])
    assert event.merge
    assert event.patient.mrn
    assert (event.kind, event.patient.mrn.value, event.merge.mrn.value) == ("patient.merged", "MR-1", "MR-0")
    with pytest.raises(StepError, match="no usable identifier") as caught:
        told("Patient", link=[{"type": "replaces", "other": {"reference": "Patient/p2"}}])
    assert caught.value.location == "Patient.link"
    assert told("Patient", link=[{"type": "seealso", "other": {"reference": "Patient/p2"}}]).kind == "patient.updated"
