"""This module holds the canonical model: what every message, whatever its format, is mapped to.

Names follow FHIR R4 where FHIR has a name. Codes are FHIR's (``female``, ``usual``, ``mobile``), dates are strings in
FHIR's partial form (``1962``, ``1962-09``, ``1962-09-10``), times are FHIR dateTime or instant with their own offset
where the sender gave one. Every value is optional unless it says otherwise, because hospitals leave things out:
``None`` means *not said*. A field named in `Event.cleared` was sent as HL7's explicit null ``""`` and is to be emptied.
The small values are in `broker.canonical.values`, what happens to patients is in `broker.canonical.care`; all of them
can be had from here.
"""

from dataclasses import dataclass

from broker.canonical.care import (
    Account,
    Allergy,
    Appointment,
    Charge,
    ClinicalDocument,
    Communication,
    Condition,
    Consent,
    Coverage,
    Immunization,
    Medication,
    Observation,
    ObservationPart,
    Order,
    Referral,
    Result,
)
from broker.canonical.quick import quicken
from broker.canonical.values import (
    Address,
    Attachment,
    Coding,
    Concept,
    Identifier,
    Location,
    Name,
    Organization,
    Practitioner,
    Reference,
    RelatedPerson,
    Telecom,
)

__all__ = [
    "BY_TELEPHONE",
    "KINDS",
    "WITHOUT_PATIENT",
    "Account",
    "Address",
    "Allergy",
    "Appointment",
    "Attachment",
    "Charge",
    "ClinicalDocument",
    "Coding",
    "Communication",
    "Concept",
    "Condition",
    "Consent",
    "Coverage",
    "Encounter",
    "Event",
    "Identifier",
    "Immunization",
    "Location",
    "Medication",
    "Merge",
    "Name",
    "Observation",
    "ObservationPart",
    "Order",
    "Organization",
    "Patient",
    "Practitioner",
    "Reference",
    "Referral",
    "RelatedPerson",
    "Result",
    "Source",
    "Telecom",
    "is_known",
]


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
    birth_place: str | None = None
    multiple_birth: bool | None = None
    birth_order: int | None = None
    race: Concept | None = None
    ethnicity: Concept | None = None
    religion: str | None = None  # HL7 table 0006
    citizenship: str | None = None
    active: bool | None = None  # None: in use
    general_practitioner: Practitioner | None = None  # PD1-4
    confidential: bool | None = None  # PD1-12, or FHIR's security label


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
    type: Concept | None = None  # PV1-4, FHIR Encounter.type
    reason: Concept | None = None  # PV2-3, FHIR Encounter.reasonCode
    consulting: tuple[Practitioner, ...] = ()  # PV1-9
    admitting: Practitioner | None = None  # PV1-17
    preadmit: Identifier | None = None  # PV1-5
    alternate: Identifier | None = None  # PV1-50
    origin: str | None = None  # where the patient came from: PV1-14, HL7 table 0023
    destination: str | None = None  # where the patient was discharged to: PV1-37
    expected_admission_at: str | None = None  # PV2-8
    expected_discharge_at: str | None = None  # PV2-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The identifiers that cease to be: MRG. The survivor is `Event.patient`."""

    identifiers: tuple[Identifier, ...]
    mrn: Identifier
    visit: Identifier | None = None  # MRG-5: the visit that is moved or merged
    account: Identifier | None = None  # MRG-3


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
    """Something that happened, as one message tells it. ``kind`` is a verb in the past (`KINDS`).

    ``patient`` says nothing where the event is about nobody's care (`WITHOUT_PATIENT`).
    """

    kind: str
    source: Source
    patient: Patient
    occurred_at: str | None = None
    encounter: Encounter | None = None
    merge: Merge | None = None
    cleared: tuple[str, ...] = ()  # fields of patient or encounter sent as explicit null, such as "patient.telecom"
    appointment: Appointment | None = None
    referral: Referral | None = None
    document: ClinicalDocument | None = None
    consent: Consent | None = None
    communication: Communication | None = None
    account: Account | None = None
    orders: tuple[Order, ...] = ()
    results: tuple[Result, ...] = ()
    observations: tuple[Observation, ...] = ()  # that belong to no report: OBX below PV1 or SCH, FHIR Observation
    conditions: tuple[Condition, ...] = ()
    allergies: tuple[Allergy, ...] = ()
    medications: tuple[Medication, ...] = ()
    immunizations: tuple[Immunization, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    related_people: tuple[RelatedPerson, ...] = ()
    staff: tuple[Practitioner, ...] = ()  # MFN M02
    notes: tuple[str, ...] = ()  # NTE that belong to the message or patient
    linked: Patient | None = None  # the other record of patient.linked and patient.unlinked
    unread: tuple[str, ...] = ()  # places whose value was not what the standard has there, and was left out: PID-7


quicken(*[kind for kind in list(vars().values()) if isinstance(kind, type) and kind.__module__.startswith(__package__)])

KINDS = {
    "patient.registered": "A patient was registered (A04, A28; FHIR Patient created).",
    "patient.updated": "A patient's details changed (A08, A31; FHIR Patient).",
    "patient.merged": "One patient's record was merged into another's (A18, A30, A34, A36, A39, A40).",
    "patient.linked": "Two records were said to be the same person's (A24).",
    "patient.unlinked": "Two records were said not to be the same person's (A37).",
    "patient.deleted": "A patient's record was withdrawn (A29).",
    "patient.identifier_changed": "A patient's number changed (A46, A47, A48, A49, A51).",
    "patient.account_moved": "An account or visit was moved to another patient or merged (A35, A41 to A45, A50).",
    "encounter.admitted": "A patient was admitted (A01).",
    "encounter.transferred": "A patient was moved (A02).",
    "encounter.discharged": "A stay or visit ended (A03).",
    "encounter.planned": "A stay was planned (A05, A14).",
    "encounter.updated": "A stay's details changed (A32, A33, A54, A55, A61, A62; FHIR Encounter).",
    "encounter.class_changed": "An inpatient became an outpatient, or back (A06, A07).",
    "encounter.transfer_planned": "A move was planned (A15).",
    "encounter.discharge_planned": "A discharge was planned (A16).",
    "encounter.swapped": "Two patients changed beds (A17).",
    "encounter.arriving": "A patient is leaving for, or arriving from, somewhere else (A09, A10).",
    "encounter.leave_began": "A patient went on leave, or did not come back after all (A21, A53).",
    "encounter.leave_ended": "A patient came back from leave, or did not go after all (A22, A52).",
    "encounter.admission_cancelled": "An admission or registration was undone (A11).",
    "encounter.transfer_cancelled": "A move was undone (A12).",
    "encounter.discharge_cancelled": "A discharge was undone (A13).",
    "encounter.plan_cancelled": "A planned stay, move or discharge was undone (A25, A26, A27, A38).",
    "encounter.deleted": "A visit was withdrawn (A23).",
    "appointment.requested": "A slot was asked for (SRM S01; FHIR Appointment proposed, pending).",
    "appointment.booked": "A slot was booked (S12).",
    "appointment.rescheduled": "A slot was moved to another time (S13).",
    "appointment.updated": "A slot's details changed (S14, S18 to S24).",
    "appointment.cancelled": "A slot was cancelled, or will not come again (S15, S16, S17).",
    "appointment.no_show": "The patient did not come (S26).",
    "appointment.arrived": "The patient came, or the slot was used (FHIR Appointment arrived, checked-in, fulfilled).",
    "order.placed": "Something was ordered (ORM, OMG, OML: NW).",
    "order.updated": "An order changed (ORM, OMG, OML: XO, SC, RP …).",
    "order.cancelled": "An order was cancelled (CA, DC, OC, CR).",
    "order.answered": "The other side answered an order (ORR, ORL, ORG).",
    "result.preliminary": "A result came that is not final yet.",
    "result.final": "A final result came.",
    "result.corrected": "A result was corrected.",
    "result.cancelled": "A result was withdrawn, or will not come.",
    "observation.recorded": "Something was observed (FHIR Observation).",
    "referral.requested": "A patient was referred (I12).",
    "referral.updated": "A referral changed (I13).",
    "referral.cancelled": "A referral was cancelled (I14).",
    "referral.inquired": "Somebody asked about a referral (I15).",
    "referral.answered": "The other side answered a referral (RRI).",
    "document.added": "A document came (T01, T02; FHIR DocumentReference).",
    "document.signed": "A document was signed (its completion became authenticated).",
    "document.updated": "A document's status or content changed (T03 to T08).",
    "document.replaced": "A document took another's place (T09, T10).",
    "document.cancelled": "A document was withdrawn (T11).",
    "immunization.recorded": "Immunizations were told (VXU).",
    "medication.prescribed": "A medication was prescribed (RDE, OMP, RXO; FHIR MedicationRequest).",
    "medication.dispensed": "A medication was handed out (RDS).",
    "medication.administered": "A medication was given (RAS).",
    "medication.recorded": "A medication is said to be taken (FHIR MedicationStatement).",
    "condition.recorded": "A diagnosis or problem was told (PPR; FHIR Condition).",
    "allergy.recorded": "Allergies were told (A60; FHIR AllergyIntolerance).",
    "coverage.changed": "What pays for the patient changed (FHIR Coverage).",
    "related_person.changed": "Somebody related to the patient was told (FHIR RelatedPerson).",
    "account.opened": "An account was opened (BAR P01).",
    "account.updated": "An account changed (BAR P02, P05, P12).",
    "account.closed": "An account was closed (BAR P06).",
    "account.charged": "Charges were posted (DFT P03, P11).",
    "consent.given": "A patient allowed something.",
    "consent.withdrawn": "A patient forbade something.",
    "communication.recorded": "A message to or from a patient was told (FHIR Communication).",
    "summary.received": "A care summary came (C-CDA, CDA R2; FHIR document Bundle).",
    "staff.updated": "Somebody who works here was told (MFN M02; FHIR Practitioner).",
    "bed.changed": "A bed's status changed (A20).",
    "query.asked": "Somebody asked (QBP, QRY).",
    "query.answered": "An answer to a query came (RSP and its like).",
    "acknowledgment.received": "An acknowledgment came as a message (ACK).",
}
# Kinds that may know their patient by a telephone number alone, because a text was answered.
BY_TELEPHONE = frozenset({"consent.given", "consent.withdrawn", "communication.recorded"})
# Kinds that may be about no patient; every other needs one with a medical record number.
WITHOUT_PATIENT = frozenset(
    {"staff.updated", "bed.changed", "query.asked", "query.answered", "acknowledgment.received"}
)


def is_known(event: Event) -> bool:
    """Say whether an event tells whom it is about, if it is about somebody."""
    if event.patient.mrn is not None or event.kind in WITHOUT_PATIENT:
        return True
    return event.kind in BY_TELEPHONE and event.patient.mobile is not None
