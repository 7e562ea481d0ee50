"""This module maps messages about medications (RDE, OMP, RDS, RAS, RGV and their answers) to canonical events."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from broker.canonical.model import Concept, Event, Medication
from broker.wire.er7 import Message
from transforms.clinical import BLANK, Chart, Fields, Group, Treatment
from transforms.clinical_event import clinical_event
from transforms.hl7_codes import (
    coded_organization,
    concept,
    day_of,
    entity,
    first_concept,
    number,
    unit_of,
    whole,
)
from transforms.hl7_types import Reader, reader_of
from transforms.map_observation import notes_of, observations_of, time_at, upper_code
from transforms.map_result import practitioner_of
from transforms.map_subject import fail, type_of

REQUEST, DISPENSE, ADMINISTRATION = "request", "dispense", "administration"

_KINDS: Final = {"RDS": "medication.dispensed", "RAS": "medication.administered"}
_ANSWERS: Final = ("RR", "ORP")  # RRE, RRD, RRA, RRG, RRO, and what answers OMP
CANCELS: Final = frozenset({"CA", "OC", "CR", "DC", "OD", "DR"})
# HL7 table 0119 -> what ORC-1 says of the status, over ORC-5.
_ENDED: Final = {
    **dict.fromkeys(("CA", "OC", "CR", "UA"), "cancelled"),
    **dict.fromkeys(("DC", "OD", "DR"), "stopped"),
    **dict.fromkeys(("HD", "HR", "OH"), "on-hold"),
}
# HL7 table 0038 -> FHIR MedicationRequest.status.
_STATUSES: Final = {
    "A": "active", "CA": "cancelled", "CM": "completed", "DC": "stopped", "ER": "unknown", "HD": "on-hold",
    "IP": "active", "RP": "stopped", "SC": "active",
}  # fmt: skip
_BEGUN: Final = dict.fromkeys(("NW", "SN", "PA", "CH", "RO", "OK", "NA", "OE", "OR", "RL", "RE", "XO"), "active")
NOT_GIVEN: Final = frozenset({"RE", "NA"})  # HL7 table 0322: refused, not administered
DELETED: Final = "D"  # HL7 table 0206


class _Places(NamedTuple):
    """Where a segment has what all of them have; 0 where it has no such field."""

    code: int
    least: int
    most: int
    unit: int
    form: int
    words: tuple[int, ...]  # what to do with it, in words
    amount: int  # to be dispensed
    amount_unit: int
    refills: int
    reason: int
    person: int  # who prescribed, dispensed or gave it
    lot: int
    expires: int
    maker: int


_PLACES: Final = {
    "RXO": _Places(1, 2, 3, 4, 5, (7, 6), 11, 12, 13, 20, 14, 0, 0, 0),
    "RXE": _Places(2, 3, 4, 5, 6, (7, 21), 10, 11, 12, 27, 13, 0, 0, 0),
    "RXD": _Places(2, 0, 0, 0, 6, (9, 15), 4, 5, 8, 21, 10, 18, 19, 20),
    "RXG": _Places(4, 5, 6, 7, 8, (9, 13), 0, 0, 0, 22, 0, 19, 20, 21),
    "RXA": _Places(5, 6, 0, 7, 8, (9,), 0, 0, 0, 19, 10, 15, 16, 17),
}
_MEANINGS: Final = {"RXO": REQUEST, "RXE": REQUEST, "RXG": REQUEST, "RXD": DISPENSE, "RXA": ADMINISTRATION}
# What RXO may say and RXE leave out.
_FROM_ORDER: Final = (
    "code", "dosage", "dose", "dose_unit", "frequency", "route", "form", "site", "quantity", "quantity_unit",
    "refills", "starts_at", "ends_at", "prescriber", "reason",
)  # fmt: skip
_UNKNOWN: Final = "999"  # an amount that nobody knows (HL7 v2.5.1, 4.14.7.6)


def map_pharmacy(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message about medications tells.

    Raises `StepError` with the location when it is about nobody or several patients, or has no medication;
    ``without`` names fields of the patient that are not to be read, since something else does.
    """
    code = type_of(message)[0]
    read = reader_of(message)
    chart = Chart(message)
    medications = medications_of(chart, read)
    if not medications and not (chart.groups and code.startswith(_ANSWERS)):
        fail("RXE", "the message has no RXO, RXE, RXD, RXG or RXA, so it tells no medication; filter it out before")
    observations = tuple([found for group in chart.groups for found in observations_of(group, read)])
    return clinical_event(
        message, without, chart, _kind(code, medications), medications=medications, observations=observations
    )


def _kind(code: str, medications: Iterable[Medication]) -> str:
    if code.startswith(_ANSWERS):
        return "order.answered"
    if all(medication.control in CANCELS for medication in medications):
        return "order.cancelled"
    return _KINDS.get(code, "medication.prescribed")


def medications_of(chart: Chart, read: Reader) -> tuple[Medication, ...]:
    """Return the medications of a message; what was ordered (RXO) and how it was encoded (RXE) are one request."""
    return tuple([found for group in chart.groups if group.treatments for found in _of_group(group, read)])


def _of_group(group: Group, read: Reader) -> list[Medication]:
    found: list[Medication] = []
    for treatment in group.treatments:
        medication = map_treatment(group, treatment, read)
        if treatment.fields[0] == "RXE" and found and found[-1].kind == REQUEST:
            found[-1] = _filled(medication, found[-1])
        elif medication.code is not None:
            found.append(medication)
    if found:
        found[0] = replace(found[0], notes=found[0].notes + notes_of(group.notes, read))
    return found


