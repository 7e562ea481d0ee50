"""This module writes what is arranged with a patient as FHIR R4: visits, appointments, orders, documents."""

from datetime import datetime, timedelta
from typing import Final

from broker.canonical.model import (
    Appointment,
    ClinicalDocument,
    Communication,
    Concept,
    Consent,
    Encounter,
    Location,
    Order,
    Practitioner,
    Referral,
)
from broker.errors import StepError
from transforms.to_fhir_links import Links
from transforms.to_fhir_types import (
    ABSENT,
    Json,
    attachment,
    chosen,
    concept,
    fhir_code,
    identifiers,
    notes,
    number,
    place,
    table_code,
    words,
)

# HL7 table 0004 -> v3-ActCode. What has no counterpart there keeps its own code.
CLASSES: Final = {"I": "IMP", "O": "AMB", "E": "EMER", "P": "PRENC"}
_ENCOUNTER_STATUSES: Final = frozenset(
    {"planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error"}
)
# The participants of an encounter -> v3-ParticipationType.
PARTICIPANTS: Final = (("attending", "ATND"), ("referring", "REF"), ("admitting", "ADM"))
_APPOINTMENT_STATUSES: Final = frozenset(
    {"proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error", "checked-in"}
)
_APPOINTMENT_OF_KIND: Final = {
    "appointment.requested": "proposed",
    "appointment.cancelled": "cancelled",
    "appointment.no_show": "noshow",
    "appointment.arrived": "arrived",
}
_UNTIMED: Final = frozenset({"proposed", "cancelled"})  # FHIR R4 Appointment, invariant app-3
_ENDED: Final = frozenset({"cancelled", "noshow"})  # likewise, app-4
_REQUEST_STATUSES: Final = frozenset({"draft", "active", "on-hold", "revoked", "completed", "entered-in-error"})
_INTENTS: Final = frozenset({"proposal", "plan", "directive", "order", "original-order", "reflex-order", "option"})
_PRIORITIES: Final = frozenset({"routine", "urgent", "asap", "stat"})
_DOCUMENT_STATUSES: Final = frozenset({"current", "superseded", "entered-in-error"})
_DOC_STATUSES: Final = frozenset({"preliminary", "final", "amended", "entered-in-error"})
_CONSENT_STATUSES: Final = frozenset({"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"})
_COMMUNICATION_STATUSES: Final = frozenset(
    {"preparation", "in-progress", "not-done", "on-hold", "stopped", "completed", "entered-in-error"}
)


def encounters(links: Links) -> list[Json]:
    """Return the encounter of the event, where it has one."""
    given = links.event.encounter
    return [_encounter(links, given)] if given is not None else []


def _encounter(links: Links, given: Encounter) -> Json:
    ended = "finished" if given.discharged_at else "unknown"
    start = given.admitted_at or (given.expected_admission_at if given.status == "planned" else None)
    own = links.own("Encounter", given.identifier, given.patient_class, given.admitted_at)
    resource = {
        "identifier": [own, *(each for each in identifiers(given.alternate) if each != own)],
        "status": chosen(given.status, _ENCOUNTER_STATUSES, ended),
        "class": _class(given.patient_class),
        "type": [concept(given.type)],
        "serviceType": table_code("0069", given.service),
        "subject": links.patient(),
        "participant": _participants(links, given),
        "period": links.period(start, given.discharged_at),
        "reasonCode": [concept(given.reason)],
        "hospitalization": _hospitalization(given),
        "location": _places(given),
    }
    return links.finished("Encounter", resource)


