"""This module maps ADT messages (A01 A02 A03 A04 A05 A08 A11 A13 A28 A31 A40) to canonical events."""

from dataclasses import replace
from typing import Final

from broker.canonical.model import Event, Identifier, Merge, Patient
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, reader_of
from transforms.map_patient import choose_record_number
from transforms.map_subject import encounter_of, fail, fields_of, first_patient, occurred_at, source_of, type_of

TRIGGERS: Final = {
    "A01": "encounter.admitted",
    "A02": "encounter.transferred",
    "A03": "encounter.discharged",
    "A04": "patient.registered",
    "A05": "encounter.planned",
    "A08": "patient.updated",
    "A11": "encounter.admission_cancelled",
    "A13": "encounter.discharge_cancelled",
    "A28": "patient.registered",
    "A31": "patient.updated",
    "A40": "patient.merged",
}
# These tell about a person; a PV1 in them is there for the message's grammar alone.
_WITHOUT_ENCOUNTER: Final = frozenset({"A28", "A31", "A40"})
_MRG_FIELDS: Final = 1


def map_adt(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that an ADT message tells; ``patient.mrn`` is None when PID has no usable identifier.

    Raises `StepError` with the location for a trigger that is not mapped, a missing PID or MRG, and a date of birth or
    death that is no date; ``without`` names fields of the patient that are not to be read, since something else does.
    """
    trigger = _trigger(message)
    patient, cleared = first_patient(message, without)
    encounter = None
    if trigger not in _WITHOUT_ENCOUNTER:
        encounter, emptied = encounter_of(message, trigger)
        cleared += emptied
    return Event(
        kind=TRIGGERS[trigger],
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        merge=_merge(message, patient, reader_of(message)) if trigger == "A40" else None,
        cleared=cleared,
    )


def _trigger(message: Message) -> str:
    code, trigger = type_of(message)
    if code != "ADT" or trigger not in TRIGGERS:
        found = f"{code}^{trigger}" if _is_code(code) and _is_code(trigger) else "another message type"
        fail("MSH-9", f"the canonical step maps ADT with {' '.join(TRIGGERS)}, not {found}; filter it out before")
    return trigger


def _is_code(text: str | None) -> bool:
    return not text or (len(text) == 3 and text.isascii() and text.isalnum())  # noqa: PLR2004 - such as A01


def _merge(message: Message, patient: Patient, read: Reader) -> Merge:
    if len(message.segments("MRG")) > 1 or len(message.segments("PID")) > 1:
        fail("MRG", "the message merges several patients; it must be split into one message each")
    if message.first("MRG") is None:
        fail("MRG-1", "MRG is missing, so nobody can say who was merged")
    fields = fields_of(message, "MRG", _MRG_FIELDS)
    found = [identifier for part in read.repetitions(fields[1]) if (identifier := read.identifier(part))]
    identifiers = tuple(_completed(identifier, patient.mrn) for identifier in found)
    mrn = choose_record_number(identifiers)
    if mrn is None:
        fail("MRG-1", "MRG-1 has no identifier of type MR, PI or PT, nor one without a type")
    return Merge(identifiers=identifiers, mrn=mrn)


def _completed(identifier: Identifier, survivor: Identifier | None) -> Identifier:
    """Fill in what MRG-1 leaves out: it must have the authority and type of PID-3 (HL7 v2.5.1, 3.6.2)."""
    if survivor is None or identifier.system or identifier.type:
        return identifier
    return replace(identifier, system=survivor.system, type=survivor.type)
