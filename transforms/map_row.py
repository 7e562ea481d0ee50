"""This module makes the canonical event of a message that has no standard mapping: a row, or an object of JSON.

Nothing is known of such a message but what the channel says, so the event begins empty and expressions fill it.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from broker.canonical.model import KINDS, Appointment, Encounter, Event, Patient, Source
from broker.errors import StepError
from broker.message import Document
from transforms.expression import Compiled
from transforms.mistakes import ExpressionError
from transforms.times import fhir_date

# HL7 table 0001 and what files write, to FHIR's AdministrativeGender.
_SEXES: Final = {
    **dict.fromkeys(("f", "female", "w"), "female"),
    **dict.fromkeys(("m", "male"), "male"),
    **dict.fromkeys(("o", "a", "n", "other", "x"), "other"),
    **dict.fromkeys(("u", "unknown"), "unknown"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of event that a canonical step makes: fixed, or what an expression gives."""

    fixed: str
    expression: Compiled | None

    def __call__(self, document: Document) -> str:
        """Return the kind; raise `StepError` for one that the canonical model has not."""
        if self.expression is None:
            return self.fixed
        kind = self.expression(document)
        if kind not in KINDS:
            raise StepError("kind: the expression must give a kind such as 'patient.updated'", step="canonical")
        return str(kind)


def compile_kind(text: str, kit: Any) -> Kind:
    """Compile what stands under ``kind``: a kind as it is, or an expression that gives one."""
    if text.strip() in KINDS:
        return Kind(text.strip(), None)
    return Kind("", kit.expression(text))


def no_mapping(format_kind: str) -> ExpressionError:
    """Return the error for a canonical step that does not say what the messages tell."""
    return ExpressionError(
        f"{format_kind} has no standard mapping, so the canonical step must say what a message tells",
        hint="write `kind: patient.updated`",
    )


@dataclass(frozen=True, slots=True)
class RowMapping:
    """The mapping that says nothing by itself; ``has_…`` says that the channel fills such a part."""

    kind: Kind
    format: str
    has_encounter: bool
    has_appointment: bool = False

    def __call__(self, document: Document) -> Event:
        """Return the event with nothing but its kind and source."""
        file, line = document.values.get("file"), document.values.get("line")
        place = f"{file}:{line}" if file and line else ""
        return Event(
            kind=self.kind(document),
            source=Source(control_id=place, message_type=self.format),
            patient=Patient(),
            encounter=Encounter() if self.has_encounter else None,
            appointment=Appointment() if self.has_appointment else None,
        )


def completed(event: Event, document: Document) -> Event:
    """Return the event with what follows from what expressions filled in.

    Raises `StepError` for a record number that is missing, and for a date of birth or sex that is none.
    """
    patient = event.patient
    line = document.values.get("line")
    location = f"line {line}" if isinstance(line, int) and line else ""
    if patient.mrn is None:
        raise StepError("patient.mrn is empty; every event needs a record number", step="canonical", location=location)
    if patient.birth_date is not None and fhir_date(patient.birth_date) != patient.birth_date:
        text = "patient.birth_date: not a date as YYYY-MM-DD; map it with `| date('%m/%d/%Y')` or as it is written"
        raise StepError(text, step="canonical", location=location)
    sex = patient.sex and _SEXES.get(patient.sex.strip().lower())
    if patient.sex and sex is None:
        text = "patient.sex: not male, female, other or unknown, nor a letter of HL7 table 0001"
        raise StepError(text, step="canonical", location=location)
    identifiers = patient.identifiers if patient.mrn in patient.identifiers else (patient.mrn, *patient.identifiers)
    return replace(event, patient=replace(patient, identifiers=identifiers, sex=sex or None))
