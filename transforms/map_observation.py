"""This module maps OBX to the canonical observation."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from broker.canonical.model import Concept, Observation
from transforms.clinical import Fields, Group
from transforms.hl7_codes import (
    coded_organization,
    entity,
    first_concept,
    formatted,
    kept_fields,
    organization,
    unit_of,
)
from transforms.hl7_types import Reader
from transforms.hl7_values import NOTHING, value_of
from transforms.map_encounter import time_of

# HL7 table 0085 -> FHIR ObservationStatus.
STATUSES: Final = {
    "A": "amended", "B": "amended", "C": "corrected", "D": "entered-in-error", "F": "final", "I": "registered",
    "N": "cancelled", "O": "registered", "P": "preliminary", "R": "preliminary", "S": "preliminary", "U": "final",
    "V": "final", "W": "entered-in-error", "X": "cancelled",
}  # fmt: skip
# Why there is no value, where OBX-11 says it: FHIR data-absent-reason.
_ABSENT: Final = {
    "N": "not-asked", "X": "not-performed",
    **dict.fromkeys(("I", "O", "P", "R", "S"), "temp-unknown"),
}  # fmt: skip
_LABORATORY, _IMAGING = "laboratory", "imaging"
# HL7 table 0074 (what section of the service it comes from) -> FHIR observation-category.
# fmt: off
_CATEGORIES: Final = {
    **dict.fromkeys((
        "BG", "BLB", "CG", "CH", "CP", "GE", "HM", "IMM", "LAB", "MB", "MCB", "MYC", "OSL", "SP", "SR", "TX", "URN",
        "VR",
    ), _LABORATORY),
    **dict.fromkeys(("CT", "CUS", "IMG", "NMR", "NMS", "OUS", "RAD", "RUS", "RX", "VUS", "XRC"), _IMAGING),
    **dict.fromkeys(("CTH", "EC", "EN", "PF"), "procedure"),
    **dict.fromkeys(("OT", "PT", "RC", "RT"), "therapy"),
    "ICU": "vital-signs",
}
# LOINC codes of FHIR's vital signs profile, and of the tobacco status.
_VITAL_SIGNS: Final = frozenset((
    "85353-1", "9279-1", "8867-4", "2708-6", "59408-5", "8310-5", "8302-2", "9843-4", "29463-7", "39156-5", "85354-9",
    "8480-6", "8462-4", "8478-0",
))
# fmt: on
_SOCIAL: Final = frozenset({"72166-2", "11367-0"})


def map_observation(
    fields: list[str], notes: tuple[str, ...], read: Reader, at: str | None = None, section: str | None = None
) -> list[Observation]:
    """Return the observation of an OBX, padded; one more for each further file in it.

    ``at`` is when it was observed where OBX-14 does not say so (OBR-7), ``section`` is OBR-24.
    """
    value = value_of(read, fields[2], fields[5]) if fields[5] else NOTHING
    text, kind, concept, comparator, unit, files, parts = value
    code, status = _code(read, fields[3]), upper_code(read, fields[11])
    observation = Observation(
        code=code,
        identifier=entity(read, fields[21]) if fields[21] else None,
        value=text,
        value_type=kind,
        concept=concept,
        comparator=comparator,
        unit=(_unit(read, fields[6]) if fields[6] else None) or unit,
        attachment=files[0] if files else None,
        reference_range=read.plain(fields[7]) if fields[7] else None,
        interpretation=_flags(read, fields[8]) if fields[8] else None,
        status=STATUSES.get(status),
        category=_category(code, section),
        observed_at=(time_at(read, fields[14]) if fields[14] else None) or at,
        sub_id=read.plain(fields[4]) if fields[4] else None,
        method=first_concept(read, fields[17]) if fields[17] else None,
        body_site=first_concept(read, fields[20]) if fields[20] else None,
        absent=None if kind else _ABSENT.get(status),
        performer=read.practitioner(fields[16]) if fields[16] else None,
        components=parts,
        notes=notes,
        performing_organization=(_laboratory(read, fields[23]) if fields[23] else None)
        or (_producer(read, fields[15]) if fields[15] else None),
    )
    if len(files) <= 1:
        return [observation]
    return [observation, *(replace(observation, attachment=file) for file in files[1:])]


def observations_of(
    group: Group, read: Reader, at: str | None = None, section: str | None = None
) -> tuple[Observation, ...]:
    """Return the observations of a group, which lets go of their values; ``at`` and ``section`` as above."""
    found: list[Observation] = []
    for fields, notes in group.observations:
        found += map_observation(fields, notes_of(notes, read) if notes else (), read, at, section)
        fields[5] = ""  # a large value is kept once
    return tuple(found)


def notes_of(notes: Iterable[Fields], read: Reader) -> tuple[str, ...]:
    """Return what NTEs say; blank ones say nothing."""
    return tuple([text for fields in notes if (text := note_of(fields, read))])


def note_of(fields: list[str], read: Reader) -> str | None:
    """Return what an NTE says; its repetitions are lines."""
    lines = [formatted(read, part) or "" for part in read.repetitions(fields[3])]
    return "\n".join(lines).strip("\n") or None


# The codes of one message come again in the next: names of tests, units, flags, times of one draw.
_code: Final = kept_fields(first_concept, 8192)
_unit: Final = kept_fields(unit_of, 1024)
_laboratory: Final = kept_fields(organization, 1024)
_producer: Final = kept_fields(coded_organization, 1024)
time_at: Final = kept_fields(lambda read, field: time_of(field, read), 4096)


def upper_code(read: Reader, field: str) -> str:
    """Return the code of a field in upper case, or nothing."""
    return _upper(read, field) if field else ""


_upper: Final = kept_fields(lambda read, field: (read.first(field) or "").upper(), 1024)


def _listed(read: Reader, field: str) -> str | None:
    """Return the codes of a field, with commas where there are several."""
    codes = [code for part in read.repetitions(field) if (code := read.plain(read.split(part, 1)[0]))]
    return ",".join(dict.fromkeys(codes)) or None


_flags: Final = kept_fields(_listed, 1024)


def _category(code: Concept | None, section: str | None) -> str | None:
    if code is not None and code.code in _VITAL_SIGNS:
        return "vital-signs"
    if code is not None and code.code in _SOCIAL:
        return "social-history"
    return _CATEGORIES.get(section) if section else None
