"""This module maps medical documents (MDM T01 to T11): TXA, and the content that OBX brings along."""

from typing import Final

from broker.canonical.model import Attachment, ClinicalDocument, Event, Observation, Order, Practitioner
from broker.wire.er7 import Message
from transforms.hl7_codes import entity, first_concept
from transforms.hl7_types import Reader, padded, reader_of
from transforms.hl7_values import value_of
from transforms.map_encounter import time_of
from transforms.map_observation import map_observation
from transforms.map_subject import encounter_of, fail_missing, fields_of, occurred_at, patient_of, source_of, trigger_of
from transforms.times import fhir_datetime

TRIGGERS: Final = {
    "T01": "document.added",
    "T02": "document.added",
    "T03": "document.updated",
    "T04": "document.updated",
    "T05": "document.updated",
    "T06": "document.updated",
    "T07": "document.updated",
    "T08": "document.updated",
    "T09": "document.replaced",
    "T10": "document.replaced",
    "T11": "document.cancelled",
}
_ADDENDA: Final = frozenset({"T05", "T06"})
_STATUS_CHANGES: Final = frozenset({"T03", "T04"})
_SIGNED: Final = frozenset({"AU", "LA"})  # HL7 table 0271: authenticated, legally authenticated
_CANCELLED: Final = "document.cancelled"
# HL7 table 0273 (TXA-19) -> FHIR DocumentReferenceStatus.
_STATUSES: Final = {"CA": "entered-in-error", "OB": "superseded"}
_FILES: Final = frozenset({"ED", "RP"})
# Types of OBX-5 whose values are the lines of one text.
_LINES: Final = frozenset({"TX", "FT", "ST", ""})
# The fields of OBX that make an observation of a text: unit, range and flag. What it was made with, or of which part of
# the body, may stand on every line of a report.
_OBSERVED: Final = (6, 7, 8)
_NOT_MADE: Final = frozenset({"not-asked", "not-performed"})
_TXA_FIELDS: Final = 25
_OBX_FIELDS: Final = 25
_SIGNATURE: Final = 15  # components of TXA-22 (PPN); the last is the time


def map_document(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message about a document (MDM) tells; see `map_adt`."""
    trigger = trigger_of(message, TRIGGERS)
    if message.first("TXA") is None:
        fail_missing(message, "TXA", "which document this is about")
    read, fields = reader_of(message), fields_of(message, "TXA", _TXA_FIELDS)
    kind = TRIGGERS[trigger]
    if trigger in _STATUS_CHANGES and (read.first(fields[17]) or "").upper() in _SIGNED:
        kind = "document.signed"
    patient, cleared = patient_of(message, without)
    encounter, emptied = encounter_of(message)
    attachments, observations = _content(message, read)
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        document=_document(fields, attachments, read, kind, addendum=trigger in _ADDENDA),
        orders=_orders(fields, read),
        observations=observations,
        cleared=cleared + emptied,
    )


def _document(
    fields: list[str], attachments: tuple[Attachment, ...], read: Reader, kind: str, *, addendum: bool
) -> ClinicalDocument:
    completion = (read.first(fields[17]) or "").upper()
    signer, signed_at = _signature(fields[22], read)
    availability = _STATUSES.get((read.first(fields[19]) or "").upper(), "current")
    kind_of_document = first_concept(read, fields[2])
    return ClinicalDocument(
        identifier=entity(read, fields[12]),
        replaces=entity(read, fields[13]),
        type=kind_of_document,
        status="entered-in-error" if kind == _CANCELLED else availability,
        completion="amended"
        if addendum
        else "final"
        if completion in _SIGNED
        else "preliminary"
        if completion
        else None,
        title=read.first(fields[25]) or (kind_of_document.text if kind_of_document else None),
        created_at=time_of(fields[6], read) or time_of(fields[4], read),
        signed_at=signed_at,
        author=_first_person(fields, (9, 5), read),
        authenticator=signer or _first_person(fields, (10,), read),
        confidentiality=read.first(fields[18]),
        attachments=attachments,
    )


def _orders(fields: list[str], read: Reader) -> tuple[Order, ...]:
    """Return the order that the document answers, by its numbers alone."""
    placer, filler = entity(read, fields[14]), entity(read, fields[15])
    return (Order(identifier=placer or filler, filler=filler),) if placer or filler else ()


def _first_person(fields: list[str], numbers: tuple[int, ...], read: Reader) -> Practitioner | None:
    return next((found for number in numbers if fields[number] and (found := read.practitioner(fields[number]))), None)


def _signature(field: str, read: Reader) -> tuple[Practitioner | None, str | None]:
    """Return who authenticated the document, and when: TXA-22 is a PPN."""
    repetitions = read.repetitions(field)
    if not repetitions:
        return None, None
    time = read.components(repetitions[0], _SIGNATURE)[_SIGNATURE - 1]
    return read.practitioner(repetitions[0]), fhir_datetime(time) if time else None


def _observed(fields: list[str], read: Reader, *, is_text: bool) -> list[Observation]:
    """Return what an OBX observed: nothing for a line of text, nor where it neither says that nor why it does not."""
    if is_text and fields[5] and not any(fields[number] for number in _OBSERVED):
        return []
    return [each for each in map_observation(fields, (), read) if _says_more(each, is_text=is_text)]


def _says_more(found: Observation, *, is_text: bool) -> bool:
    """Say whether an observation has a value that is no text, what only observations have, or a reason to be none."""
    if any((found.unit, found.reference_range, found.interpretation)) or found.absent in _NOT_MADE:
        return True
    return not is_text and any((found.value_type, found.method, found.body_site, found.identifier))


def _content(message: Message, read: Reader) -> tuple[tuple[Attachment, ...], tuple[Observation, ...]]:
    """Return what OBX brings: files, the lines of a text (as one attachment), and observations."""
    separator = message.separators.field
    files: list[Attachment] = []
    lines: list[str] = []
    observations: list[Observation] = []
    for text in message.texts("OBX"):
        fields = padded(text.split(separator), _OBX_FIELDS)
        kind = (read.first(fields[2]) or "").upper()
        if kind in _FILES:
            files += value_of(read, fields[2], fields[5]).files
        elif found := _observed(fields, read, is_text=kind in _LINES):
            observations += found
        elif kind in _LINES:
            value = value_of(read, fields[2], fields[5])
            files += value.files
            lines += [] if value.files else [value.text or ""]
    written = "\n".join(lines).strip("\n")
    if written:
        size = len(written.encode())
        files.insert(0, Attachment(content_type="text/plain", data=written, size=size))
    return tuple(files), tuple(observations)
