"""This module maps MRG: the identifiers that cease to be, change, or give something to another patient."""

from dataclasses import replace
from typing import Final

from broker.canonical.model import Identifier, Merge, Patient
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, reader_of
from transforms.map_patient import choose_record_number
from transforms.map_subject import fail, fields_of

_MRG_FIELDS: Final = 6


def merge_of(message: Message, patient: Patient, *, needed: bool) -> Merge:
    """Return what MRG says about a patient; ``needed``: a record ceases, so that MRG must name one.

    Where no record ceases (a visit is moved, an account number changes), one that MRG does not name is the patient's.

    Raises `StepError` at MRG when it is missing or there are several, and when nobody can say whose record is meant.
    """
    count = len(message.texts("MRG"))
    if count > 1 or len(message.texts("PID")) > 1:
        fail("MRG", "the message has several pairs of PID and MRG; it must be split into one message for each")
    if not count:
        fail("MRG-1", "MRG is missing, so nobody can say what was merged, moved or changed")
    read, fields = reader_of(message), fields_of(message, "MRG", _MRG_FIELDS)
    own, others = _identifiers(fields, patient, read)
    mrn = choose_record_number(own) or choose_record_number(others) or (None if needed else patient.mrn)
    if mrn is None:
        fail("MRG-1", "MRG-1 has no identifier of type MR, PI or PT, nor one without a type")
    identifiers = tuple(dict.fromkeys(own + others))
    return Merge(identifiers=identifiers, mrn=mrn, visit=_first(fields[5], read), account=_first(fields[3], read))


def _identifiers(
    fields: list[str], patient: Patient, read: Reader
) -> tuple[tuple[Identifier, ...], tuple[Identifier, ...]]:
    """Return the identifiers of MRG-1, else of MRG-4 (the patient id of versions before 2.3.1), and those of MRG-2."""
    found = [identifier for part in read.repetitions(fields[1]) if (identifier := read.identifier(part))]
    if not found:
        found = [identifier for part in read.repetitions(fields[4]) if (identifier := read.identifier(part))]
    others = [identifier for part in read.repetitions(fields[2]) if (identifier := read.identifier(part))]
    return tuple([_completed(identifier, patient.mrn) for identifier in found]), tuple(others)


def _completed(identifier: Identifier, survivor: Identifier | None) -> Identifier:
    """Fill in what MRG-1 leaves out: it must have the authority and type of PID-3 (HL7 v2.5.1, 3.6.2)."""
    if survivor is None or identifier.system or identifier.type:
        return identifier
    return replace(identifier, system=survivor.system, type=survivor.type)


def _first(field: str, read: Reader) -> Identifier | None:
    repetitions = read.repetitions(field)
    return read.identifier(repetitions[0]) if repetitions else None