def _class(code: str | None) -> Json:
    if not code:
        return {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"}
    if code in CLASSES:
        return {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": CLASSES[code]}
    if code in CLASSES.values():
        return {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}
    return {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": " ".join(code.split())}


def _participants(links: Links, given: Encounter) -> list[Json]:
    people: list[tuple[Practitioner | None, str]] = [(getattr(given, name), code) for name, code in PARTICIPANTS]
    people += [(each, "CON") for each in given.consulting]
    return [
        {"type": [fhir_code("v3-ParticipationType", code)], "individual": links.practitioner(who)}
        for who, code in people
        if who is not None
    ]


def _hospitalization(given: Encounter) -> Json:
    before = identifiers(given.preadmit)
    return {
        "preAdmissionIdentifier": before[0] if before else None,
        "admitSource": table_code("0023", given.origin),
        "destination": {"display": given.destination} if given.destination else None,
        "dischargeDisposition": table_code("0112", given.disposition),
    }


def _places(given: Encounter) -> list[Json]:
    found: list[Json] = []
    for where, status in ((given.location, "active"), (given.prior_location, "completed")):
        if where is not None:
            found.append({"location": {"type": "Location", "display": place(where)}, "status": status})
    return found


def appointments(links: Links) -> list[Json]:
    """Return the appointment of the event, where it has one; raise `StepError` where its time cannot be written."""
    given = links.event.appointment
    return [_appointment(links, given)] if given is not None else []


def _appointment(links: Links, given: Appointment) -> Json:
    status = _APPOINTMENT_OF_KIND.get(links.event.kind, "booked")
    status = chosen(given.status, _APPOINTMENT_STATUSES, status) or status
    start, end = _slot(links, given, status)
    priority = number(given.priority)
    resource = {
        "identifier": identifiers(given.identifier, given.filler)
        or [links.own("Appointment", None, given.starts_at, given.type and given.type.code)],
        "status": status,
        "cancelationReason": concept(given.event_reason) if status in _ENDED else None,
        "serviceType": [concept(each) for each in given.services],
        "appointmentType": concept(given.type),
        "reasonCode": [concept(given.reason)],
        "priority": int(priority) if priority is not None and priority >= 0 else None,
        "start": start,
        "end": end,
        "minutesDuration": given.minutes if given.minutes and given.minutes > 0 else None,
        "comment": given.comment,
        "participant": _invited(links, given, "needs-action" if status in {"proposed", "pending"} else "accepted"),
    }
    return links.finished("Appointment", resource)


def _slot(links: Links, given: Appointment, status: str) -> tuple[str | None, str | None]:
    """Return start and end, both or neither (FHIR R4 Appointment, invariant app-2)."""
    start, end = links.instant(given.starts_at), links.instant(given.ends_at)
    if start is None and status not in _UNTIMED:
        what = "has no offset from UTC: give `zone`" if given.starts_at else "is not said"
        raise StepError(f"fhir: the start of the appointment {what}, and FHIR needs it", location="Appointment.start")
    if start is None:
        return None, None
    if end is None and given.minutes:
        end = (datetime.fromisoformat(start) + timedelta(minutes=given.minutes)).isoformat()
    return start, end or start


def _invited(links: Links, given: Appointment, status: str) -> list[Json]:
    actors = [links.patient(), *(links.practitioner(each) for each in given.practitioners)]
    actors += [_location(each) for each in given.locations]
    actors += [_named("Device", each) for each in given.resources]
    found: list[Json] = [{"actor": actor, "status": status} for actor in actors if actor]
    return found or [{"actor": {"display": "unknown"}, "status": status}]


def _location(given: Location) -> Json:
    return {"type": "Location", "display": place(given)}


def _named(kind: str, given: Concept | None) -> Json | None:
    if given is None:
        return None
    return {"type": kind, "display": given.text or given.code}


def requests(links: Links) -> list[Json]:
    """Return what was ordered, and the referral."""
    found = [_order(links, each, number) for number, each in enumerate(links.event.orders)]
    return [*found, _referral(links, links.event.referral)] if links.event.referral is not None else found


def _order(links: Links, given: Order, place_in_event: int) -> Json:
    group = identifiers(given.group)
    resource = {
        "identifier": identifiers(given.identifier, given.filler)
        or [links.own("ServiceRequest", None, given.ordered_at, given.code and given.code.code, place_in_event)],
        "basedOn": links.order(given.parent),
        "requisition": group[0] if group else None,
        "status": chosen(given.status, _REQUEST_STATUSES, "unknown"),
        "intent": chosen(given.intent, _INTENTS, "order"),
        "priority": chosen(given.priority, _PRIORITIES, None),
        "code": concept(given.code),
        "subject": links.patient(),
        "encounter": links.encounter(),
        **_wanted(links, given),
        "authoredOn": links.moment(given.ordered_at),
        "requester": links.practitioner(given.orderer),
        "reasonCode": [concept(given.reason)],
        "specimen": [_named("Specimen", given.specimen)],
        "note": notes(given.notes),
    }
    return links.finished("ServiceRequest", resource)


def _wanted(links: Links, given: Order) -> Json:
    if given.ends_at:
        return {"occurrencePeriod": links.period(given.starts_at, given.ends_at)}
    return {"occurrenceDateTime": links.moment(given.starts_at)}


def _referral(links: Links, given: Referral) -> Json:
    referred = {"coding": [{"system": "http://snomed.info/sct", "code": "3457005"}], "text": "Patient referral"}
    to = given.receiving_organization
    resource = {
        "identifier": [
            links.own("ServiceRequest", given.identifier, "referral", given.effective_at),
            *identifiers(given.authorization),
        ],
        "status": chosen(given.status, _REQUEST_STATUSES, "unknown"),
        "intent": "order",
        "category": [referred, concept(given.category)],
        "priority": chosen(given.priority, _PRIORITIES, None),
        "code": concept(given.type),
        "subject": links.patient(),
        "encounter": links.encounter(),
        "occurrencePeriod": links.period(given.effective_at, given.expires_at),
        "requester": links.practitioner(given.sender),
        "performerType": concept(given.receiver.specialty) if given.receiver else None,
        "performer": [
            links.practitioner(given.receiver),
            links.organization(to),
        ],
        "reasonCode": [concept(given.reason)],
        "note": notes(given.notes),
    }
    return links.finished("ServiceRequest", resource)


def documents(links: Links) -> list[Json]:
    """Return the document of the event, where it has one."""
    given = links.event.document
    return [_document(links, given)] if given is not None else []


def _document(links: Links, given: ClinicalDocument) -> Json:
    own = links.own("DocumentReference", given.identifier, given.title, given.created_at)
    before = identifiers(given.replaces)
    resource = {
        "masterIdentifier": own if given.identifier else None,
        "identifier": [own],
        "status": chosen(given.status, _DOCUMENT_STATUSES, "current"),
        "docStatus": chosen(given.completion, _DOC_STATUSES, None),
        "type": concept(given.type),
        "category": [concept(given.category)],
        "subject": links.patient(),
        "date": links.instant(given.created_at),
        "author": [links.practitioner(given.author)],
        "authenticator": links.practitioner(given.authenticator),
        "relatesTo": [
            {"code": "replaces", "target": {"type": "DocumentReference", "identifier": each}} for each in before
        ],
        "description": given.title,
        "securityLabel": [table_code("0272", given.confidentiality)],
        "content": [{"attachment": attachment(each)} for each in given.attachments] or [{"attachment": ABSENT}],
        "context": {"encounter": [links.encounter()]},
    }
    return links.finished("DocumentReference", resource)


def consents(links: Links) -> list[Json]:
    """Return what the patient allows or forbids, where the event says so."""
    given = links.event.consent
    return [_consent(links, given)] if given is not None else []


def _consent(links: Links, given: Consent) -> Json:
    rule = {"deny": "OPTOUT"}.get(given.decision or "", "OPTIN")
    document = {"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}
    resource = {
        "identifier": [links.own("Consent", given.identifier, given.purpose, given.channel)],
        "status": chosen(given.status, _CONSENT_STATUSES, "active"),
        "scope": concept(given.scope) or fhir_code("consentscope", "patient-privacy"),
        "category": [concept(given.category) or document],
        "patient": links.patient(),
        "dateTime": links.moment(given.given_at),
        "policyRule": words(given.policy) or fhir_code("v3-ActCode", rule),
        "provision": {
            "type": given.decision if given.decision in {"permit", "deny"} else None,
            "period": links.period(given.starts_at, given.ends_at),
            "purpose": [{"display": given.purpose}] if given.purpose else None,
            "code": [words(given.channel)],
        },
    }
    return links.finished("Consent", resource)


def communications(links: Links) -> list[Json]:
    """Return the message that went to or came from the patient, where the event tells of one."""
    given = links.event.communication
    return [_communication(links, given)] if given is not None else []


def _communication(links: Links, given: Communication) -> Json:
    resource = {
        "identifier": [links.own("Communication", given.identifier, given.sent_at, given.received_at)],
        "status": chosen(given.status, _COMMUNICATION_STATUSES, "unknown"),
        "category": [concept(given.category)],
        "medium": [concept(given.medium)],
        "subject": links.patient(),
        "topic": concept(given.topic),
        "encounter": links.encounter(),
        "sent": links.moment(given.sent_at),
        "received": links.moment(given.received_at),
        "recipient": [links.pointer(each) for each in given.recipients],
        "sender": links.pointer(given.sender),
        "payload": [{"contentString": given.text}] if given.text else None,
    }
    return links.finished("Communication", resource)
