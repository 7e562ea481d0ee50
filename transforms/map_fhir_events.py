"""This module makes the canonical event that one FHIR resource tells, whatever it came in."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from broker.canonical.model import Encounter, Event, Identifier, Merge, Patient, Source
from broker.errors import StepError
from transforms.fhir_pool import Reader
from transforms.fhir_types import Node, code, moment, node, nodes, text
from transforms.map_fhir_care import map_allergy, map_condition, map_immunization, map_medication
from transforms.map_fhir_documents import map_communication, map_composition, map_consent, map_document
from transforms.map_fhir_people import contacts, map_coverage, map_patient, map_related_person, referred_patient
from transforms.map_fhir_requests import is_referral, map_order, map_referral
from transforms.map_fhir_results import map_observation, map_report
from transforms.map_fhir_visits import actors, diagnoses, map_appointment, map_encounter, visit

VERSION: Final = "4.0"  # of FHIR

Parts = dict[str, Any]  # fields of Event


class Told(NamedTuple):
    """How a resource came: what is done with it, where it stands, and what the Bundle around it says."""

    place: str = ""  # of the resource in the Bundle
    method: str = ""  # POST, PUT, DELETE
    at: str | None = None  # when it was written, as the entry says
    source: Source = Source()
    sent_at: str | None = None  # when the Bundle was made


class Untold(StepError):
    """A resource says nothing that an event could tell, such as a slot without any patient."""


def _conditions(reader: Reader, encounter: Node) -> tuple[Any, ...]:
    found = []
    for link, kind, rank in diagnoses(encounter):
        target = reader.find(link)
        if target.resource.get("resourceType") == "Condition":
            found.append(map_condition(reader.of(target.resource), target.resource, kind, rank))
    return tuple(found)


def _request(reader: Reader, request: Node) -> Parts:
    if is_referral(request):
        return {"referral": map_referral(reader, request)}
    return {"orders": (map_order(reader, request),)}


def _staff(reader: Reader, resource: Node) -> Parts:
    person = reader.person(resource)
    return {"staff": (person,) if person else ()}


# Resource -> the fields of the event that it fills.
PARTS: Final[dict[str, Callable[[Reader, Node], Parts]]] = {
    "AllergyIntolerance": lambda reader, it: {"allergies": (map_allergy(reader, it),)},
    "Appointment": lambda reader, it: {"appointment": map_appointment(reader, it)},
    "Communication": lambda reader, it: {"communication": map_communication(reader, it)},
    "Composition": lambda reader, it: {"document": map_composition(reader, it)},
    "Condition": lambda reader, it: {"conditions": (map_condition(reader, it),)},
    "Consent": lambda reader, it: {"consent": map_consent(reader, it)},
    "Coverage": lambda reader, it: {"coverage": (map_coverage(reader, it),)},
    "DiagnosticReport": lambda reader, it: {"results": (map_report(reader, it),)},
    "DocumentReference": lambda reader, it: {"document": map_document(reader, it)},
    "Encounter": lambda reader, it: {"encounter": map_encounter(reader, it), "conditions": _conditions(reader, it)},
    "Immunization": lambda reader, it: {"immunizations": (map_immunization(reader, it),)},
    "MedicationAdministration": lambda reader, it: {"medications": (map_medication(reader, it),)},
    "MedicationDispense": lambda reader, it: {"medications": (map_medication(reader, it),)},
    "MedicationRequest": lambda reader, it: {"medications": (map_medication(reader, it),)},
    "MedicationStatement": lambda reader, it: {"medications": (map_medication(reader, it),)},
    "Observation": lambda reader, it: {"observations": (map_observation(reader, it),)},
    "Patient": lambda _, it: {"related_people": contacts(it)},
    "Practitioner": _staff,
    "PractitionerRole": _staff,
    "RelatedPerson": lambda reader, it: {"related_people": (map_related_person(reader, it),)},
    "ServiceRequest": _request,
}
WITHOUT_PATIENT: Final = frozenset({"Practitioner", "PractitionerRole"})
# Where a resource names the patient, if not in ``subject``, and the visit, if not in ``encounter``.
_SUBJECTS: Final = {
    "AllergyIntolerance": "patient", "Immunization": "patient", "RelatedPerson": "patient", "Consent": "patient",
    "Coverage": "beneficiary",
}  # fmt: skip
_VISITS: Final = {
    "MedicationStatement": "context", "MedicationDispense": "context", "MedicationAdministration": "context",
}  # fmt: skip
# When it happened, where neither entry nor meta says when it was written.
_TIMES: Final = (
    "issued",
    "recordedDate",
    "recorded",
    "authoredOn",
    "dateAsserted",
    "dateTime",
    "sent",
    "date",
    "created",
)

_RESULTS: Final = {
    "final": "result.final", "amended": "result.corrected", "corrected": "result.corrected",
    "appended": "result.corrected", "cancelled": "result.cancelled", "entered-in-error": "result.cancelled",
}  # fmt: skip
# Resource -> status -> kind; what stands under nothing is for every other status.
_KINDS: Final[dict[str, dict[str, str]]] = {
    "AllergyIntolerance": {"": "allergy.recorded"},
    "Appointment": {
        "": "appointment.updated", "proposed": "appointment.requested", "pending": "appointment.requested",
        "waitlist": "appointment.requested", "booked": "appointment.booked", "arrived": "appointment.arrived",
        "checked-in": "appointment.arrived", "fulfilled": "appointment.arrived", "noshow": "appointment.no_show",
        "cancelled": "appointment.cancelled", "entered-in-error": "appointment.cancelled",
    },
    "Communication": {"": "communication.recorded"},
    "Composition": {"": "summary.received"},
    "Condition": {"": "condition.recorded"},
    "Coverage": {"": "coverage.changed"},
    "DiagnosticReport": _RESULTS | {"": "result.preliminary"},
    "Encounter": {
        "": "encounter.updated", "planned": "encounter.planned", "onleave": "encounter.leave_began",
        "finished": "encounter.discharged", "cancelled": "encounter.plan_cancelled",
        "entered-in-error": "encounter.deleted",
    },
    "Immunization": {"": "immunization.recorded"},
    "MedicationAdministration": {"": "medication.administered"},
    "MedicationDispense": {"": "medication.dispensed"},
    "MedicationRequest": {"": "medication.prescribed"},
    "MedicationStatement": {"": "medication.recorded"},
    "Observation": {"": "observation.recorded"},
    "Practitioner": {"": "staff.updated"},
    "PractitionerRole": {"": "staff.updated"},
    "RelatedPerson": {"": "related_person.changed"},
    "ServiceRequest": {
        "": "order.updated", "active": "order.placed", "revoked": "order.cancelled",
        "entered-in-error": "order.cancelled",
    },
}  # fmt: skip
_REFERRED: Final = {"order.placed": "referral.requested", "order.updated": "referral.updated"}
_STAYS: Final = frozenset({"IMP", "ACUTE", "NONAC", "EMER"})


def event_of(reader: Reader, resource: Node, told: Told) -> Event:
    """Return the event that a resource tells; ``patient.mrn`` is None where the patient cannot be known by anything.

    Raises `Untold` where it tells none, and `StepError` with the path where something that an event needs is missing.
    """
    kind = str(resource.get("resourceType"))
    parts = PARTS[kind](reader, resource)
    if kind == "Patient":
        return _person(reader, resource, told, parts)
    patient = Patient() if kind in WITHOUT_PATIENT else subject_of(reader, resource, told)
    parts.setdefault("encounter", _visit(reader, resource, kind))
    return Event(
        kind=_kind(kind, resource, told),
        source=source_of(resource, told),
        patient=patient,
        occurred_at=occurred(resource, told),
        **parts,
    )


def subject_of(reader: Reader, resource: Node, told: Told) -> Patient:
    """Return whom a resource is about, in full where the Patient came along."""
    return subjects_of(reader, resource, told)[0]


def subjects_of(reader: Reader, resource: Node, told: Told) -> list[Patient]:
    """Return whom a resource is about: one, but for an Appointment of several patients."""
    kind = str(resource.get("resourceType"))
    if kind == "Patient":
        return [_told_patient(reader, resource)]
    name, links = _subject_links(reader, resource, kind)
    place = f"{told.place or kind}.{name}"
    if not links:
        untold = Untold if kind == "Appointment" else StepError
        raise untold(
            f"{place} names no patient, so nobody can say whom this is about", step="canonical", location=place
        )
    return [_patient_of(reader, link, place) for link in links]


def has_subject(reader: Reader, resource: Node) -> bool:
    """Tell whether a resource says whom it is about; a Patient and staff do not."""
    return bool(_subject_links(reader, resource, str(resource.get("resourceType")))[1])


def _subject_links(reader: Reader, resource: Node, kind: str) -> tuple[str, list[Node]]:
    """Return the element of a resource that names the patients, and what it refers to."""
    if kind == "Appointment":
        return "participant", [each for each in actors(resource) if reader.find(each).kind == "Patient"]
    name = _SUBJECTS.get(kind, "subject")
    return name, nodes(resource, name)[:1]


def _patient_of(reader: Reader, link: Node, place: str) -> Patient:
    target = reader.find(link)
    if target.kind not in {"Patient", ""}:
        raise Untold(f"{place} is no patient; filter such messages out", step="canonical", location=place)
    if target.resource:
        return _told_patient(reader, target.resource)
    return referred_patient(target.known)


def _told_patient(reader: Reader, resource: Node) -> Patient:
    """Return a Patient that came along; most of a Bundle is about the same one."""
    known = reader.pool.patients
    if id(resource) not in known:
        known[id(resource)] = map_patient(reader.of(resource), resource)
    return known[id(resource)]


def _visit(reader: Reader, resource: Node, kind: str) -> Encounter | None:
    if kind == "DocumentReference":
        return visit(reader, node(node(resource, "context"), "encounter"))
    return visit(reader, node(resource, _VISITS.get(kind, "encounter")))


def _kind(kind: str, resource: Node, told: Told) -> str:
    if kind == "Consent":
        return _consent_kind(resource, told)
    if kind == "DocumentReference":
        return _document_kind(resource)
    status = text(resource, "status") or ""
    found = _KINDS[kind].get(status) or _KINDS[kind][""]
    if kind == "ServiceRequest" and is_referral(resource):
        return _REFERRED.get(found, "referral.cancelled")
    stays = text(node(resource, "class"), "code") in _STAYS
    if kind == "Encounter" and found == "encounter.updated" and stays and _is_new(resource, told):
        return "encounter.admitted"
    return found


def _is_new(resource: Node, told: Told) -> bool:
    return told.method == "POST" or text(node(resource, "meta"), "versionId") == "1"


def _consent_kind(consent: Node, told: Told) -> str:
    status = text(consent, "status")
    if status in {"draft", "proposed"}:
        place = f"{told.place or 'Consent'}.status"
        raise Untold(f"{place}: a consent that is a draft allows and forbids nothing", step="canonical", location=place)
    rules = {text(node(consent, "provision"), "type"), code(node(consent, "policyRule"), "v3-ActCode")}
    return "consent.given" if status == "active" and not rules & {"deny", "OPTOUT", "OPTOUTE"} else "consent.withdrawn"


def _document_kind(document: Node) -> str:
    status, completion = text(document, "status"), text(document, "docStatus")
    if "entered-in-error" in {status, completion}:
        return "document.cancelled"
    if any(each.get("code") == "replaces" for each in nodes(document, "relatesTo")):
        return "document.replaced"
    return "document.updated" if status == "superseded" or completion == "amended" else "document.added"


def source_of(resource: Node, told: Told) -> Source:
    """Return where a resource came from: what its Bundle says, else what its own meta says."""
    meta = node(resource, "meta")
    name, version = text(resource, "id") or "", text(meta, "versionId")
    return Source(
        application=told.source.application or text(meta, "source") or "",
        facility=told.source.facility,
        control_id=told.source.control_id or (f"{name}/_history/{version}" if name and version else name),
        message_type=str(resource.get("resourceType")),
        version=VERSION,
    )


def occurred(resource: Node, told: Told) -> str | None:
    """Return when a resource was written, else when it says that it happened, else when its Bundle was made."""
    written = told.at or text(node(resource, "meta"), "lastUpdated")
    own = written or next((each for name in _TIMES if (each := text(resource, name))), None)
    return own or moment(resource, "effective") or moment(resource, "occurrence") or told.sent_at


def _person(reader: Reader, resource: Node, told: Told, parts: Parts) -> Event:
    patient, merge = _told_patient(reader, resource), None
    kind = "patient.registered" if _is_new(resource, told) else "patient.updated"
    for link in nodes(resource, "link"):
        other = _other(reader, node(link, "other"))
        place = f"{told.place or 'Patient'}.link"
        if link.get("type") == "replaced-by" and other.mrn != patient.mrn:
            patient, merge = other, _merged(patient, place)
        elif link.get("type") == "replaces" and other.mrn != patient.mrn:
            merge = _merged(other, place)
        if merge:
            kind = "patient.merged"
            break
    return Event(
        kind=kind,
        source=source_of(resource, told),
        patient=patient,
        occurred_at=occurred(resource, told),
        merge=merge,
        **parts,
    )


def _other(reader: Reader, link: Node) -> Patient:
    target = reader.find(link)
    if target.resource.get("resourceType") == "Patient":
        return _told_patient(reader, target.resource)
    return referred_patient(target.known)


def _merged(retired: Patient, place: str) -> Merge:
    if retired.mrn is None:
        text = f"{place}: the record that was replaced has no usable identifier, and the server's address is not known"
        raise StepError(text, step="canonical", location=place)
    known: tuple[Identifier, ...] = retired.identifiers
    return Merge(identifiers=tuple([each for each in known if each.system or each.type != "RI"]), mrn=retired.mrn)