def _filled(encoded: Medication, ordered: Medication) -> Medication:
    """Return a request as it was encoded, with what only the order says."""
    missing = {
        name: value
        for name in _FROM_ORDER
        if getattr(encoded, name) is None and (value := getattr(ordered, name)) is not None
    }
    return replace(
        encoded,
        notes=ordered.notes + encoded.notes,
        ingredients=encoded.ingredients or ordered.ingredients,
        **missing,
    )


def map_treatment(group: Group, treatment: Treatment, read: Reader) -> Medication:
    """Return the medication of one RXO, RXE, RXD, RXG or RXA of a group."""
    fields, order = treatment.fields, group.order or BLANK
    place, kind = _PLACES[fields[0]], _MEANINGS[fields[0]]
    control = upper_code(read, order[1])
    number_of_order = entity(read, order[2]) or entity(read, order[3])
    person = practitioner_of(read, fields[place.person]) if place.person else None
    starts_at, ends_at = _when(group, treatment, order, read)
    route = treatment.routes[0] if treatment.routes else BLANK
    requested = kind == REQUEST
    return Medication(
        code=first_concept(read, fields[place.code]),
        identifier=number_of_order if requested else None,
        kind=kind,
        status=_status(fields, kind, control, upper_code(read, order[5]), read),
        control=control or None,
        dosage=_words(fields, place.words, read) or _told(group, treatment, read),
        dose=_dose(read.first(fields[place.least]), read.first(fields[place.most])) if place.least else None,
        dose_unit=unit_of(read, fields[place.unit]) if place.unit else None,
        frequency=_frequency(group, treatment, order, read),
        route=first_concept(read, route[1]),
        form=first_concept(read, fields[place.form]),
        site=first_concept(read, route[2]),
        quantity=number(read.first(fields[place.amount])) if place.amount else None,
        quantity_unit=unit_of(read, fields[place.amount_unit]) if place.amount_unit else None,
        refills=whole(read.first(fields[place.refills])) if place.refills else None,
        prescribed_at=time_at(read, fields[32] if fields[0] == "RXE" and fields[32] else order[9]),
        starts_at=starts_at,
        ends_at=ends_at,
        prescriber=practitioner_of(read, order[12]) or (person if requested else None),
        reason=_reason(fields, place, read),
        notes=notes_of(treatment.notes, read),
        order=None if requested else number_of_order,
        performer=None if requested else person,
        lot=read.first(fields[place.lot]) if place.lot else None,
        expires_on=day_of(read, fields[place.expires]) if place.expires else None,
        manufacturer=coded_organization(read, fields[place.maker]) if place.maker else None,
        ingredients=tuple([found for each in treatment.components if (found := first_concept(read, each[2]))]),
    )


def _status(fields: Fields, kind: str, control: str, said: str, read: Reader) -> str | None:
    if kind == ADMINISTRATION:
        if upper_code(read, fields[21]) == DELETED:
            return "entered-in-error"
        return "not-done" if upper_code(read, fields[20]) in NOT_GIVEN else "completed"
    ended = _ENDED.get(control)
    if kind == DISPENSE:
        return ended or "completed"
    return ended or _STATUSES.get(said) or _BEGUN.get(control)


def _dose(least: str | None, most: str | None) -> str | None:
    """Return an amount, or both ends of it: one to two tablets are not one."""
    low, high = number(least), number(most)
    if low == _UNKNOWN:
        return None
    return f"{low}-{high}" if low and high and low != high else low or high


def _words(fields: Fields, places: Iterable[int], read: Reader) -> str | None:
    lines = []
    for place in places:
        for part in read.repetitions(fields[place]):
            found = concept(read, part)
            if found:
                lines.append(found.text or found.code or "")
    return "\n".join(dict.fromkeys(lines)) or None


def _told(group: Group, treatment: Treatment, read: Reader) -> str | None:
    """Return the instruction of TQ1-11."""
    texts = [read.plain(timing[11]) for timing in (*treatment.timings, *group.timings) if timing[11]]
    return next((text for text in texts if text), None)


def _reason(fields: Fields, place: _Places, read: Reader) -> Concept | None:
    refused = first_concept(read, fields[18]) if fields[0] == "RXA" else None
    return refused or first_concept(read, fields[place.reason])


def _frequency(group: Group, treatment: Treatment, order: Fields, read: Reader) -> str | None:
    """Return how often: the repeat patterns of TQ1-3, else of RXE-1 or ORC-7, as sent (TID, Q8H)."""
    for timing in (*treatment.timings, *group.timings):
        patterns = [_pattern(read.split(part, 1)[0], read) for part in read.repetitions(timing[3])]
        said = [pattern for pattern in patterns if pattern]
        if said:
            return " ".join(said)
    for field in (treatment.fields[1] if treatment.fields[0] == "RXE" else "", order[7]):
        found = _pattern(read.split(field, 2)[1], read) if field else None
        if found:
            return found
    return None


def _pattern(component: str, read: Reader) -> str | None:
    return unit_of(read, read.raised(component)) if component else None


def _when(group: Group, treatment: Treatment, order: Fields, read: Reader) -> tuple[str | None, str | None]:
    """Return from when until when: given (RXA), handed out (RXD), else as asked for in TQ1, RXE-1 or ORC-7."""
    fields = treatment.fields
    if fields[0] == "RXA":
        return time_at(read, fields[3]), time_at(read, fields[4])
    if fields[0] == "RXD":
        return time_at(read, fields[3]), None
    for timing in (*treatment.timings, *group.timings):
        if timing[7] or timing[8]:
            return time_at(read, timing[7]), time_at(read, timing[8])
    for field in (fields[1] if fields[0] == "RXE" else "", order[7]):
        begin, end = read.split(field, 5)[3:] if field else ("", "")
        if begin or end:
            return time_at(read, begin), time_at(read, end)
    return None, None
