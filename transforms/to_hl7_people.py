"""This module writes the segments about a patient, their people, their visit and who pays: PID, PD1, NK1, PV1, IN1."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from broker.canonical.model import Coverage, Event, Identifier, Merge, Patient, RelatedPerson
from transforms.map_patient import choose_record_number
from transforms.to_hl7_types import (
    NULL,
    SEXES,
    address,
    code,
    concept,
    flag,
    identifier,
    joined,
    location,
    name,
    organization,
    practitioner,
    repeated,
    row,
    stamp,
    telecoms,
    text,
)
from transforms.written import names_of, numbers_of, telecom_of

# A field that was emptied (`Event.cleared`) -> the field to say so in.
_PID: Final = {
    "patient.names": 5, "patient.birth_date": 7, "patient.sex": 8, "patient.race": 10, "patient.addresses": 11,
    "patient.telecom": 13, "patient.language": 15, "patient.marital_status": 16, "patient.religion": 17,
    "patient.account": 18, "patient.ethnicity": 22, "patient.birth_place": 23, "patient.multiple_birth": 24,
    "patient.birth_order": 25, "patient.citizenship": 26, "patient.deceased_at": 29, "patient.deceased": 30,
}  # fmt: skip
_PD1: Final = {"patient.general_practitioner": 4, "patient.confidential": 12}
_PV1: Final = {
    "encounter.patient_class": 2, "encounter.location": 3, "encounter.type": 4, "encounter.preadmit": 5,
    "encounter.prior_location": 6, "encounter.attending": 7, "encounter.referring": 8, "encounter.consulting": 9,
    "encounter.service": 10, "encounter.origin": 14, "encounter.admitting": 17, "encounter.disposition": 36,
    "encounter.destination": 37, "encounter.admitted_at": 44, "encounter.discharged_at": 45, "encounter.alternate": 50,
}  # fmt: skip
_PV2: Final = {"encounter.reason": 3, "encounter.expected_admission_at": 8, "encounter.expected_discharge_at": 9}
_WITHOUT_CLASS: Final = "N"  # HL7 table 0004: not applicable
_ROLES: Final = {"emergency": "C", "employer": "E", "next-of-kin": "N", "contact": "CP"}  # HL7 table 0131
_SECURITY: Final = "SS"
_KEPT: Final = 2048  # patients


def _cleared(event: Event, places: dict[str, int], fields: dict[int, str]) -> None:
    for place in event.cleared:
        number = places.get(place)
        if number is not None and not fields.get(number):
            fields[number] = NULL


def pid(event: Event) -> str:
    """Return PID."""
    given = event.patient
    home, work = telecoms(telecom_of(given))
    numbers, others = _told_apart(given.mrn, numbers_of(given))
    fields = {
        1: "1",
        3: repeated(map(identifier, numbers)),
        4: repeated(map(identifier, others)),
        5: repeated(map(name, names_of(given))),
        7: stamp(given.birth_date),
        8: SEXES.get(given.sex or "", ""),
        10: concept(given.race),
        11: repeated(map(address, given.addresses)),
        13: home,
        14: work,
        15: text(given.language),
        16: text(given.marital_status),
        17: text(given.religion),
        18: identifier(given.account),
        22: concept(given.ethnicity),
        23: text(given.birth_place),
        24: flag(given.multiple_birth),
        25: "" if given.birth_order is None else str(given.birth_order),
        26: text(given.citizenship),
        29: stamp(given.deceased_at),
        30: flag(given.deceased),
    }
    if event.cleared:
        _cleared(event, _PID, fields)
    return row("PID", fields)


def _told_apart(
    mrn: Identifier | None, numbers: Sequence[Identifier]
) -> tuple[Sequence[Identifier], Sequence[Identifier]]:
    """Return the identifiers of PID-3 (MRG-1); those that would lead to another record go to PID-4 (MRG-2)."""
    if mrn is None or choose_record_number(numbers) == mrn:
        return numbers, ()
    return (mrn,), [number for number in numbers if number != mrn]


def pd1(event: Event) -> list[str]:
    """Return PD1, where there is anything to say in it."""
    given = event.patient
    if given.general_practitioner is None and given.confidential is None and not event.cleared:
        return []
    fields = {4: practitioner(given.general_practitioner), 12: flag(given.confidential)}
    _cleared(event, _PD1, fields)
    return [row("PD1", fields)] if fields[4] or fields[12] else []


def mrg(given: Merge, survivor: Patient) -> str:
    """Return MRG."""
    every = given.identifiers if given.mrn in given.identifiers else (given.mrn, *given.identifiers)
    numbers, others = _told_apart(given.mrn, every)
    # A bare number in MRG-1 is read as one of the survivor's authority; in MRG-2 it stays what it is.
    bare = next((n for n, each in enumerate(numbers) if each != given.mrn and not (each.system or each.type)), None)
    if bare is not None and choose_record_number(numbers[:bare]) == given.mrn:
        numbers, others = numbers[:bare], numbers[bare:]
    fields = {
        1: repeated(map(identifier, numbers)),
        2: repeated(map(identifier, others)),
        3: identifier(given.account),
        5: identifier(given.visit),
        7: repeated(map(name, names_of(survivor))),
    }
    return row("MRG", fields)


def pv1(event: Event) -> str:
    """Return PV1; where no visit is told it says that there is none, because most messages must have it."""
    given = event.encounter
    if given is None:
        return f"PV1|1|{_WITHOUT_CLASS}"
    fields = {
        1: "1",
        2: text(given.patient_class),
        3: location(given.location),
        4: code(given.type),
        5: identifier(given.preadmit),
        6: location(given.prior_location),
        7: practitioner(given.attending),
        8: practitioner(given.referring),
        9: repeated(map(practitioner, given.consulting)),
        10: text(given.service),
        14: text(given.origin),
        17: practitioner(given.admitting),
        19: identifier(given.identifier),
        36: text(given.disposition),
        37: text(given.destination),
        44: stamp(given.admitted_at),
        45: stamp(given.discharged_at),
        50: identifier(given.alternate),
    }
    if event.cleared:
        _cleared(event, _PV1, fields)
    fields[2] = fields[2] or _WITHOUT_CLASS
    return row("PV1", fields)


def pv2(event: Event) -> list[str]:
    """Return PV2, where there is anything to say in it."""
    given = event.encounter
    if given is None:
        return []
    fields = {
        3: concept(given.reason),
        8: stamp(given.expected_admission_at),
        9: stamp(given.expected_discharge_at),
    }
    _cleared(event, _PV2, fields)
    return [row("PV2", fields)] if any(fields.values()) else []


def nk1(event: Event) -> list[str]:
    """Return an NK1 for each related person who is no guarantor."""
    return _people(event.related_people)[0] if event.related_people else []


# Who belongs to a patient and who pays comes again with every message about them.
@lru_cache(maxsize=_KEPT)
def _people(given: tuple[RelatedPerson, ...]) -> tuple[list[str], list[str]]:
    """Return the NK1 and the GT1."""
    kin = [each for each in given if each.role != "guarantor"]
    guarantors = [each for each in given if each.role == "guarantor"]
    return (
        [_next_of_kin(number, each) for number, each in enumerate(kin, 1)],
        [_guarantor(number, each) for number, each in enumerate(guarantors, 1)],
    )


def _next_of_kin(number: int, given: RelatedPerson) -> str:
    home, work = telecoms(given.telecom)
    return row(
        "NK1",
        {
            1: str(number),
            2: repeated(map(name, given.names)),
            3: concept(given.relationship),
            4: repeated(map(address, given.addresses)),
            5: home,
            6: work,
            7: _ROLES.get(given.role or "", ""),
            8: stamp(given.starts_at)[:8],
            9: stamp(given.ends_at)[:8],
            13: organization(given.organization),
            15: SEXES.get(given.sex or "", ""),
            16: stamp(given.birth_date),
            33: repeated(map(identifier, given.identifiers)),
        },
    )


def gt1(event: Event) -> list[str]:
    """Return a GT1 for each guarantor."""
    return _people(event.related_people)[1] if event.related_people else []


def _guarantor(number: int, given: RelatedPerson) -> str:
    home, work = telecoms(given.telecom)
    security = next((each for each in given.identifiers if each.type == _SECURITY and not each.system), None)
    return row(
        "GT1",
        {
            1: str(number),
            2: repeated(identifier(each) for each in given.identifiers if each is not security),
            3: repeated(map(name, given.names)),
            5: repeated(map(address, given.addresses)),
            6: home,
            7: work,
            8: stamp(given.birth_date),
            9: SEXES.get(given.sex or "", ""),
            11: concept(given.relationship),
            12: text(security.value) if security else "",
            13: stamp(given.starts_at)[:8],
            14: stamp(given.ends_at)[:8],
            21: organization(given.organization),
        },
    )


def in1(event: Event) -> list[str]:
    """Return an IN1 for each plan."""
    return _plans(event.coverage) if event.coverage else []


@lru_cache(maxsize=_KEPT)
def _plans(given: tuple[Coverage, ...]) -> list[str]:
    return [_plan(number, each) for number, each in enumerate(given, 1)]


def _plan(number: int, given: Coverage) -> str:
    payer, member = given.payer, given.subscriber_id
    policy: Identifier | None = given.identifier
    if policy is not None and policy.value == member:
        number_of_member, policy = identifier(policy), None
    else:
        number_of_member = text(member)
    return row(
        "IN1",
        {
            1: str(number),
            2: concept(given.plan),
            3: identifier(payer.identifier) if payer else "",
            4: text(payer.name) if payer else "",
            8: text(given.group_number),
            9: text(given.group_name),
            12: stamp(given.starts_at)[:8],
            13: stamp(given.ends_at)[:8],
            14: text(given.authorization.value) if given.authorization else "",
            15: code(given.type),
            16: joined(text(given.subscriber_family), text(given.subscriber_given)),
            17: concept(given.relationship),
            18: stamp(given.subscriber_birth_date),
            22: "" if given.rank is None else str(given.rank),
            36: text(policy.value) if policy else "",
            43: SEXES.get(given.subscriber_sex or "", ""),
            49: number_of_member,
        },
    )
