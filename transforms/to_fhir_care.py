"""This module writes what a patient has and is given as FHIR R4: conditions, allergies, medications, vaccinations."""

from typing import Final

from broker.canonical.model import (
    Allergy,
    Condition,
    Immunization,
    Medication,
)
from transforms.times import fhir_date
from transforms.to_fhir_links import Links
from transforms.to_fhir_types import (
    ABSENT,
    UNKNOWN,
    Json,
    chosen,
    concept,
    fhir_code,
    notes,
    place,
    quantity,
    table_code,
    words,
)

_CLINICAL: Final = frozenset({"active", "recurrence", "relapse", "inactive", "remission", "resolved"})
_OVER: Final = frozenset({"inactive", "remission", "resolved"})
_CONDITION_CERTAINTIES: Final = frozenset(
    {"unconfirmed", "provisional", "differential", "confirmed", "refuted", "entered-in-error"}
)
_ALLERGY_CERTAINTIES: Final = frozenset({"unconfirmed", "confirmed", "refuted", "entered-in-error"})
_CONDITION_CATEGORIES: Final = frozenset({"encounter-diagnosis", "problem-list-item"})
_SEVERITIES: Final = frozenset({"mild", "moderate", "severe"})
_MISTAKE: Final = "entered-in-error"
_IMMUNIZATION_STATUSES: Final = frozenset({"completed", "not-done", _MISTAKE})
_INTENTS: Final = frozenset({"proposal", "plan", "order", "original-order", "reflex-order", "filler-order", "option"})
_SHARED: Final = frozenset({"completed", "stopped", "on-hold", _MISTAKE})
# The kind of a medication -> its resource, and the statuses that this has.
KINDS: Final = {
    "request": ("MedicationRequest", _SHARED | {"active", "cancelled", "draft"}),
    "statement": ("MedicationStatement", _SHARED | {"active", "intended", "not-taken"}),
    "dispense": ("MedicationDispense", _SHARED | {"preparation", "in-progress", "cancelled", "declined"}),
    "administration": ("MedicationAdministration", _SHARED | {"in-progress", "not-done"}),
}


def conditions(links: Links) -> list[Json]:
    """Return diagnoses and problems."""
    return [_condition(links, each) for each in links.event.conditions]


def _condition(links: Links, given: Condition) -> Json:
    certainty = chosen(given.verification_status, _CONDITION_CERTAINTIES, None)
    category = chosen(given.category, _CONDITION_CATEGORIES, None)
    clinical = chosen(given.clinical_status, _CLINICAL, None)
    if given.abated_at and clinical not in _OVER:  # FHIR R4 Condition, invariant con-4
        clinical = "resolved"
    if clinical is None and category == "problem-list-item":  # con-3
        clinical = "active"
    code = given.code
    key = (code and code.code, code and code.text, given.onset_at or given.recorded_at, category)
    resource = {
        "identifier": [links.own("Condition", given.identifier, *key)],
        "clinicalStatus": fhir_code("condition-clinical", None if certainty == _MISTAKE else clinical),  # con-5
        "verificationStatus": fhir_code("condition-ver-status", certainty),
        "category": [fhir_code("condition-category", category), table_code("0052", given.kind)],
        "severity": concept(given.severity),
        "code": concept(code),
        "subject": links.patient(),
        "encounter": links.encounter(),
        "onsetDateTime": links.moment(given.onset_at),
        "abatementDateTime": links.moment(given.abated_at),
        "recordedDate": links.moment(given.recorded_at),
        "asserter": links.practitioner(given.asserter),
        "note": notes(given.notes),
    }
    return links.finished("Condition", resource)


def allergies(links: Links) -> list[Json]:
    """Return allergies and intolerances."""
    return [_allergy(links, each) for each in links.event.allergies]


def _allergy(links: Links, given: Allergy) -> Json:
    certainty = chosen(given.verification_status, _ALLERGY_CERTAINTIES, None)
    clinical = chosen(given.clinical_status, frozenset({"active", "inactive", "resolved"}), "active")
    severity = chosen(given.severity, _SEVERITIES, None)
    shown = [concept(each) for each in given.reactions] or ([UNKNOWN] if severity else [])
    code = given.code
    resource = {
        "identifier": [links.own("AllergyIntolerance", given.identifier, code and code.code, code and code.text)],
        # FHIR R4 AllergyIntolerance, invariants ait-1 and ait-2.
        "clinicalStatus": fhir_code("allergyintolerance-clinical", None if certainty == _MISTAKE else clinical),
        "verificationStatus": fhir_code("allergyintolerance-verification", certainty),
        "type": chosen(given.type, frozenset({"allergy", "intolerance"}), None),
        "category": [
            chosen(given.category, frozenset({"food", "medication", "environment", "biologic"}), None),
        ],
        "criticality": chosen(given.criticality, frozenset({"low", "high", "unable-to-assess"}), None),
        "code": concept(code),
        "patient": links.patient(),
        "onsetDateTime": links.moment(given.onset_at),
        "recordedDate": links.moment(given.recorded_at),
        "note": notes(given.notes),
        "reaction": [{"manifestation": [each], "severity": severity} for each in shown],
    }
    return links.finished("AllergyIntolerance", resource)


