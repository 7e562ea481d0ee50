"""This module maps ADT messages (A01 A02 A03 A04 A05 A08 A11 A13 A28 A31 A40) to canonical events."""

from dataclasses import replace
from functools import lru_cache
from typing import Final, NoReturn

from broker.canonical.model import Encounter, Event, Identifier, Merge, Patient, Source
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, reader_of
from transforms.map_encounter import PV1_FIELDS, PV2_FIELDS, map_encounter, time_of
from transforms.map_patient import PID_FIELDS, choose_record_number, map_patient

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
_MSH_FIELDS: Final = 12
_EVN_FIELDS: Final = 6
_MRG_FIELDS: Final = 1
_KEPT: Final = 8192  # segments of each kind, about 5 kB each: the patients that a large hospital has on one day


def map_adt(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that an ADT message tells; ``patient.mrn`` is None when PID has no usable identifier.

    Raises `StepError` with the location for a trigger that is not mapped, a missing PID or MRG, and a date of birth or
    death that is no date; ``without`` names fields of the patient that are not to be read, since something else does.
    """
    read = reader_of(message)
    header = _fields(message, "MSH", _MSH_FIELDS) or _fail("MSH", "MSH is missing")
    event = _fields(message, "EVN", _EVN_FIELDS) or [""] * (_EVN_FIELDS + 1)
    trigger = _trigger(header, event, read)
    patient, cleared = _patient(read, _text(message, "PID"), message.separators.field, without)
    encounter = None
    if trigger not in _WITHOUT_ENCOUNTER and (visit := _text(message, "PV1")):
        planned = _text(message, "PV2") if trigger == "A05" else ""
        encounter, emptied = _encounter(read, trigger, visit, planned, message.separators.field)
        cleared += emptied
    return Event(
        kind=TRIGGERS[trigger],
        occurred_at=time_of(event[6], read) or time_of(event[2], read) or time_of(header[7], read),
        source=_source(read, header, trigger),
        patient=patient,
        encounter=encounter,
        merge=_merge(message, patient, read) if trigger == "A40" else None,
        cleared=cleared,
    )


# A hospital sends the same PID and PV1 again and again while a patient is with it, so what they gave last is kept.
@lru_cache(maxsize=_KEPT)
def _patient(read: Reader, segment: str, separator: str, without: frozenset[str]) -> tuple[Patient, tuple[str, ...]]:
    if not segment:
        _fail("PID", "PID is missing, so nobody can say whom this is about")
    cleared: list[str] = []
    return map_patient(_padded(segment.split(separator), PID_FIELDS), read, cleared, without), tuple(cleared)


@lru_cache(maxsize=_KEPT)
def _encounter(
    read: Reader, trigger: str, visit: str, planned: str, separator: str
) -> tuple[Encounter, tuple[str, ...]]:
    cleared: list[str] = []
    expected = _padded(planned.split(separator), PV2_FIELDS) if planned else None
    fields = _padded(visit.split(separator), PV1_FIELDS)
    return map_encounter(trigger, fields, expected, read, cleared), tuple(cleared)


def _text(message: Message, name: str) -> str:
    """Return the first segment of a name as sent, or nothing."""
    segment = message.first(name)
    return segment.text if segment is not None else ""


def _fields(message: Message, name: str, count: int) -> list[str] | None:
    """Return the fields of the first segment of a name as sent, up to at least number ``count``."""
    segment = message.first(name)
    return _padded(segment.fields, count) if segment is not None else None


def _padded(fields: list[str], count: int) -> list[str]:
    missing = count + 1 - len(fields)
    return fields + [""] * missing if missing > 0 else fields


def _trigger(header: list[str], event: list[str], read: Reader) -> str:
    code, trigger = read.first(header[9]), read.component(header[9], 2) or read.first(event[1])
    if code != "ADT" or trigger not in TRIGGERS:
        found = f"{code or ''}^{trigger or ''}" if _is_code(code) and _is_code(trigger) else "another message type"
        _fail("MSH-9", f"the canonical step maps ADT with {' '.join(TRIGGERS)}, not {found}; filter it out before")
    return trigger


def _is_code(text: str | None) -> bool:
    return not text or (len(text) == 3 and text.isascii() and text.isalnum())  # noqa: PLR2004 - such as A01


def _source(read: Reader, header: list[str], trigger: str) -> Source:
    application, facility, version = _sender(read, header[3], header[4], header[12])
    return Source(
        application=application,
        facility=facility,
        control_id=read.first(header[10]) or "",
        message_type=f"ADT^{trigger}",
        version=version,
    )


@lru_cache(maxsize=1024)
def _sender(read: Reader, application: str, facility: str, version: str) -> tuple[str, str, str]:
    return read.first(application) or "", read.first(facility) or "", read.first(version) or ""


def _merge(message: Message, patient: Patient, read: Reader) -> Merge:
    if len(message.segments("MRG")) > 1 or len(message.segments("PID")) > 1:
        _fail("MRG", "the message merges several patients; it must be split into one message each")
    fields = _fields(message, "MRG", _MRG_FIELDS) or _fail("MRG-1", "MRG is missing, so nobody can say who was merged")
    found = [identifier for part in read.repetitions(fields[1]) if (identifier := read.identifier(part))]
    identifiers = tuple(_completed(identifier, patient.mrn) for identifier in found)
    mrn = choose_record_number(identifiers)
    if mrn is None:
        _fail("MRG-1", "MRG-1 has no identifier of type MR, PI or PT, nor one without a type")
    return Merge(identifiers=identifiers, mrn=mrn)


def _completed(identifier: Identifier, survivor: Identifier | None) -> Identifier:
    """Fill in what MRG-1 leaves out: it must have the authority and type of PID-3 (HL7 v2.5.1, 3.6.2)."""
    if survivor is None or identifier.system or identifier.type:
        return identifier
    return replace(identifier, system=survivor.system, type=survivor.type)


def _fail(location: str, text: str) -> NoReturn:
    raise StepError(text, step="canonical", location=location)
