"""This module maps referrals (REF I12 to I15, RRI) to canonical events."""

from typing import Final

from broker.canonical.model import Event, Identifier, Organization, Practitioner, Referral
from broker.wire.er7 import Message
from transforms.clinical import Chart
from transforms.hl7_codes import concept, entity, first_concept, organization
from transforms.hl7_types import Reader, padded, reader_of
from transforms.map_circumstances import circumstances
from transforms.map_coverage import coverage
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_observation import observations_of, time_at
from transforms.map_people import addresses, related_people, telecom
from transforms.map_result import map_report
from transforms.map_subject import encounter_of, fail_missing, fields_of, occurred_at, patient_of, source_of, trigger_of

TRIGGERS: Final = {
    "I12": "referral.requested",
    "I13": "referral.updated",
    "I14": "referral.cancelled",
    "I15": "referral.inquired",
}
ANSWERS: Final = dict.fromkeys(TRIGGERS, "referral.answered")
# HL7 table 0283 (RF1-1) and 0280 (RF1-2) -> FHIR's codes of ServiceRequest.
_STATUSES: Final = {"A": "active", "P": "draft", "R": "revoked", "E": "completed"}
_PRIORITIES: Final = {"S": "stat", "A": "asap", "R": "routine", "U": "urgent"}
_CANCELLED: Final = "referral.cancelled"
_SENDING: Final = "RP"  # HL7 table 0286: referring provider
_RECEIVING: Final = "RT"  # referred to provider
_RF1_FIELDS: Final = 11
_PRD_FIELDS: Final = 10
_AUT_FIELDS: Final = 6


def map_referral(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a referral (REF) tells; see `map_adt`."""
    return _event(message, TRIGGERS[trigger_of(message, TRIGGERS)], without)


def map_referral_answer(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that an answer to a referral (RRI) tells."""
    return _event(message, ANSWERS[trigger_of(message, ANSWERS)], without)


def _event(message: Message, kind: str, without: frozenset[str]) -> Event:
    patient, cleared = patient_of(message, without)
    encounter, emptied = encounter_of(message)
    read, chart, referral = reader_of(message), Chart(message), None
    if message.first("RF1") is not None:
        referral = _referral(message, kind)
    elif kind == TRIGGERS["I12"]:
        fail_missing(message, "RF1", "which referral this is")
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        referral=referral,
        cleared=cleared + emptied,
        results=tuple([map_report(group, read) for group in chart.groups if group.request is not None]),
        observations=observations_of(chart.head, read) + circumstances(message),
        conditions=conditions_of(message),
        allergies=allergies_of(message),
        coverage=coverage(message),
        related_people=related_people(message),
    )


def _referral(message: Message, kind: str) -> Referral:
    read, fields = reader_of(message), fields_of(message, "RF1", _RF1_FIELDS)
    status = _STATUSES.get((read.first(fields[1]) or "").upper(), "active")
    providers = _providers(message, read)
    receiver, receiving = providers.get(_RECEIVING, (None, None))
    reasons = [found for part in read.repetitions(fields[10]) if (found := concept(read, part))]
    authorization = entity(read, fields_of(message, "AUT", _AUT_FIELDS)[6])
    return Referral(
        identifier=entity(read, fields[6]) or entity(read, fields[11]),
        status="revoked" if kind == _CANCELLED else status,
        priority=_PRIORITIES.get((read.first(fields[2]) or "").upper()),
        type=first_concept(read, fields[3]),
        category=first_concept(read, fields[5]),
        reason=reasons[0] if reasons else None,
        disposition=first_concept(read, fields[4]),
        sender=providers.get(_SENDING, (None, None))[0],
        receiver=receiver,
        receiving_organization=receiving,
        effective_at=time_at(read, fields[7]),
        expires_at=time_at(read, fields[8]),
        authorization=authorization,
        notes=_notes(message, read),
    )


def _providers(message: Message, read: Reader) -> dict[str, tuple[Practitioner | None, Organization | None]]:
    """Return who is named in PRD, with their organization, by role; of several with one role the first."""
    found: dict[str, tuple[Practitioner | None, Organization | None]] = {}
    for text in message.texts("PRD"):
        fields = padded(text.split(message.separators.field), _PRD_FIELDS)
        who = (_practitioner(fields, read), organization(read, fields[10]) if fields[10] else None)
        for part in read.repetitions(fields[1]):
            role = (read.first(part) or "").upper()
            found.setdefault(role, who)
    return found


def _practitioner(fields: list[str], read: Reader) -> Practitioner | None:
    names = [name for part in read.repetitions(fields[2]) if (name := read.name(part))]
    identifiers = tuple([number for part in read.repetitions(fields[7]) if (number := _licence(part, read))])
    if not names and not identifiers:
        return None
    name = names[0] if names else None
    return Practitioner(
        identifier=identifiers[0] if identifiers else None,
        identifiers=identifiers,
        family=name.family if name else None,
        given=name.given[0] if name and name.given else None,
        prefix=name.prefix if name else None,
        suffix=name.suffix if name else None,
        telecom=telecom(read, (fields[5], "work")),
        addresses=addresses(fields[3], read),
    )


def _licence(repetition: str, read: Reader) -> Identifier | None:
    """Return a PLN (practitioner licence or other id): id, type, and the state or authority that gave it."""
    value, kind, authority = read.components(repetition, 3)
    return Identifier(value=value, system=authority or "", type=kind or "") if value else None


def _notes(message: Message, read: Reader) -> tuple[str, ...]:
    """Return the NTE before the patient: those after PID, OBX and the like belong to them."""
    separator, found = message.separators.field, []
    for line in message.lines():
        if line.startswith("PID"):
            break
        if line.startswith(f"NTE{separator}"):
            found.append(read.first(padded(line.split(separator), 3)[3]))
    return tuple([text for text in found if text])
