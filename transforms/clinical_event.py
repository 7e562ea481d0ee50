"""This module puts together the event of a clinical message: what its own mapping found, and what all of them have."""

from typing import Final

from broker.canonical.model import Condition, Event, Immunization, Medication, Observation, Order, Patient, Result
from broker.wire.er7 import Message
from transforms.clinical import BLANK, Chart
from transforms.hl7_types import reader_of
from transforms.map_circumstances import circumstances
from transforms.map_coverage import coverage
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_observation import notes_of, observations_of
from transforms.map_people import related_people
from transforms.map_subject import Cleared, encounter_of, first_patient, occurred_at, patient_of, source_of

_PID_3: Final = 3


def subject_of(message: Message, without: frozenset[str]) -> tuple[Patient, Cleared]:
    """Return whom the message is about; further PIDs with the same PID-3 repeat it (each result may have its own).

    Raises `StepError` as `patient_of`, for several patients above all.
    """
    patients = message.texts("PID")
    if len(patients) > 1:
        separator = message.separators.field
        numbers = {(text.split(separator, _PID_3 + 1) + BLANK)[_PID_3] for text in patients}
        if len(numbers) == 1 and "" not in numbers:
            return first_patient(message, without)
    return patient_of(message, without)


def clinical_event(
    message: Message,
    without: frozenset[str],
    chart: Chart,
    kind: str,
    *,
    orders: tuple[Order, ...] = (),
    results: tuple[Result, ...] = (),
    observations: tuple[Observation, ...] = (),
    conditions: tuple[Condition, ...] = (),
    medications: tuple[Medication, ...] = (),
    immunizations: tuple[Immunization, ...] = (),
) -> Event:
    """Return the event of a kind; ``observations`` and ``conditions`` are those beside the patient's own.

    Raises `StepError` with the location when the message is about nobody or several patients; ``without`` names fields
    of the patient that are not to be read, since something else does.
    """
    read = reader_of(message)
    patient, cleared = subject_of(message, without)
    encounter, emptied = encounter_of(message)
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        cleared=cleared + emptied,
        orders=orders,
        results=results,
        observations=observations_of(chart.head, read) + observations + circumstances(message),
        conditions=conditions + conditions_of(message, chart.diagnoses),
        allergies=allergies_of(message, chart.allergies),
        medications=medications,
        immunizations=immunizations,
        coverage=coverage(message),
        related_people=related_people(message),
        notes=notes_of(chart.head.notes, read),
    )