def medications(links: Links, kind: str) -> list[Json]:
    """Return the medications of one kind (a key of `KINDS`)."""
    found = [each for each in links.event.medications if _kind(each) == kind]
    return [_medication(links, each, kind) for each in found]


def _kind(given: Medication) -> str:
    return given.kind if given.kind in KINDS else "request"


def _medication(links: Links, given: Medication, kind: str) -> Json:
    resource, statuses = KINDS[kind]
    code = given.code
    key = (code and code.code, code and code.text, given.starts_at or given.prescribed_at)
    own: Json = {
        "identifier": [links.own(resource, given.identifier, *key)],
        "status": chosen(given.status, statuses, "unknown"),
        "medicationCodeableConcept": concept(code) or UNKNOWN,
        "subject": links.patient(),
        "note": notes(given.notes),
    }
    reason = {"reasonCode": [concept(given.reason)]}
    write = {"request": _requested, "statement": _stated, "dispense": _dispensed, "administration": _administered}
    return links.finished(resource, own | ({} if kind == "dispense" else reason) | write[kind](links, given))


def _requested(links: Links, given: Medication) -> Json:
    refills = given.refills
    return {
        "intent": chosen(given.intent, _INTENTS, "order"),
        "encounter": links.encounter(),
        "authoredOn": links.moment(given.prescribed_at),
        "requester": links.practitioner(given.prescriber),
        "dosageInstruction": [_dosage(given)],
        "dispenseRequest": {
            "validityPeriod": links.period(given.starts_at, given.ends_at),
            "numberOfRepeatsAllowed": refills if refills is not None and refills >= 0 else None,
            "quantity": quantity(given.quantity, given.quantity_unit),
        },
    }


def _stated(links: Links, given: Medication) -> Json:
    return {
        "context": links.encounter(),
        "effectivePeriod": links.period(given.starts_at, given.ends_at),
        "dateAsserted": links.moment(given.prescribed_at),
        "informationSource": links.practitioner(given.prescriber),
        "dosage": [_dosage(given)],
    }


def _dispensed(links: Links, given: Medication) -> Json:
    return {
        "context": links.encounter(),
        "quantity": quantity(given.quantity, given.quantity_unit),
        "whenHandedOver": links.moment(given.starts_at),
        "dosageInstruction": [_dosage(given)],
    }


def _administered(links: Links, given: Medication) -> Json:
    at = given.starts_at or links.event.occurred_at
    when: Json = {"effectiveDateTime": links.moment(at)} if at else {"_effectiveDateTime": ABSENT}
    if given.ends_at:
        when = {"effectivePeriod": links.period(given.starts_at, given.ends_at)}
    dose = quantity(given.dose, given.dose_unit)
    text = given.dosage or (None if dose else given.dose)
    dosage = {"text": text, "site": concept(given.site), "route": concept(given.route), "dose": dose}
    said = text or dose  # FHIR R4 MedicationAdministration, invariant mad-1: a dosage has a dose, or is in words
    return {"context": links.encounter(), **when, "dosage": dosage if said else None}


def _dosage(given: Medication) -> Json:
    dose = quantity(given.dose, given.dose_unit)
    text = " ".join(filter(None, (given.dosage, None if dose else given.dose)))
    return {
        "text": text,
        "timing": {"code": words(given.frequency)} if given.frequency else None,
        "site": concept(given.site),
        "route": concept(given.route),
        "doseAndRate": [{"doseQuantity": dose}] if dose else None,
    }


def immunizations(links: Links) -> list[Json]:
    """Return vaccinations, given or not."""
    return [_immunization(links, each) for each in links.event.immunizations]


def _immunization(links: Links, given: Immunization) -> Json:
    code = given.code
    at = links.moment(given.occurred_at)
    performer = links.practitioner(given.performer)
    resource = {
        "identifier": [links.own("Immunization", given.identifier, code and code.code, given.occurred_at)],
        "status": chosen(given.status, _IMMUNIZATION_STATUSES, "completed"),
        "statusReason": concept(given.reason),
        "vaccineCode": concept(code) or UNKNOWN,
        "patient": links.patient(),
        "encounter": links.encounter(),
        **({"occurrenceDateTime": at} if at else {"occurrenceString": "unknown"}),
        "recorded": links.moment(given.recorded_at),
        "primarySource": None if given.historical is None else not given.historical,
        "location": {"type": "Location", "display": place(given.location)} if given.location else None,
        "manufacturer": links.organization(given.manufacturer),
        "lotNumber": given.lot,
        "expirationDate": fhir_date(given.expires_on[:10]) if given.expires_on else None,
        "site": concept(given.site),
        "route": concept(given.route),
        "doseQuantity": quantity(given.dose, given.dose_unit),
        "performer": [{"actor": performer}] if performer else None,
        "note": notes(given.notes),
    }
    return links.finished("Immunization", resource)
