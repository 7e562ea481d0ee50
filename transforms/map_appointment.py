"""This module maps scheduling messages (SIU S12 to S26, SRM and SRR) to appointments."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from broker.canonical.model import Appointment, Concept, Event, Location, Practitioner
from broker.wire.er7 import Message
from transforms.hl7_codes import entity, first_concept, quantity, whole
from transforms.hl7_types import Reader, padded, reader_of
from transforms.map_coverage import coverage
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_loose import loose_observations
from transforms.map_people import related_people
from transforms.map_subject import encounter_of, fail_missing, fields_of, occurred_at, patient_of, source_of, trigger_of
from transforms.times import fhir_datetime

# Trigger -> kind, and the status that it leaves the appointment in, unless SCH-25 may say.
TRIGGERS: Final = {
    "S12": "appointment.booked",
    "S13": "appointment.rescheduled",
    "S14": "appointment.updated",
    "S15": "appointment.cancelled",
    "S16": "appointment.cancelled",
    "S17": "appointment.cancelled",
    "S18": "appointment.updated",
    "S19": "appointment.updated",
    "S20": "appointment.updated",
    "S21": "appointment.updated",
    "S22": "appointment.updated",
    "S23": "appointment.updated",
    "S24": "appointment.updated",
    "S26": "appointment.no_show",
}
REQUESTS: Final = {f"S{number:02}": "appointment.requested" for number in range(1, 12)}
ANSWERS: Final = dict.fromkeys(REQUESTS, "appointment.updated")
_STATUSES: Final = {"S15": "cancelled", "S16": "cancelled", "S17": "entered-in-error", "S26": "noshow"}
# HL7 table 0278, and what senders write there instead -> FHIR AppointmentStatus.
_FILLER_STATUSES: Final = {
    "pending": "pending", "waitlist": "waitlist", "booked": "booked", "overbook": "booked", "scheduled": "booked",
    "confirmed": "booked", "rescheduled": "booked", "arrived": "arrived", "checkedin": "arrived", "started": "arrived",
    "complete": "fulfilled", "completed": "fulfilled", "checkedout": "fulfilled", "cancelled": "cancelled",
    "canceled": "cancelled", "dc": "cancelled", "discontinued": "cancelled", "deleted": "entered-in-error",
    "noshow": "noshow",
}  # fmt: skip
# What has happened when a change (S14) leaves an appointment in one of these states.
_KINDS: Final = {
    "arrived": "appointment.arrived",
    "fulfilled": "appointment.arrived",
    "cancelled": "appointment.cancelled",
    "entered-in-error": "appointment.cancelled",
    "noshow": "appointment.no_show",
}
# Seconds of a unit of time: UCUM, ANS+ and what people write.
_UNITS: Final = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "": 60, "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_MOST_MINUTES: Final = 366 * 24 * 60
_SCH_FIELDS: Final = 27
_RESOURCES: Final = ("AIS", "AIG", "AIL", "AIP")
_RESOURCE_FIELDS: Final = 12
_REMOVED: Final = "D"  # segment action, HL7 table 0206


def map_appointment(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a notification about an appointment (SIU) tells; see `map_adt`."""
    trigger = trigger_of(message, TRIGGERS)
    if message.first("SCH") is None:
        fail_missing(message, "SCH", "which appointment this is about")
    fields = padded(fields_of(message, "SCH", _SCH_FIELDS), _SCH_FIELDS)
    read = reader_of(message)
    said = _FILLER_STATUSES.get(_word(read.first(fields[25])))
    status = _STATUSES.get(trigger) or said or "booked"
    kind = _KINDS.get(status, TRIGGERS[trigger]) if trigger == "S14" else TRIGGERS[trigger]
    return _event(message, kind, _appointment(message, fields, status, read), without)


def map_appointment_request(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a request for an appointment (SRM) tells."""
    trigger = trigger_of(message, REQUESTS)
    if message.first("ARQ") is None:
        fail_missing(message, "ARQ", "what is asked for")
    read, arq = reader_of(message), fields_of(message, "ARQ", _SCH_FIELDS)
    # ARQ-1 to 10 are as SCH-1 to 10; ARQ-11 is a range of times, and ARQ-14 the priority.
    fields = [*arq[:11], *[""] * (_SCH_FIELDS - 10)]
    appointment = _appointment(message, fields, "proposed", read, wanted=read.first(arq[11]), priority=arq[14])
    return _event(message, REQUESTS[trigger], appointment, without)


def map_appointment_answer(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that an answer to a request (SRR) tells; a refusal has no SCH, and so no appointment."""
    trigger = trigger_of(message, ANSWERS)
    read, appointment = reader_of(message), None
    if message.first("SCH") is not None:
        fields = fields_of(message, "SCH", _SCH_FIELDS)
        said = _FILLER_STATUSES.get(_word(read.first(fields[25])))
        appointment = _appointment(message, fields, said, read)
    return _event(message, ANSWERS[trigger], appointment, without)


def _event(message: Message, kind: str, appointment: Appointment | None, without: frozenset[str]) -> Event:
    patient, cleared = patient_of(message, without)
    encounter, emptied = encounter_of(message)
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        appointment=appointment,
        cleared=cleared + emptied,
        observations=loose_observations(message),
        conditions=conditions_of(message),
        allergies=allergies_of(message),
        coverage=coverage(message),
        related_people=related_people(message),
    )


