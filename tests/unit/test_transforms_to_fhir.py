"""This module tests that canonical events are written as valid FHIR R4, the same way every time."""

import re
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from broker.canonical.model import (
    Appointment,
    Concept,
    Encounter,
    Event,
    Identifier,
    Merge,
    Observation,
    Patient,
    Practitioner,
    Result,
    Source,
)
from broker.errors import StepError
from broker.fhir.check import check
from broker.fhir.search import search_of
from dispatch.fhir_check import faults
from tests.canonical_events import EVENTS, events_with
from transforms.to_fhir import NAMES, RESOURCES, as_text, fhir_of, to_bundle, to_fhir

CHICAGO = "America/Chicago"
PARTS = ["encounter", "referral", "document", "consent", "communication", "orders", "results", "observations"]
PARTS += ["conditions", "allergies", "medications", "immunizations", "coverage", "related_people", "staff", "merge"]
# Without shrinking: events are large, and what is wrong with one is told by its place.
SLOW = settings(
    max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


def event(**parts: Any) -> Event:
    patient = Patient(mrn=Identifier(value="7", system="MERCY", type="MR"), family="Okafor", given="Ada")
    return Event(**{"kind": "patient.updated", "source": Source(), "patient": patient, **parts})


def wrong(resource: dict[str, Any]) -> list[str]:
    """Return what two checkers have against a resource, without its values."""
    read = orjson.loads(as_text(resource))
    return faults(read) + [fault.place for fault in check(read) if fault.error]


@pytest.mark.parametrize("part", PARTS)
def test_every_resource_is_valid_whatever_an_event_holds(part: str) -> None:
    @SLOW
    @given(events_with(part), st.sampled_from([None, CHICAGO]))
    def holds(found: Event, zone: str | None) -> None:
        try:
            resources = to_fhir(found, zone)
        except StepError:
            assume(found.appointment is None)  # FHIR has none without its time
            raise
        assert len(resources) > 0
        for resource in resources:
            assert not wrong(resource)

    holds()


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [found for part in value.values() for found in _references(part)]
    return [found for part in value for found in _references(part)] if isinstance(value, list) else []


@SLOW
@given(EVENTS)
def test_bundle_is_one_transaction_that_can_be_repeated(found: Event) -> None:
    try:
        bundle = to_bundle(found, CHICAGO)
    except StepError:
        return
    assert as_text(to_bundle(found, CHICAGO)) == as_text(bundle)
    entries = bundle["entry"]
    addresses = [entry["fullUrl"] for entry in entries]
    assert len(set(addresses)) == len(addresses)
    asked = [entry["request"] for entry in entries]
    requests = [(each["method"], f"{each['url']} {each.get('ifNoneExist', '')}") for each in asked]
    assert len(set(requests)) == len(requests)  # a server refuses two writes of one resource
    assert all(method in {"PUT", "POST"} and "identifier=" in search for method, search in requests)
    inside = {reference for reference in _references(bundle) if reference.startswith("urn:uuid:")}
    assert inside <= set(addresses) | {reference for reference in inside if found.communication is not None}
    assert not [fault.place for fault in check(orjson.loads(as_text(bundle))) if fault.error]


def test_patient_has_the_record_number_first_and_known_systems() -> None:
    number = Identifier(value="123-45-6789", system="SSA", type="SS")
    patient = Patient(
        mrn=Identifier(value="7", system="MERCY", type="MR"), identifiers=(number,), mobile="+12055550100"
    )
    written = fhir_of(event(patient=patient), "Patient")
    assert [(each["system"], each["value"]) for each in written["identifier"]] == [
        ("MERCY", "7"),
        ("http://hl7.org/fhir/sid/us-ssn", "123-45-6789"),
    ]
    assert written["identifier"][0]["use"] == "usual"
    assert written["telecom"] == [{"system": "phone", "value": "+12055550100", "use": "mobile"}]
    assert search_of(written) == "identifier=MERCY%7C7"


def test_time_without_offset_is_a_day_unless_the_zone_is_known() -> None:
    visit = Encounter(patient_class="I", admitted_at="2024-07-01T10:30:00", discharged_at="2024-07-02T10:30:00-04:00")
    plain = fhir_of(event(encounter=visit), "Encounter")
    assert plain["period"] == {"start": "2024-07-01", "end": "2024-07-02T10:30:00-04:00"}
    assert fhir_of(event(encounter=visit), "Encounter", CHICAGO)["period"]["start"] == "2024-07-01T10:30:00-05:00"


def test_appointment_needs_to_know_when_it_is() -> None:
    slot = event(kind="appointment.booked", appointment=Appointment(starts_at="2024-01-05T09:00:00", minutes=30))
    with pytest.raises(StepError, match="give `zone`") as caught:
        fhir_of(slot, "Appointment")
    assert caught.value.location == "Appointment.start"
    written = fhir_of(slot, "Appointment", CHICAGO)
    assert (written["start"], written["end"]) == ("2024-01-05T09:00:00-06:00", "2024-01-05T09:30:00-06:00")


def test_numbers_keep_their_digits() -> None:
    seen = Observation(code=Concept(code="x"), value="5.10", value_type="quantity", unit="mg/dL", status="final")
    written = fhir_of(event(observations=(seen,)), "Observation")
    assert written["valueQuantity"]["value"] == Decimal("5.10")
    assert '"value":5.10' in as_text(written)


def puffs(count: int) -> dict[str, Any]:
    return {"value": Decimal(count), "unit": "puffs"}


@pytest.mark.parametrize(
    ("kind", "value", "unit", "found"),
    [
        ("range", "1-2", "puffs", {"valueRange": {"low": puffs(1), "high": puffs(2)}}),
        ("range", "3.5-", None, {"valueRange": {"low": {"value": Decimal("3.5")}}}),
        ("range", "low-high", None, {"valueString": "low-high"}),
        ("range", "-", None, {"valueString": "-"}),
        (
            "ratio",
            "1:128",
            None,
            {"valueRatio": {"numerator": {"value": Decimal(1)}, "denominator": {"value": Decimal(128)}}},
        ),
        ("ratio", "1:", None, {"valueString": "1:"}),
        ("time", "10:30", None, {"valueTime": "10:30:00"}),
        ("time", "103000.5", None, {"valueTime": "10:30:00"}),
        ("time", "noon", None, {"valueString": "noon"}),
        ("boolean", "True", None, {"valueBoolean": True}),
        ("boolean", "perhaps", None, {"valueString": "perhaps"}),
        ("datetime", "2024-05", None, {"valueDateTime": "2024-05"}),
        ("datetime", "in May", None, {"valueString": "in May"}),
        ("quantity", "many", "g", {"valueString": "many g"}),
        ("string", " ", None, {}),
    ],
)
def test_value_is_of_its_type_or_the_text_that_it_is(
    kind: str, value: str, unit: str | None, found: dict[str, Any]
) -> None:
    seen = Observation(code=Concept(text="x"), value=value, value_type=kind, unit=unit, status="final")
    written = fhir_of(event(observations=(seen,)), "Observation")
    assert {name: part for name, part in written.items() if name.startswith("value")} == found
    assert not wrong(written)


def test_report_brings_its_observations_along_or_beside_it() -> None:
    seen = Observation(code=Concept(code="718-7", system="LN"), value="13", value_type="quantity", status="final")
    report = Result(identifier=Identifier(value="F1"), code=Concept(text="CBC"), status="final", observations=(seen,))
    alone = fhir_of(event(results=(report,)), "DiagnosticReport")
    assert alone["result"] == [{"reference": "#o1"}]
    assert alone["contained"][0]["valueQuantity"] == {"value": Decimal(13)}
    entries = to_bundle(event(results=(report,)))["entry"]
    beside = {entry["fullUrl"]: entry["resource"]["resourceType"] for entry in entries}
    written = next(e["resource"] for e in entries if e["resource"]["resourceType"] == "DiagnosticReport")
    assert [beside[part["reference"]] for part in written["result"]] == ["Observation"]


def test_merge_links_the_record_that_went_and_leaves_it_alone() -> None:
    old = Identifier(value="8", system="MERCY", type="MR")
    merged = event(kind="patient.merged", merge=Merge(identifiers=(old,), mrn=old))
    assert fhir_of(merged, "Patient")["link"][0]["other"]["identifier"]["value"] == "8"
    assert len(to_bundle(merged)["entry"]) == 1


def test_those_who_treat_are_created_where_missing_and_never_overwritten() -> None:
    doctor = Practitioner(identifier=Identifier(value="1720051234", system="NPI"), family="Lindqvist")
    entries = to_bundle(event(encounter=Encounter(patient_class="O", attending=doctor)))["entry"]
    request = entries[-1]["request"]
    assert request["method"] == "POST"
    assert request["ifNoneExist"] == "identifier=http%3A%2F%2Fhl7.org%2Ffhir%2Fsid%2Fus-npi%7C1720051234"


def test_name_without_anything_to_write_is_told() -> None:
    with pytest.raises(StepError, match="gives no Encounter"):
        fhir_of(event(), "Encounter")
    two = tuple(Observation(code=Concept(code=code)) for code in "ab")
    with pytest.raises(StepError, match="gives 2 of Observation"):
        fhir_of(event(observations=two), "Observation")


def test_every_name_is_a_resource_of_r4() -> None:
    assert {*RESOURCES, "Bundle"} == set(NAMES)
    assert not [name for name in NAMES for text in faults({"resourceType": name}) if "no such resource" in text]


def test_characters_that_fhir_forbids_are_left_out() -> None:
    written = fhir_of(
        event(patient=Patient(mrn=Identifier(value="7"), family="O\x0bka\ud800for\x00", given=" ")), "Patient"
    )
    assert written["name"] == [{"family": "Okafor"}]
    assert not re.search(r"\\u00", as_text(written))
