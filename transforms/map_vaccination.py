"""This module maps messages about vaccinations (VXU, VXR) to canonical events."""

from typing import Final

from broker.canonical.model import Event, Immunization, Observation
from broker.wire.er7 import Message
from transforms.clinical import BLANK, Chart, Group, Treatment
from transforms.clinical_event import clinical_event
from transforms.hl7_codes import coded_organization, concept, day_of, entity, first_concept, number, unit_of
from transforms.hl7_types import Reader, reader_of
from transforms.map_observation import map_observation, notes_of, time_at, upper_code
from transforms.map_pharmacy import DELETED, NOT_GIVEN
from transforms.map_subject import fail

_UNKNOWN: Final = "999"  # the dose of a vaccination that others gave (CDC's guide, RXA-6)
_SOURCES: Final = "NIP001"  # CDC's table of where the information comes from
_GIVEN_HERE: Final = "00"
_NO_VACCINE: Final = "998"  # CVX: no vaccine was given; the message tells why, or of an immunity


def map_vaccination(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message about vaccinations tells: each RXA, given, refused or from the patient's history.

    Raises `StepError` with the location when it is about nobody or several patients, or has no RXA;
    ``without`` names fields of the patient that are not to be read, since something else does.
    """
    read = reader_of(message)
    chart = Chart(message)
    immunizations = tuple([found for group in chart.groups for found in _of_group(group, read)])
    if not immunizations and message.first("OBX") is None:
        fail("RXA", "the message has neither RXA nor OBX, so it tells no vaccination; filter it out before")
    observations = tuple([found for group in chart.groups for found in _apart(group, read)])
    return clinical_event(
        message, without, chart, "immunization.recorded", immunizations=immunizations, observations=observations
    )


def _apart(group: Group, read: Reader) -> list[Observation]:
    """Return what was observed in a group before, or without, any vaccination."""
    first = next((each.first for each in group.treatments if each.fields[0] == "RXA"), len(group.observations))
    return _observed(group, 0, first, read)


def _observed(group: Group, begin: int, end: int, read: Reader) -> list[Observation]:
    return [
        found
        for segment, notes in group.observations[begin:end]
        for found in map_observation(segment, notes_of(notes, read), read)
    ]


def _of_group(group: Group, read: Reader) -> list[Immunization]:
    treatments = [each for each in group.treatments if each.fields[0] == "RXA"]
    if not treatments:
        return []
    ends = [each.first for each in treatments[1:]] + [len(group.observations)]
    return [
        _immunization(group, each, read, end, only=len(treatments) == 1)
        for each, end in zip(treatments, ends, strict=True)
    ]


def _immunization(group: Group, treatment: Treatment, read: Reader, end: int, *, only: bool) -> Immunization:
    """Return one RXA; ``end`` is where its observations end, ``only`` whether the order is for it alone."""
    fields, order = treatment.fields, group.order or BLANK
    route = treatment.routes[0] if treatment.routes else BLANK
    code, status = first_concept(read, fields[5]), _status(treatment, read)
    amount = number(read.first(fields[6]))
    given = status != "not-done" and amount != _UNKNOWN
    historical, remarks = _origin(fields[9], read)
    return Immunization(
        code=code,
        identifier=(entity(read, order[3]) or entity(read, order[2])) if only else None,
        status=status,
        reason=first_concept(read, fields[18]) or (first_concept(read, fields[19]) if status == "not-done" else None),
        occurred_at=time_at(read, fields[3]),
        recorded_at=time_at(read, fields[22] or order[9]),
        historical=historical,
        lot=read.first(fields[15]),
        manufacturer=coded_organization(read, fields[17]),
        expires_on=day_of(read, fields[16]),
        dose=amount if given else None,
        dose_unit=unit_of(read, fields[7]) if given and amount else None,
        route=first_concept(read, route[1]),
        site=first_concept(read, route[2]),
        performer=read.practitioner(fields[10]) if fields[10] else None,
        location=(read.location(fields[11]) if fields[11] else None)
        or (read.location(fields[27]) if fields[27] else None),
        observations=tuple(_observed(group, treatment.first, end, read)),
        notes=(*remarks, *notes_of(treatment.notes, read), *notes_of(group.notes, read)),
    )


def _status(treatment: Treatment, read: Reader) -> str:
    fields = treatment.fields
    if upper_code(read, fields[21]) == DELETED:
        return "entered-in-error"
    code = first_concept(read, fields[5])
    nothing = code is not None and code.code == _NO_VACCINE and code.system in ("CVX", "")
    return "not-done" if nothing or upper_code(read, fields[20]) in NOT_GIVEN else "completed"


def _origin(field: str, read: Reader) -> tuple[bool | None, tuple[str, ...]]:
    """Return whether it is history, by the code of RXA-9, and what else stands there."""
    historical, remarks = None, []
    for part in read.repetitions(field):
        found = concept(read, part)
        if found and found.system == _SOURCES:
            historical = found.code != _GIVEN_HERE
        elif found and found.text:
            remarks.append(found.text)
    return historical, tuple(remarks)