def _appointment(
    message: Message,
    fields: list[str],
    status: str | None,
    read: Reader,
    *,
    wanted: str | None = None,
    priority: str = "",
) -> Appointment:
    placer, filler = entity(read, fields[1]), entity(read, fields[2])
    resources = _resources(message)
    starts_at, ends_at = _times(message, fields, resources, read)
    starts_at = starts_at or (fhir_datetime(wanted) if wanted else None)
    minutes = _minutes(fields[9], fields[10], read) or _minutes_booked(message, fields[11], resources, read)
    return Appointment(
        identifier=placer or filler,
        filler=filler,
        status=status,
        type=first_concept(read, fields[8]),
        reason=first_concept(read, fields[7]),
        event_reason=first_concept(read, fields[6]),
        starts_at=starts_at,
        ends_at=ends_at or _later(starts_at, minutes),
        minutes=minutes,
        services=_concepts(resources, "AIS", read),
        practitioners=_practitioners(resources, read),
        locations=_locations(resources, read),
        resources=_concepts(resources, "AIG", read),
        priority=read.first(fields_of(message, "TQ1", 9)[9]) or (read.first(priority) if priority else None),
        comment=_comment(message, read),
    )


def _word(text: str | None) -> str:
    return "".join(character for character in text.lower() if character.isalpha()) if text else ""


def _resources(message: Message) -> list[list[str]]:
    """Return AIS, AIG, AIL and AIP, in the order of the message, without those that are taken away."""
    separator = message.separators.field
    found = [padded(line.split(separator), _RESOURCE_FIELDS) for line in message.lines() if line.startswith(_RESOURCES)]
    return [fields for fields in found if fields[2] != _REMOVED]


def _timed(fields: list[str]) -> tuple[str, str, str]:
    """Return start, duration and its unit of a resource: they stand one field later in AIG, and two in AIL and AIP."""
    first = {"AIS": 4, "AIG": 8}.get(fields[0], 6)
    return fields[first], fields[first + 3], fields[first + 4]


def _times(
    message: Message, fields: list[str], resources: list[list[str]], read: Reader
) -> tuple[str | None, str | None]:
    """Return start and end: TQ1 says them since 2.5, SCH-11 (TQ) did before; else the earliest resource's start."""
    tq1 = fields_of(message, "TQ1", 8)
    starts, ends = _time(tq1[7], read), _time(tq1[8], read)
    if starts is None and fields[11]:
        parts = read.components(read.repetitions(fields[11])[0] if read.repetitions(fields[11]) else "", 5)
        starts, ends = (fhir_datetime(part) if part else None for part in parts[3:5])
    if starts is None:
        starts = min((time for item in resources if (time := _time(_timed(item)[0], read))), default=None)
    return starts, ends


def _minutes_booked(message: Message, timing: str, resources: list[list[str]], read: Reader) -> int | None:
    """Return the length where SCH-9 does not say it: TQ1-6, SCH-11.3 (``M30``), else that of the longest resource."""
    amount, unit = quantity(read, fields_of(message, "TQ1", 6)[6])
    if amount is not None:
        return _converted(amount, unit or "")
    pattern = read.component(timing, 3) if timing else None
    if pattern and pattern[0] in "SMHD":
        return _converted(pattern[1:], pattern[0])
    lengths = [_minutes(*_timed(item)[1:], read) for item in resources]
    return max((length for length in lengths if length), default=None)


def _minutes(amount: str, unit: str, read: Reader) -> int | None:
    value = read.first(amount) if amount else None
    return _converted(value, read.first(unit) or "") if value else None


def _converted(amount: str, unit: str) -> int | None:
    seconds, number = _UNITS.get(unit.lower().rstrip(".")), whole(amount)
    if seconds is None or number is None or number <= 0:
        return None
    minutes = max(number * seconds // 60, 1)
    return minutes if minutes <= _MOST_MINUTES else None


def _later(starts_at: str | None, minutes: int | None) -> str | None:
    if starts_at is None or minutes is None or "T" not in starts_at:
        return None
    try:
        return (datetime.fromisoformat(starts_at) + timedelta(minutes=minutes)).isoformat()
    except (ValueError, OverflowError):  # the end of the calendar
        return None


def _time(field: str, read: Reader) -> str | None:
    value = read.first(field) if field else None
    return fhir_datetime(value) if value else None


def _concepts(resources: list[list[str]], name: str, read: Reader) -> tuple[Concept, ...]:
    return tuple([found for item in resources if item[0] == name and (found := first_concept(read, item[3]))])


def _practitioners(resources: list[list[str]], read: Reader) -> tuple[Practitioner, ...]:
    found: list[Practitioner] = []
    for item in resources:
        for part in read.repetitions(item[3]) if item[0] == "AIP" else ():
            person = read.practitioner(part)
            role = first_concept(read, item[4])
            if person is not None and role is not None:
                person = replace(person, role=role.text or role.code)
            if person is not None:
                found.append(person)
    return tuple(dict.fromkeys(found))


def _locations(resources: list[list[str]], read: Reader) -> tuple[Location, ...]:
    found: list[Location] = []
    for item in resources:
        place = read.location(item[3]) if item[0] == "AIL" and item[3] else None
        if place is not None:
            found.append(place)
    return tuple(dict.fromkeys(found))


def _comment(message: Message, read: Reader) -> str | None:
    """Return the NTE that follow SCH (and its TQ1); those of patient and resources belong to them."""
    separator, texts = message.separators.field, []
    for line in message.lines()[1:]:
        name = line.partition(separator)[0]
        if name == "NTE":
            texts.append(read.first(padded(line.split(separator), 3)[3]))
        elif name not in ("SCH", "ARQ", "TQ1", "SFT", "UAC"):
            break
    return "\n".join(text for text in texts if text) or None
