"""This module maps ADT messages, A01 to A62, to canonical events."""

from dataclasses import replace
from typing import Final

from broker.canonical.model import Encounter, Event, Location, Merge, Patient
from broker.wire.er7 import Message
from transforms.hl7_types import reader_of
from transforms.map_coverage import coverage
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_loose import loose_observations
from transforms.map_merge import merge_of
from transforms.map_people import related_people, roles
from transforms.map_subject import (
    Cleared,
    encounter_of,
    fail,
    fail_missing,
    fields_of,
    first_patient,
    occurred_at,
    patient_of,
    second_patient,
    source_of,
    trigger_of,
)

TRIGGERS: Final = {
    "A01": "encounter.admitted",
    "A02": "encounter.transferred",
    "A03": "encounter.discharged",
    "A04": "patient.registered",
    "A05": "encounter.planned",
    "A06": "encounter.class_changed",
    "A07": "encounter.class_changed",
    "A08": "patient.updated",
    "A09": "encounter.arriving",
    "A10": "encounter.arriving",
    "A11": "encounter.admission_cancelled",
    "A12": "encounter.transfer_cancelled",
    "A13": "encounter.discharge_cancelled",
    "A14": "encounter.planned",
    "A15": "encounter.transfer_planned",
    "A16": "encounter.discharge_planned",
    "A17": "encounter.swapped",
    "A18": "patient.merged",
    "A20": "bed.changed",
    "A21": "encounter.leave_began",
    "A22": "encounter.leave_ended",
    "A23": "encounter.deleted",
    "A24": "patient.linked",
    "A25": "encounter.plan_cancelled",
    "A26": "encounter.plan_cancelled",
    "A27": "encounter.plan_cancelled",
    "A28": "patient.registered",
    "A29": "patient.deleted",
    "A30": "patient.merged",
    "A31": "patient.updated",
    "A32": "encounter.updated",
    "A33": "encounter.updated",
    "A34": "patient.merged",
    "A35": "patient.account_moved",
    "A36": "patient.merged",
    "A37": "patient.unlinked",
    "A38": "encounter.plan_cancelled",
    "A39": "patient.merged",
    "A40": "patient.merged",
    "A41": "patient.account_moved",
    "A42": "patient.account_moved",
    "A43": "patient.account_moved",
    "A44": "patient.account_moved",
    "A45": "patient.account_moved",
    "A46": "patient.identifier_changed",
    "A47": "patient.identifier_changed",
    "A48": "patient.identifier_changed",
    "A49": "patient.identifier_changed",
    "A50": "patient.account_moved",
    "A51": "patient.identifier_changed",
    "A52": "encounter.leave_ended",
    "A53": "encounter.leave_began",
    "A54": "encounter.updated",
    "A55": "encounter.updated",
    "A60": "allergy.recorded",
    "A61": "encounter.updated",
    "A62": "encounter.updated",
}
# These tell about a person. A PV1 in them is mostly there for the message's grammar alone: then it has no visit number.
_ABOUT_PERSONS: Final = frozenset({"A24", "A28", "A29", "A31", "A37", "A39", "A46", "A47", "A48"})
_MERGING: Final = frozenset({"patient.merged"})
WITH_MRG: Final = frozenset({"patient.merged", "patient.account_moved", "patient.identifier_changed"})
WITH_TWO: Final = frozenset({"patient.linked", "patient.unlinked"})
_NPU_FIELDS: Final = 2


def map_adt(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that an ADT message tells; ``patient.mrn`` is None when PID has no usable identifier.

    Raises `StepError` with the location for a trigger that is not mapped, a missing PID or MRG, and for a message that
    tells about more patients than one event can. ``without`` names fields of the patient that are not to be read, since
    something else does.
    """
    trigger = trigger_of(message, TRIGGERS)
    kind = TRIGGERS[trigger]
    if trigger == "A20":
        return _bed(message, kind)
    patient, cleared, merge, linked = _people(message, trigger, kind, without)
    encounter = None
    if kind not in _MERGING:
        encounter, emptied = encounter_of(message, trigger)
        if encounter is not None and encounter.identifier is None and trigger in _ABOUT_PERSONS:
            encounter = None
        elif emptied:
            cleared += emptied
    if message.texts("ROL"):
        patient, encounter = with_roles(message, patient, encounter)
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        merge=merge,
        linked=linked,
        cleared=cleared,
        observations=loose_observations(message),
        conditions=conditions_of(message),
        allergies=allergies_of(message),
        coverage=coverage(message),
        related_people=related_people(message),
    )


def _people(
    message: Message, trigger: str, kind: str, without: frozenset[str]
) -> tuple[Patient, Cleared, Merge | None, Patient | None]:
    """Return whom the message is about, what is cleared of them, what was merged, and who was linked."""
    if kind in WITH_MRG:
        patient, cleared = first_patient(message, without)
        return patient, cleared, merge_of(message, patient, needed=kind in _MERGING), None
    if kind in WITH_TWO:
        patient, cleared = first_patient(message, without)
        return patient, cleared, None, second_patient(message)
    patient, cleared = patient_of(message, without)
    if trigger == "A29":
        patient = replace(patient, active=False)
    return patient, cleared, None, None


def with_roles(message: Message, patient: Patient, encounter: Encounter | None) -> tuple[Patient, Encounter | None]:
    """Fill in the people whom ROL names and PD1 and PV1 do not."""
    found = roles(message)
    if "general_practitioner" in found and patient.general_practitioner is None:
        patient = replace(patient, general_practitioner=found["general_practitioner"][0])
    if encounter is not None:
        values = {
            name: people if name == "consulting" else people[0]
            for name, people in found.items()
            if name != "general_practitioner" and not getattr(encounter, name)
        }
        encounter = replace(encounter, **values) if values else encounter  # type: ignore[arg-type]
    return patient, encounter


def _bed(message: Message, kind: str) -> Event:
    """Return what A20 says: a bed's status, which concerns no patient."""
    if message.first("NPU") is None:
        fail_missing(message, "NPU", "which bed this is about")
    read, fields = reader_of(message), fields_of(message, "NPU", _NPU_FIELDS)
    location = read.location(fields[1]) or fail("NPU-1", "NPU-1 names no place")
    bed: Location = replace(location, status=read.first(fields[2]))
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=Patient(),
        encounter=Encounter(location=bed),
    )
