"""This module maps FHIR Appointment and Encounter to the canonical model."""

from typing import Final

from broker.canonical.model import Appointment, Concept, Encounter, Location, Practitioner
from transforms.fhir_pool import Reader
from transforms.fhir_types import (
    NOTHING,
    Node,
    code,
    codes,
    concept,
    concepts,
    first_identifier,
    identifier,
    node,
    nodes,
    text,
    whole,
    worded,
)

# v3-ActCode -> HL7 table 0004; any other class stays as it was sent.
_CLASSES: Final = {
    "AMB": "O", "EMER": "E", "IMP": "I", "ACUTE": "I", "NONAC": "I", "PRENC": "P", "SS": "O", "VR": "O", "HH": "O",
    "OBSENC": "O", "FLD": "O",
}  # fmt: skip
# v3-ParticipationType -> what somebody is to an encounter.
_ATTENDING: Final = ("ATND", "PPRF", "SPRF")
# diagnosis-role -> HL7 table 0052.
_DIAGNOSES: Final = {"AD": "A", "CC": "W", "DD": "F"}


def map_appointment(reader: Reader, appointment: Node) -> Appointment:
    """Return an Appointment with whom and where it is."""
    wanted = node(appointment, "requestedPeriod")
    priority = whole(appointment, "priority")
    return Appointment(
        identifier=first_identifier(appointment, "PLAC") or first_identifier(appointment) or reader.named(appointment),
        filler=first_identifier(appointment, "FILL"),
        status=text(appointment, "status"),
        type=concept(node(appointment, "appointmentType")),
        reason=concept(node(appointment, "reasonCode")) or _why(reader, appointment),
        event_reason=concept(node(appointment, "cancelationReason")),
        starts_at=text(appointment, "start") or text(wanted, "start"),
        ends_at=text(appointment, "end") or text(wanted, "end"),
        minutes=whole(appointment, "minutesDuration"),
        services=concepts(appointment, "serviceType"),
        practitioners=_practitioners(reader, appointment),
        locations=_locations(reader, appointment),
        resources=_resources(reader, appointment),
        priority=str(priority) if priority is not None else None,
        comment=text(appointment, "comment") or text(appointment, "description"),
    )


def _why(reader: Reader, resource: Node) -> Concept | None:
    return next(
        (found for each in reader.each(resource, "reasonReference") if (found := concept(node(each, "code")))), None
    )


def actors(appointment: Node) -> list[Node]:
    """Return the References to whom and what takes part."""
    return [actor for each in nodes(appointment, "participant") if (actor := node(each, "actor"))]


def _practitioners(reader: Reader, appointment: Node) -> tuple[Practitioner, ...]:
    wanted = {"Practitioner", "PractitionerRole"}
    found = [reader.practitioner(each) for each in actors(appointment) if reader.find(each).kind in wanted]
    return tuple([each for each in found if each])


def _locations(reader: Reader, appointment: Node) -> tuple[Location, ...]:
    found = [reader.location(each) for each in actors(appointment) if reader.find(each).kind == "Location"]
    return tuple([each for each in found if each])


def _resources(reader: Reader, appointment: Node) -> tuple[Concept, ...]:
    found = []
    for actor in actors(appointment):
        target = reader.find(actor)
        if target.kind in {"Device", "HealthcareService"}:
            words = text(actor, "display") or text(target.resource, "name")
            known = first_identifier(target.resource)
            if words or known:
                found.append(Concept(code=known.value if known else None, text=words))
    return tuple(found)


def map_encounter(reader: Reader, encounter: Node) -> Encounter:
    """Return an Encounter; its class in the codes of HL7 table 0004 where there is one."""
    period, stay = node(encounter, "period"), node(encounter, "hospitalization")
    here, before = _places(reader, encounter)
    planned = text(encounter, "status") == "planned"
    begins, ends = text(period, "start"), text(period, "end")
    return Encounter(
        identifier=first_identifier(encounter, "VN") or first_identifier(encounter) or reader.named(encounter),
        status=text(encounter, "status"),
        patient_class=_class(node(encounter, "class")),
        location=here,
        prior_location=before,
        attending=_participant(reader, encounter, _ATTENDING),
        referring=_participant(reader, encounter, ("REF",)),
        service=worded(concept(node(encounter, "serviceType"))),
        admitted_at=begins,
        discharged_at=None if planned else ends,
        disposition=code(node(stay, "dischargeDisposition")) or text(node(stay, "dischargeDisposition"), "text"),
        type=concept(node(encounter, "type")),
        reason=concept(node(encounter, "reasonCode")) or _why(reader, encounter),
        consulting=tuple(_participants(reader, encounter, ("CON",))),
        admitting=_participant(reader, encounter, ("ADM",)),
        preadmit=identifier(node(stay, "preAdmissionIdentifier")),
        origin=code(node(stay, "admitSource")) or text(node(stay, "admitSource"), "text"),
        destination=text(node(stay, "destination"), "display"),
        expected_admission_at=begins if planned else None,
        expected_discharge_at=ends if planned else None,
    )


def _class(coding: Node) -> str | None:
    found = text(coding, "code") or text(coding, "display")
    return _CLASSES.get(found, found) if found else None


def _places(reader: Reader, encounter: Node) -> tuple[Location | None, Location | None]:
    """Return where the patient is, and where they were before."""
    told = nodes(encounter, "location")
    left = [each for each in told if text(each, "status") == "completed"]
    there = [each for each in told if text(each, "status") not in {"completed", "planned", "reserved"}]
    here = there[-1] if there else left.pop() if left else NOTHING
    before = left[-1] if left else NOTHING
    return reader.location(node(here, "location")), reader.location(node(before, "location"))


def _participants(reader: Reader, encounter: Node, kinds: tuple[str, ...]) -> list[Practitioner]:
    ranked = [
        (kinds.index(kind), found)
        for each in nodes(encounter, "participant")
        for kind in codes(each, "type")
        if kind in kinds and (found := reader.practitioner(node(each, "individual")))
    ]
    return [found for _, found in sorted(ranked, key=lambda pair: pair[0])]


def _participant(reader: Reader, encounter: Node, kinds: tuple[str, ...]) -> Practitioner | None:
    return next(iter(_participants(reader, encounter, kinds)), None)


def diagnoses(encounter: Node) -> list[tuple[Node, str | None, int | None]]:
    """Return the References to an encounter's diagnoses, each with its kind (HL7 table 0052) and rank."""
    return [
        (node(each, "condition"), _DIAGNOSES.get(code(node(each, "use")) or ""), whole(each, "rank"))
        for each in nodes(encounter, "diagnosis")
    ]


def visit(reader: Reader, link: Node) -> Encounter | None:
    """Return the encounter that a Reference points to, in full where it came along."""
    if not link:
        return None
    target = reader.find(link)
    if target.kind not in {"Encounter", ""}:
        return None
    if target.resource:
        return map_encounter(reader.of(target.resource), target.resource)
    return Encounter(identifier=target.known) if target.known else None
