"""This module maps PID and PD1 to the canonical patient."""

from collections.abc import Iterator, Sequence
from typing import Final

from broker.canonical.model import Identifier, Name, Patient, Telecom
from transforms.hl7_codes import first_concept
from transforms.hl7_types import Reader, padded
from transforms.phone import e164
from transforms.scope import NULL
from transforms.times import fhir_date, fhir_datetime

_PID_FIELDS: Final = 40
_PD1_FIELDS: Final = 12

# HL7 table 0001 -> FHIR AdministrativeGender; any other code is "unknown".
_SEXES: Final = {
    "F": "female", "M": "male", "O": "other", "A": "other", "N": "other", "X": "other",
    "FEMALE": "female", "MALE": "male", "OTHER": "other",
}  # fmt: skip
FLAGS: Final = {"Y": True, "N": False, "YES": True, "NO": False}  # HL7 table 0136, and what senders write
# HL7 table 0203: types of identifiers that name the patient's record.
_RECORD: Final = "MR"
_USABLE: Final = frozenset({"PI", "PT", ""})
# Those that name something else: a document, a card, an account, a visit, somebody's profession or employer. Several
# people share some of them, and a number that two people share would make one chart of two. What is in neither set (PN,
# PE, U, a site's own EPI …) is taken where nothing better is there.
_OTHERS: Final = (
    "AC ACSN AM AMA AN ANC AND ANON ANT APRN ASID BA BC BCFN BCT BN BR BRN BSNR CAII CC CERT CONM CY CZ DC DCFN DDS "
    "DEA DFN DI DL DN DO DP DPM DR DS DVM EI EN ESN FDR FDRFN FGN FI FILL FLGN GI GL GN GOVI HC HDC HN IND IRISTEM JHN "
    "LACSN LANR LCN LI LN MA MB MC MCD MCN MCR MCT MD MI NA NB NBSNR NCT NE NH NI NII NIIP NP NPI OD PA PAR PC PCN PGN "
    "PHC PHE PHO PLAC PNT PPID PPIN PPN PRC PRN QA QB RN RPH RR SAMN SB SHIP SID SL SN SNBSN SNO SP SS STN TAX TN TPR "
    "TRL UDI UPIN USID VN VP VS WC WCN WP XV XX"
)
_NO_RECORD: Final = frozenset(_OTHERS.split())
# Names that are not what the patient goes by.
_BY_NAMES: Final = frozenset({"maiden", "nickname", "old", "anonymous"})

# What is emptied by an explicit null in a field of PID, and of PD1.
_CLEARED: Final = (
    (5, ("patient.names", "patient.family", "patient.given")),
    (7, ("patient.birth_date",)),
    (8, ("patient.sex",)),
    (10, ("patient.race",)),
    (11, ("patient.addresses",)),
    (15, ("patient.language",)),
    (16, ("patient.marital_status",)),
    (17, ("patient.religion",)),
    (18, ("patient.account",)),
    (22, ("patient.ethnicity",)),
    (23, ("patient.birth_place",)),
    (24, ("patient.multiple_birth",)),
    (25, ("patient.birth_order",)),
    (26, ("patient.citizenship",)),
    (29, ("patient.deceased_at",)),
    (30, ("patient.deceased",)),
)
_CLEARED_MORE: Final = ((4, "patient.general_practitioner"), (12, "patient.confidential"))
_TELECOM: Final = ("patient.telecom", "patient.mobile", "patient.email")
_TELECOM_FIELDS: Final = ((13, "home"), (14, "work"), (40, ""))  # PID-40 takes the place of both since 2.7


class Gaps:
    """What a segment says beside its values: fields sent as explicit null, and places that could not be read."""

    __slots__ = ("cleared", "unread")

    def __init__(self) -> None:
        self.cleared: list[str] = []  # fields of the model, such as patient.sex
        self.unread: list[str] = []  # locations, such as PID-7


def map_patient(fields: list[str], more: list[str], read: Reader, gaps: Gaps, without: frozenset[str]) -> Patient:
    """Return the patient of a PID; ``more`` are the fields of PD1, if there is one.

    ``mrn`` is None when PID has no usable identifier. A date that is none is left out, and told in ``gaps``; the fields
    of ``without`` are left out because something else reads them.
    """
    fields, more = padded(fields, _PID_FIELDS), padded(more, _PD1_FIELDS)
    mrn, identifiers = _identifiers(fields, read)
    names = _names(fields, read)
    name = _main_name(names)
    telecom = _telecom(fields, read)
    deceased, deceased_at = _deceased(fields, read, gaps, without)
    multiple_birth, birth_order = _births(fields, read, gaps)
    _clear(fields, more, telecom, gaps.cleared)
    return Patient(
        mrn=mrn,
        identifiers=identifiers,
        names=names,
        family=name.family if name else None,
        given=name.given[0] if name and name.given else None,
        birth_date=_birth_date(fields[7], read, gaps) if fields[7] and "birth_date" not in without else None,
        sex=sex_of(read.first(fields[8])),
        telecom=telecom,
        mobile=_mobile(telecom),
        email=_value(telecom, "email"),
        addresses=tuple([address for part in read.repetitions(fields[11]) if (address := read.address(part))]),
        language=read.first(fields[15]),
        marital_status=read.first(fields[16]),
        deceased=deceased,
        deceased_at=deceased_at,
        account=read.identifier(read.repetitions(fields[18])[0]) if fields[18] and fields[18] != NULL else None,
        birth_place=read.first(fields[23]),
        multiple_birth=multiple_birth,
        birth_order=birth_order,
        race=first_concept(read, fields[10]),
        ethnicity=first_concept(read, fields[22]),
        religion=read.first(fields[17]),
        citizenship=read.first(fields[26]),
        general_practitioner=read.practitioner(more[4]) if more[4] else None,
        confidential=FLAGS.get(read.first(more[12]) or ""),
    )


