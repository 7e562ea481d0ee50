"""This module makes FHIR R4 resources that are valid, small and about nobody, one of each kind that is mapped."""

import copy
from typing import Any, Final

Resource = dict[str, Any]

BASE: Final = "https://ehr.example/fhir"
SUBJECT: Final = {"reference": f"{BASE}/Patient/p1"}
DOCTOR: Final = {"reference": "Practitioner/d1", "display": "Dr Heal"}


def coded(code: str, system: str = "http://example.org/codes", **more: Any) -> Resource:
    """Return a CodeableConcept."""
    return {"coding": [{"system": system, "code": code}], **more}


_ALL: Final[dict[str, Resource]] = {
    "Patient": {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"versionId": "3", "lastUpdated": "2026-11-20T10:00:00Z", "source": "urn:ehr"},
        "identifier": [
            {"use": "old", "type": coded("MR", "http://terminology.hl7.org/CodeSystem/v2-0203"), "value": "OLD-1"},
            {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "000112222"},
            {
                "use": "usual",
                "type": coded("MR", "http://terminology.hl7.org/CodeSystem/v2-0203"),
                "system": "urn:oid:1.2.3",
                "value": "MR-1",
            },
        ],
        "active": True,
        "name": [
            {"use": "nickname", "given": ["Addie"]},
            {"use": "official", "family": "Testwood", "given": ["Ada", "B"], "prefix": ["Ms."]},
        ],
        "telecom": [
            {"system": "phone", "value": "+1 205 555 0123", "use": "mobile"},
            {"system": "email", "value": "ada@example.org"},
        ],
        "gender": "female",
        "birthDate": "1962-09-10",
        "address": [{"use": "home", "line": ["1 Elm St"], "city": "Springfield", "state": "IL", "postalCode": "62701"}],
        "maritalStatus": coded("M", "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"),
        "multipleBirthInteger": 2,
        "communication": [{"language": coded("de")}, {"language": coded("en"), "preferred": True}],
        "generalPractitioner": [{"display": "Dr Known"}],
        "contact": [{"relationship": [coded("N")], "name": {"family": "Kin", "given": ["Next"]}}],
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
                "extension": [
                    {"url": "ombCategory", "valueCoding": {"system": "urn:oid:9", "code": "2106-3"}},
                    {"url": "text", "valueString": "White"},
                ],
            },
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
                "valueAddress": {"city": "Mobile", "state": "AL"},
            },
        ],
    },
    "RelatedPerson": {
        "resourceType": "RelatedPerson",
        "patient": SUBJECT,
        "relationship": [coded("GUAR")],
        "name": [{"family": "Payer"}],
        "telecom": [{"value": "555"}],
        "birthDate": "1940",
    },
    "Appointment": {
        "resourceType": "Appointment",
        "identifier": [{"system": "urn:slots", "value": "S-1"}],
        "status": "booked",
        "serviceType": [coded("checkup", text="Check-up")],
        "appointmentType": coded("FOLLOWUP"),
        "reasonCode": [coded("cough")],
        "priority": 5,
        "start": "2026-12-01T09:00:00+01:00",
        "end": "2026-12-01T09:30:00+01:00",
        "minutesDuration": 30,
        "comment": "fasting",
        "created": "2026-11-20",
        "participant": [
            {"actor": SUBJECT, "status": "accepted"},
            {"actor": DOCTOR, "status": "accepted"},
            {"actor": {"reference": "Location/l1", "display": "Room 7"}, "status": "accepted"},
            {"actor": {"reference": "Device/x1", "display": "Scanner"}, "status": "accepted"},
        ],
    },
    "Encounter": {
        "resourceType": "Encounter",
        "identifier": [{"system": "urn:visits", "value": "V-1"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "type": [coded("inpatient")],
        "serviceType": coded("394802001", text="Medicine"),
        "subject": SUBJECT,
        "participant": [
            {"type": [coded("REF")], "individual": {"display": "Dr Refer"}},
            {"type": [coded("ATND")], "individual": DOCTOR},
            {"type": [coded("CON")], "individual": {"display": "Dr Consult"}},
        ],
        "period": {"start": "2026-11-18T08:00:00Z", "end": "2026-11-20T12:00:00Z"},
        "reasonCode": [coded("pneumonia")],
        "hospitalization": {
            "preAdmissionIdentifier": {"value": "PRE-1"},
            "admitSource": coded("emd"),
            "dischargeDisposition": coded("home"),
            "destination": {"display": "Home"},
        },
        "location": [
            {"location": {"display": "Ward 1"}, "status": "completed"},
            {"location": {"display": "Ward 2"}, "status": "active"},
        ],
    },
    "Condition": {
        "resourceType": "Condition",
        "identifier": [{"value": "C-1"}],
        "clinicalStatus": coded("active"),
        "verificationStatus": coded("confirmed"),
        "category": [coded("problem-list-item")],
        "severity": coded("24484000", text="Severe"),
        "code": {"coding": [{"system": "s", "code": "38341003"}, {"system": "i", "code": "I10", "display": "HTN"}]},
        "subject": SUBJECT,
        "encounter": {"reference": "Encounter/v1"},
        "onsetAge": {"value": 52, "unit": "a", "system": "http://unitsofmeasure.org", "code": "a"},
        "abatementDateTime": "2026-01",
        "recordedDate": "2025-02-03",
        "asserter": DOCTOR,
        "note": [{"text": "watch"}],
    },
    "AllergyIntolerance": {
        "resourceType": "AllergyIntolerance",
        "clinicalStatus": coded("active"),
        "type": "allergy",
        "category": ["medication"],
        "criticality": "high",
        "code": coded("70618", text="Penicillin"),
        "patient": SUBJECT,
        "onsetDateTime": "1980",
        "reaction": [
            {"manifestation": [coded("hives")], "severity": "mild"},
            {"manifestation": [coded("shock")], "severity": "severe"},
        ],
    },
    "MedicationRequest": {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded("314076", text="Lisinopril 10 MG"),
        "subject": SUBJECT,
        "authoredOn": "2026-11-20",
        "requester": DOCTOR,
        "reasonCode": [coded("I10")],
        "dosageInstruction": [
            {
                "text": "one tablet twice a day",
                "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
                "route": coded("oral"),
                "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "TAB"}}],
            }
        ],
        "dispenseRequest": {
            "validityPeriod": {"start": "2026-11-20", "end": "2027-11-20"},
            "numberOfRepeatsAllowed": 3,
            "quantity": {"value": 60, "unit": "TAB"},
        },
    },
    "MedicationStatement": {
        "resourceType": "MedicationStatement",
        "status": "active",
        "medicationReference": {"reference": "#m"},
        "contained": [
            {"resourceType": "Medication", "id": "m", "code": coded("x", text="Aspirin"), "form": coded("t")}
        ],
        "subject": SUBJECT,
        "context": {"reference": f"{BASE}/Encounter/v1"},
        "effectivePeriod": {"start": "2026-01-01"},
        "dateAsserted": "2026-02-01",
        "dosage": [{"timing": {"code": coded("QD")}}],
    },
    "MedicationDispense": {
        "resourceType": "MedicationDispense",
        "status": "completed",
        "medicationCodeableConcept": coded("x"),
        "subject": SUBJECT,
        "quantity": {"value": 30, "unit": "TAB"},
        "whenHandedOver": "2026-11-20T10:00:00Z",
        "performer": [{"actor": DOCTOR}],
    },
    "MedicationAdministration": {
        "resourceType": "MedicationAdministration",
        "status": "completed",
        "medicationCodeableConcept": coded("x"),
        "subject": SUBJECT,
        "effectiveDateTime": "2026-11-20T10:00:00Z",
        "dosage": {"route": coded("iv"), "dose": {"value": 5, "unit": "mg"}},
    },
    "Immunization": {
        "resourceType": "Immunization",
        "status": "not-done",
        "statusReason": coded("PATOBJ"),
        "vaccineCode": coded("140", "http://hl7.org/fhir/sid/cvx"),
        "patient": SUBJECT,
        "occurrenceDateTime": "2025-10-15",
        "primarySource": True,
        "manufacturer": {"display": "Maker"},
        "lotNumber": "L-1",
        "expirationDate": "2027-01-01",
        "doseQuantity": {"value": 1, "unit": "mL"},
        "performer": [{"actor": DOCTOR}],
    },
    "Observation": {
        "resourceType": "Observation",
        "identifier": [{"value": "O-1"}],
        "status": "final",
        "category": [coded("vital-signs")],
        "code": coded("85354-9", "http://loinc.org", text="Blood pressure"),
        "subject": SUBJECT,
        "effectiveDateTime": "2026-11-20T10:00:00Z",
        "interpretation": [coded("H")],
        "performer": [DOCTOR],
        "component": [
            {"code": coded("8480-6"), "valueQuantity": {"value": 128, "unit": "mmHg", "comparator": "<"}},
            {"code": coded("8462-4"), "dataAbsentReason": coded("unknown")},
        ],
    },
    "DiagnosticReport": {
        "resourceType": "DiagnosticReport",
        "identifier": [{"value": "R-1"}],
        "basedOn": [{"identifier": {"value": "PLACER-1"}}],
        "status": "amended",
        "category": [coded("LAB", "http://terminology.hl7.org/CodeSystem/v2-0074")],
        "code": coded("24323-8", "http://loinc.org"),
        "subject": SUBJECT,
        "effectivePeriod": {"start": "2026-11-19"},
        "issued": "2026-11-20T10:00:00Z",
        "resultsInterpreter": [DOCTOR],
        "contained": [
            {
                "resourceType": "Observation",
                "id": "o1",
                "status": "final",
                "code": coded("2823-3"),
                "valueQuantity": {"value": 4, "unit": "mmol/L"},
                "referenceRange": [{"low": {"value": 3}, "high": {"value": 5}}],
            }
        ],
        "result": [{"reference": "#o1"}],
        "conclusion": "fine",
        "presentedForm": [{"contentType": "application/pdf", "data": "JVBERi0=", "title": "report"}],
    },
    "ServiceRequest": {
        "resourceType": "ServiceRequest",
        "identifier": [
            {"type": coded("FILL"), "value": "F-1"},
            {"type": coded("PLAC"), "value": "P-1"},
        ],
        "status": "active",
        "intent": "order",
        "priority": "urgent",
        "code": coded("24323-8"),
        "subject": SUBJECT,
        "authoredOn": "2026-11-20T10:00:00Z",
        "occurrenceDateTime": "2026-11-21",
        "requester": DOCTOR,
        "reasonCode": [coded("I10")],
        "note": [{"text": "fasting"}],
    },
    "Coverage": {
        "resourceType": "Coverage",
        "identifier": [{"value": "POL-1"}],
        "status": "active",
        "type": coded("HMO"),
        "subscriberId": "SUB-1",
        "beneficiary": SUBJECT,
        "relationship": coded("self"),
        "period": {"start": "2026-01-01", "end": "2026-12-31"},
        "payor": [{"display": "Insurer"}],
        "class": [
            {"type": coded("group"), "value": "G-1", "name": "Group"},
            {"type": coded("plan"), "value": "PL-1", "name": "Plan"},
        ],
        "order": 1,
    },
    "Consent": {
        "resourceType": "Consent",
        "status": "active",
        "scope": coded("patient-privacy"),
        "category": [coded("59284-0", "http://loinc.org")],
        "patient": SUBJECT,
        "dateTime": "2026-11-20",
        "policy": [{"uri": "https://example.org/policy"}],
        "provision": {
            "type": "permit",
            "period": {"start": "2026-11-20", "end": "2027-11-20"},
            "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HMARKT"}],
        },
    },
    "Communication": {
        "resourceType": "Communication",
        "status": "completed",
        "category": [coded("reminder")],
        "medium": [coded("SMSWRIT")],
        "subject": SUBJECT,
        "sent": "2026-11-20T10:00:00Z",
        "sender": DOCTOR,
        "recipient": [SUBJECT],
        "payload": [{"contentString": "See you"}, {"contentString": "tomorrow"}],
    },
    "DocumentReference": {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"value": "D-2"},
        "status": "current",
        "docStatus": "final",
        "type": coded("34133-9"),
        "category": [coded("note")],
        "subject": SUBJECT,
        "date": "2026-11-20T10:00:00Z",
        "author": [DOCTOR],
        "authenticator": {"display": "Dr Sign"},
        "relatesTo": [{"code": "replaces", "target": {"identifier": {"value": "D-1"}}}],
        "securityLabel": [coded("R")],
        "content": [{"attachment": {"contentType": "text/plain", "data": "aGVsbG8=", "title": "Note", "size": 5}}],
        "context": {"encounter": [{"identifier": {"value": "V-1"}}]},
    },
    "Practitioner": {
        "resourceType": "Practitioner",
        "id": "d1",
        "identifier": [{"value": "17"}, {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1111111112"}],
        "active": True,
        "name": [{"family": "Heal", "given": ["Henry"], "prefix": ["Dr"]}],
        "telecom": [{"system": "phone", "value": "555"}],
    },
}
KINDS: Final = tuple(_ALL)


def resource(kind: str, **changes: Any) -> Resource:
    """Return a resource of this type, with other elements; those that are None are left out."""
    made = copy.deepcopy(_ALL[kind]) | changes
    return {name: value for name, value in made.items() if value is not None}


def bundle(kind: str, *resources: Resource, urls: bool = True, **more: Any) -> Resource:
    """Return a Bundle; its entries are known by the address of their server where they have an id."""
    entries = []
    for each in resources:
        entry: Resource = {"resource": each}
        if urls and "id" in each:
            entry["fullUrl"] = f"{BASE}/{each['resourceType']}/{each['id']}"
        if kind in {"transaction", "batch"}:
            entry["request"] = {"method": "PUT", "url": f"{each['resourceType']}/{each.get('id', 'x')}"}
        entries.append(entry)
    return {"resourceType": "Bundle", "type": kind, "entry": entries, **more}
