"""This module maps PID to the canonical patient."""

from collections.abc import Sequence
from typing import Final

from broker.canonical.model import Identifier, Name, Patient, Telecom
from broker.errors import StepError
from transforms.hl7_types import Reader
from transforms.phone import e164
from transforms.scope import NULL
from transforms.times import fhir_date, fhir_datetime

PID_FIELDS: Final = 30

# HL7 table 0001 -> FHIR AdministrativeGender; any other code is "unknown".
_SEXES: Final = {
    "F": "female", "M": "male", "O": "other", "A": "other", "N": "other", "X": "other",
    "FEMALE": "female", "MALE": "male", "OTHER": "other",
}  # fmt: skip
# HL7 table 0203: types of identifiers that name the patient's record. SS, DL, AN, VN … name something else.
_RECORD: Final = "MR"
_USABLE: Final = frozenset({"PI", "PT", ""})
# Names that are not what the patient goes by.
_BY_NAMES: Final = frozenset({"maiden", "nickname", "old", "anonymous"})

# What is emptied by an explicit null in a field of PID.
_CLEARED: Final = (
    (5, ("patient.names", "patient.family", "patient.given")),
    (7, ("patient.birth_date",)),
    (8, ("patient.sex",)),
    (11, ("patient.addresses",)),
    (15, ("patient.language",)),
    (16, ("patient.marital_status",)),
    (18, ("patient.account",)),
    (29, ("patient.deceased_at",)),
    (30, ("patient.deceased",)),
)
_TELECOM: Final = ("patient.telecom", "patient.mobile", "patient.email")


def map_patient(fields: list[str], read: Reader, cleared: list[str], without: frozenset[str] = frozenset()) -> Patient:
    """Return the patient of a PID, padded to `PID_FIELDS`; ``cleared`` takes the fields sent as explicit null.

    ``mrn`` is None when PID has no usable identifier. Raises `StepError` for a birth or death date that is none, unless
    the field is one of ``without``: then somebody else reads it.
    """
    mrn, identifiers = _identifiers(fields, read)
    names = tuple([name for part in read.repetitions(fields[5]) if (name := read.name(part))])
    name = _main_name(names)
    telecom = _telecom(fields, read)
    deceased, deceased_at = _deceased(fields, read, "deceased_at" in without)
    if NULL in fields:
        _clear(fields, telecom, cleared)
    return Patient(
        mrn=mrn,
        identifiers=identifiers,
        names=names,
        family=name.family if name else None,
        given=name.given[0] if name and name.given else None,
        birth_date=_birth_date(read.first(fields[7])) if fields[7] and "birth_date" not in without else None,
        sex=sex_of(read.first(fields[8])),
        telecom=telecom,
        mobile=_mobile(telecom),
        email=_value(telecom, "email"),
        addresses=tuple([address for part in read.repetitions(fields[11]) if (address := read.address(part))]),
        language=read.first(fields[15]),
        marital_status=read.first(fields[16]),
        deceased=deceased,
        deceased_at=deceased_at,
        account=read.identifier(fields[18]) if fields[18] else None,
    )


def choose_record_number(identifiers: Sequence[Identifier]) -> Identifier | None:
    """Return the identifier that names the patient's record: type MR, else PI, PT or untyped, else None."""
    usable = None
    for identifier in identifiers:
        if identifier.type == _RECORD:
            return identifier
        if usable is None and identifier.type in _USABLE:
            usable = identifier
    return usable


def _identifiers(fields: list[str], read: Reader) -> tuple[Identifier | None, tuple[Identifier, ...]]:
    found = [identifier for part in read.repetitions(fields[3]) if (identifier := read.identifier(part))]
    mrn = choose_record_number(found)
    # PID-2 and PID-4 are the patient's external and alternate ids of versions before 2.3.1, and still in use.
    for number in (2, 4):
        if fields[number]:
            older = [identifier for part in read.repetitions(fields[number]) if (identifier := read.identifier(part))]
            mrn = mrn or (choose_record_number(older) if number == 2 else None)  # noqa: PLR2004 - PID-2
            found += [identifier for identifier in older if identifier not in found]
    return mrn, tuple(found)


def _main_name(names: Sequence[Name]) -> Name | None:
    """Return the first name that is not a by-name: the primary or legal name comes first (HL7 v2.5.1, 3.4.2.5)."""
    for name in names:
        if name.use not in _BY_NAMES:
            return name
    return names[0] if names else None


def _birth_date(value: str | None) -> str | None:
    if value is None:
        return None
    date = fhir_date(value)
    if date is None:
        raise StepError("PID-7 is not a date (YYYY[MM[DD]])", step="canonical", location="PID-7")
    return date


def sex_of(code: str | None) -> str | None:
    """Return a code of HL7 table 0001 as FHIR AdministrativeGender."""
    return _SEXES.get(code.upper(), "unknown") if code else None


def _telecom(fields: list[str], read: Reader) -> tuple[Telecom, ...]:
    home = [point for part in read.repetitions(fields[13]) if (point := read.telecom(part, "home"))]
    work = [point for part in read.repetitions(fields[14]) if (point := read.telecom(part, "work"))]
    return tuple(home + work)


def _value(telecom: Sequence[Telecom], system: str, use: str = "") -> str | None:
    for point in telecom:
        if point.system == system and (not use or point.use == use):
            return point.value
    return None


def _mobile(telecom: Sequence[Telecom]) -> str | None:
    number = _value(telecom, "phone", "mobile")
    return e164(number) if number else None


def _deceased(fields: list[str], read: Reader, skip_time: bool) -> tuple[bool | None, str | None]:  # noqa: FBT001
    time, flag = None if skip_time else read.first(fields[29]), read.first(fields[30])
    at = fhir_datetime(time) if time else None
    if time and at is None:
        raise StepError("PID-29 is not a time (YYYY[MM[DD[HHMM[SS]]]])", step="canonical", location="PID-29")
    deceased = {"Y": True, "N": False}.get(flag.upper()) if flag else None
    return (True if at and deceased is None else deceased), at


def _clear(fields: list[str], telecom: Sequence[Telecom], cleared: list[str]) -> None:
    for number, names in _CLEARED:
        if fields[number] == NULL:
            cleared.extend(names)
    if not telecom and NULL in (fields[13], fields[14]):
        cleared.extend(_TELECOM)