def choose_record_number(identifiers: Sequence[Identifier]) -> Identifier | None:
    """Return the identifier that names the patient's record: type MR, else PI, PT or untyped, else None.

    Where there is none of these, the first whose type names nothing else (no document, account, visit, card …).
    """
    usable = other = None
    for identifier in identifiers:
        kind = identifier.type
        if kind == _RECORD:
            return identifier
        if usable is None and kind in _USABLE:
            usable = identifier
        elif other is None and kind not in _NO_RECORD and not kind.startswith("NN"):  # NNxxx, a nation's number
            other = identifier
    return usable or other


def _identifiers(fields: list[str], read: Reader) -> tuple[Identifier | None, tuple[Identifier, ...]]:
    found = [identifier for part in read.repetitions(fields[3]) if (identifier := read.identifier(part))]
    mrn = choose_record_number(found)
    # PID-2 and PID-4 are the patient's external and alternate ids of versions before 2.3.1, and still in use.
    for number in (2, 4):
        if fields[number]:
            older = [identifier for part in read.repetitions(fields[number]) if (identifier := read.identifier(part))]
            mrn = mrn or (choose_record_number(older) if number == 2 else None)  # noqa: PLR2004 - PID-2
            found = list(dict.fromkeys(found + older))  # a field may repeat as often as it likes
    if fields[19] or fields[20]:
        known = {identifier.value for identifier in found}
        found += [identifier for identifier in _documents(fields, read) if identifier.value not in known]
    return mrn, tuple(found)


def _documents(fields: list[str], read: Reader) -> Iterator[Identifier]:
    """Give the social security number (PID-19) and driver's licence (PID-20: number, state), now part of PID-3."""
    if number := read.first(fields[19]):
        yield Identifier(value=number, type="SS")
    licence = read.repetitions(fields[20])
    if licence and (number := read.first(licence[0])):
        yield Identifier(value=number, system=read.component(licence[0], 2) or "", type="DL")


def _names(fields: list[str], read: Reader) -> tuple[Name, ...]:
    """Return the names of PID-5, and the aliases of PID-9 (of versions before 2.4)."""
    found = [name for part in read.repetitions(fields[5]) if (name := read.name(part))]
    if fields[9]:
        found += [name for part in read.repetitions(fields[9]) if (name := read.name(part))]
    return tuple(dict.fromkeys(found)) if fields[9] else tuple(found)


def _main_name(names: Sequence[Name]) -> Name | None:
    """Return the first name that is not a by-name: the primary or legal name comes first (HL7 v2.5.1, 3.4.2.5)."""
    for name in names:
        if name.use not in _BY_NAMES:
            return name
    return names[0] if names else None


def _birth_date(field: str, read: Reader, gaps: Gaps) -> str | None:
    value = read.first(field)
    date = fhir_date(value) if value else None
    if value and date is None:
        gaps.unread.append("PID-7")
    return date


def sex_of(code: str | None) -> str | None:
    """Return a code of HL7 table 0001 as FHIR AdministrativeGender."""
    return _SEXES.get(code.upper(), "unknown") if code else None


def _telecom(fields: list[str], read: Reader) -> tuple[Telecom, ...]:
    found = [
        point
        for number, use in _TELECOM_FIELDS
        if fields[number]
        for part in read.repetitions(fields[number])
        if (point := read.telecom(part, use))
    ]
    return tuple(dict.fromkeys(found))


def _value(telecom: Sequence[Telecom], system: str, use: str = "") -> str | None:
    for point in telecom:
        if point.system == system and (not use or point.use == use):
            return point.value
    return None


def _mobile(telecom: Sequence[Telecom]) -> str | None:
    number = _value(telecom, "phone", "mobile")
    return e164(number) if number else None


def _deceased(fields: list[str], read: Reader, gaps: Gaps, without: frozenset[str]) -> tuple[bool | None, str | None]:
    """Return whether and when the patient died; a time of death says more than a flag that contradicts it."""
    time, flag = None if "deceased_at" in without else read.first(fields[29]), read.first(fields[30])
    at = fhir_datetime(time) if time else None
    if time and at is None:
        gaps.unread.append("PID-29")
    return True if at else FLAGS.get(flag.upper()) if flag else None, at


def _births(fields: list[str], read: Reader, gaps: Gaps) -> tuple[bool | None, int | None]:
    """Return whether the patient is one of several, and which, as sent: senders give an order beside ``N`` as well."""
    flag, order = read.first(fields[24]), read.first(fields[25])
    several = FLAGS.get(flag.upper()) if flag else None
    if order is None:
        return several, None
    if not (order.isascii() and order.isdecimal() and len(order) <= 2):  # noqa: PLR2004 - digits
        gaps.unread.append("PID-25")
        return several, None
    return several, int(order) or None


def _clear(fields: list[str], more: list[str], telecom: Sequence[Telecom], cleared: list[str]) -> None:
    if NULL not in fields and NULL not in more:
        return
    for number, names in _CLEARED:
        if fields[number] == NULL:
            cleared.extend(names)
    cleared.extend(name for number, name in _CLEARED_MORE if more[number] == NULL)
    if not telecom and NULL in (fields[13], fields[14], fields[40]):
        cleared.extend(_TELECOM)
