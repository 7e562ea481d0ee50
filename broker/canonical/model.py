"""This module holds the canonical model: what every message, whatever its format, is mapped to.

Names follow FHIR R4 where FHIR has a name. Codes are FHIR's (``female``, ``usual``, ``mobile``), dates are strings in
FHIR's partial form (``1962``, ``1962-09``, ``1962-09-10``), times are FHIR dateTime or instant with their own offset
where the sender gave one. Every value is optional unless it says otherwise, because hospitals leave things out:
``None`` means *not said*. A field named in `Event.cleared` was sent as HL7's explicit null ``""`` and is to be emptied.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """A name that some authority gave: ``system`` is the assigning authority (as sent: namespace, or urn:oid:…)."""

    value: str
    system: str = ""
    type: str = ""  # HL7 table 0203: MR, SS, AN, VN …


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A person's name; ``use`` is FHIR NameUse."""

    family: str | None = None
    given: tuple[str, ...] = ()
    prefix: str | None = None
    suffix: str | None = None
    use: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telecom:
    """A way to reach a person: FHIR ContactPoint."""

    value: str
    system: str = "phone"  # phone, email, fax, pager, url, sms, other
    use: str | None = None  # home, work, temp, old, mobile


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A postal address; ``lines`` in the order of an envelope."""

    lines: tuple[str, ...] = ()
    city: str | None = None
    district: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    use: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A patient as one message describes them.

    ``mrn`` is the medical record number that identifies the patient to us (type MR, else the first usable identifier
    of ``identifiers``); ``mobile`` and ``email`` are where to reach them, ``mobile`` in E.164 when it could be read.
    """

    mrn: Identifier | None = None
    identifiers: tuple[Identifier, ...] = ()
    names: tuple[Name, ...] = ()
    family: str | None = None
    given: str | None = None
    birth_date: str | None = None
    sex: str | None = None  # FHIR AdministrativeGender: male, female, other, unknown
    telecom: tuple[Telecom, ...] = ()
    mobile: str | None = None
    email: str | None = None
    addresses: tuple[Address, ...] = ()
    language: str | None = None
    marital_status: str | None = None  # HL7 table 0002
    deceased: bool | None = None
    deceased_at: str | None = None
    account: Identifier | None = None  # PID-18


@dataclass(frozen=True, slots=True, kw_only=True)
class Practitioner:
    """Somebody who treats: identifier and name as sent."""

    identifier: Identifier | None = None
    family: str | None = None
    given: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in the hospital: PV1-3 and its like."""

    facility: str | None = None
    building: str | None = None
    point_of_care: str | None = None
    room: str | None = None
    bed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounter:
    """A visit or a stay: FHIR Encounter."""

    identifier: Identifier | None = None  # PV1-19
    status: str | None = None  # planned, arrived, in-progress, finished, cancelled
    patient_class: str | None = None  # HL7 table 0004: I, O, E, P …
    location: Location | None = None
    prior_location: Location | None = None
    attending: Practitioner | None = None
    referring: Practitioner | None = None
    service: str | None = None
    admitted_at: str | None = None
    discharged_at: str | None = None
    disposition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The identifiers that cease to be: MRG of A40. The survivor is `Event.patient`."""

    identifiers: tuple[Identifier, ...]
    mrn: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an event came from."""

    application: str = ""
    facility: str = ""
    control_id: str = ""
    message_type: str = ""  # ADT^A04
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a patient, as one message tells it. ``kind`` is a verb in the past (`KINDS`)."""

    kind: str
    source: Source
    patient: Patient
    occurred_at: str | None = None
    encounter: Encounter | None = None
    merge: Merge | None = None
    cleared: tuple[str, ...] = ()  # fields of patient or encounter sent as explicit null, such as "patient.telecom"


KINDS = {
    "patient.registered": "A patient was registered (A04, A28).",
    "patient.updated": "A patient's details changed (A08, A31).",
    "patient.merged": "One patient's record was merged into another's (A40).",
    "encounter.admitted": "A patient was admitted (A01).",
    "encounter.transferred": "A patient was moved (A02).",
    "encounter.discharged": "A stay or visit ended (A03).",
    "encounter.planned": "A stay was planned (A05).",
    "encounter.admission_cancelled": "An admission was undone (A11).",
    "encounter.discharge_cancelled": "A discharge was undone (A13).",
}
