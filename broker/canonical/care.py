"""This module holds what happens to a patient, as the canonical model tells it: appointments, orders, results, lists.

Names and codes follow FHIR R4 (``booked``, ``final``, ``active``); what is a `Concept` keeps the sender's own codes.
``None`` and empty mean *not said*; times are FHIR dateTime.
"""

from dataclasses import dataclass

from broker.canonical.values import (
    Attachment,
    Concept,
    Identifier,
    Location,
    Organization,
    Practitioner,
    Reference,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appointment:
    """A slot in somebody's schedule: FHIR Appointment, HL7 SCH with its AIS, AIG, AIL and AIP."""

    identifier: Identifier | None = None  # the placer's (SCH-1), else the filler's
    filler: Identifier | None = None  # SCH-2
    status: str | None = None  # proposed, pending, booked, arrived, fulfilled, cancelled, noshow, entered-in-error
    type: Concept | None = None  # SCH-8
    reason: Concept | None = None  # SCH-7
    event_reason: Concept | None = None  # SCH-6: why it is told now
    starts_at: str | None = None
    ends_at: str | None = None
    minutes: int | None = None
    services: tuple[Concept, ...] = ()  # AIS
    practitioners: tuple[Practitioner, ...] = ()  # AIP
    locations: tuple[Location, ...] = ()  # AIL
    resources: tuple[Concept, ...] = ()  # AIG: equipment and other
    priority: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Something that was asked for: FHIR ServiceRequest, HL7 ORC with OBR."""

    identifier: Identifier | None = None  # the placer's (ORC-2, OBR-2)
    filler: Identifier | None = None  # ORC-3, OBR-3
    group: Identifier | None = None  # ORC-4
    control: str | None = None  # HL7 table 0119: NW, CA, SC …
    status: str | None = None  # draft, active, on-hold, revoked, completed, entered-in-error, unknown
    intent: str | None = None  # order, plan, proposal; None: order
    priority: str | None = None  # routine, urgent, asap, stat
    code: Concept | None = None
    ordered_at: str | None = None
    starts_at: str | None = None  # when it is wanted
    orderer: Practitioner | None = None
    reason: Concept | None = None
    specimen: Concept | None = None
    notes: tuple[str, ...] = ()
    ends_at: str | None = None
    parent: Identifier | None = None  # ORC-8, by the placer's number


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationPart:
    """One of several values of an observation: FHIR Observation.component."""

    code: Concept | None = None
    value: str | None = None
    value_type: str | None = None
    concept: Concept | None = None
    comparator: str | None = None
    unit: str | None = None
    interpretation: str | None = None
    reference_range: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that was observed: FHIR Observation, HL7 OBX."""

    code: Concept | None = None
    identifier: Identifier | None = None
    value: str | None = None  # as text: a number as sent, a code's text, a time
    value_type: str | None = None  # quantity, string, concept, datetime, time, range, ratio, attachment, boolean
    concept: Concept | None = None  # where the value is coded
    comparator: str | None = None  # <, <=, >=, >
    unit: str | None = None
    attachment: Attachment | None = None
    reference_range: str | None = None
    interpretation: str | None = None  # HL7 table 0078: H, L, A, N …
    status: str | None = None  # registered, preliminary, final, amended, corrected, cancelled, unknown
    category: str | None = None  # FHIR observation-category: laboratory, vital-signs …
    observed_at: str | None = None
    sub_id: str | None = None  # OBX-4
    method: Concept | None = None
    body_site: Concept | None = None
    absent: str | None = None  # why there is no value
    performer: Practitioner | None = None
    components: tuple[ObservationPart, ...] = ()
    notes: tuple[str, ...] = ()
    performing_organization: Organization | None = None  # OBX-23, or OBX-15


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A report with what was observed: FHIR DiagnosticReport, HL7 OBR with its OBX."""

    identifier: Identifier | None = None  # the filler's (OBR-3)
    order: Identifier | None = None  # the placer's (OBR-2)
    code: Concept | None = None  # OBR-4
    status: str | None = None  # registered, partial, preliminary, final, amended, corrected, cancelled, unknown
    category: str | None = None  # HL7 table 0074: LAB, RAD …
    observed_at: str | None = None  # OBR-7
    issued_at: str | None = None  # OBR-22
    orderer: Practitioner | None = None
    interpreter: Practitioner | None = None  # OBR-32
    specimen: Concept | None = None
    observations: tuple[Observation, ...] = ()
    conclusion: str | None = None
    attachments: tuple[Attachment, ...] = ()
    notes: tuple[str, ...] = ()
    parent: Identifier | None = None  # the report that this one follows from, by its filler's number (OBR-29)
    parent_code: Concept | None = None  # and the observation in it (OBR-26), such as the organism of a sensitivity
    parent_sub_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A diagnosis or problem: FHIR Condition, HL7 DG1 or PRB."""

    code: Concept | None = None
    identifier: Identifier | None = None
    category: str | None = None  # encounter-diagnosis, problem-list-item
    clinical_status: str | None = None  # active, recurrence, relapse, inactive, remission, resolved
    verification_status: str | None = None  # unconfirmed, provisional, differential, confirmed, refuted
    kind: str | None = None  # HL7 table 0052: A admitting, W working, F final
    rank: int | None = None
    severity: Concept | None = None
    onset_at: str | None = None
    abated_at: str | None = None
    recorded_at: str | None = None
    asserter: Practitioner | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allergy:
    """An allergy or intolerance: FHIR AllergyIntolerance, HL7 AL1 or IAM."""

    code: Concept | None = None
    identifier: Identifier | None = None
    type: str | None = None  # allergy, intolerance
    category: str | None = None  # food, medication, environment, biologic
    criticality: str | None = None  # low, high, unable-to-assess
    severity: str | None = None  # mild, moderate, severe: of its reactions
    reactions: tuple[Concept, ...] = ()
    clinical_status: str | None = None  # active, inactive, resolved
    verification_status: str | None = None
    onset_at: str | None = None
    recorded_at: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Medication:
    """A medication asked for, given or taken: FHIR MedicationRequest, -Statement, -Dispense, HL7 RXO, RXE, RXD, RXA."""

    code: Concept | None = None
    identifier: Identifier | None = None
    kind: str | None = None  # request, statement, dispense, administration
    status: str | None = None  # active, on-hold, cancelled, completed, stopped, not-done, entered-in-error, unknown
    intent: str | None = None  # order, plan, proposal; None: order
    control: str | None = None  # HL7 table 0119
    dosage: str | None = None  # in words
    dose: str | None = None
    dose_unit: str | None = None
    frequency: str | None = None
    route: Concept | None = None
    form: Concept | None = None
    site: Concept | None = None
    quantity: str | None = None
    quantity_unit: str | None = None
    refills: int | None = None
    prescribed_at: str | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    prescriber: Practitioner | None = None
    reason: Concept | None = None
    notes: tuple[str, ...] = ()
    order: Identifier | None = None  # of a dispense or administration: the request that it follows
    performer: Practitioner | None = None  # who dispensed or gave it
    lot: str | None = None
    expires_on: str | None = None
    manufacturer: Organization | None = None
    ingredients: tuple[Concept, ...] = ()  # of a compound: RXC


@dataclass(frozen=True, slots=True, kw_only=True)
class Immunization:
    """A vaccination, given or refused: FHIR Immunization, HL7 RXA of a VXU."""

    code: Concept | None = None
    identifier: Identifier | None = None
    status: str | None = None  # completed, not-done, entered-in-error
    reason: Concept | None = None  # why it was not done
    occurred_at: str | None = None
    recorded_at: str | None = None
    historical: bool | None = None
    lot: str | None = None
    manufacturer: Organization | None = None
    expires_on: str | None = None
    dose: str | None = None
    dose_unit: str | None = None
    route: Concept | None = None
    site: Concept | None = None
    performer: Practitioner | None = None
    location: Location | None = None
    observations: tuple[Observation, ...] = ()  # eligibility, funding, publications: OBX below RXA
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """A patient sent on to somebody: HL7 RF1, FHIR ServiceRequest of category referral."""

    identifier: Identifier | None = None  # RF1-6
    status: str | None = None  # draft, active, on-hold, revoked, completed, unknown
    priority: str | None = None  # routine, urgent, asap, stat
    type: Concept | None = None
    category: Concept | None = None
    reason: Concept | None = None
    disposition: Concept | None = None
    sender: Practitioner | None = None  # PRD RP
    receiver: Practitioner | None = None  # PRD RT
    receiving_organization: Organization | None = None
    effective_at: str | None = None
    expires_at: str | None = None
    authorization: Identifier | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalDocument:
    """A document about the patient: FHIR DocumentReference, HL7 TXA."""

    identifier: Identifier | None = None  # TXA-12
    replaces: Identifier | None = None  # TXA-13
    type: Concept | None = None
    category: Concept | None = None
    status: str | None = None  # current, superseded, entered-in-error
    completion: str | None = None  # preliminary, final, amended
    title: str | None = None
    created_at: str | None = None
    signed_at: str | None = None
    author: Practitioner | None = None
    authenticator: Practitioner | None = None
    confidentiality: str | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the patient allows: FHIR Consent, HL7 CON."""

    identifier: Identifier | None = None
    status: str | None = None  # draft, proposed, active, rejected, inactive, entered-in-error
    decision: str | None = None  # permit, deny
    scope: Concept | None = None
    category: Concept | None = None
    purpose: str | None = None  # appointment, marketing, treatment …
    channel: str | None = None  # sms, email, phone; None: any
    given_at: str | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """An insurance plan that pays: FHIR Coverage, HL7 IN1 with IN2."""

    identifier: Identifier | None = None  # the policy's number (IN1-36), else the member's
    status: str | None = None  # active, cancelled, draft
    payer: Organization | None = None  # IN1-3, IN1-4
    plan: Concept | None = None  # IN1-2
    type: Concept | None = None  # IN1-15
    group_number: str | None = None
    group_name: str | None = None
    rank: int | None = None  # IN1-1, 22: 1 pays first
    subscriber_id: str | None = None
    subscriber_family: str | None = None
    subscriber_given: str | None = None
    subscriber_birth_date: str | None = None
    subscriber_sex: str | None = None
    relationship: Concept | None = None  # of the patient to the subscriber
    starts_at: str | None = None
    ends_at: str | None = None
    authorization: Identifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One charge or payment: HL7 FT1."""

    identifier: Identifier | None = None
    type: str | None = None  # HL7 table 0017: CG charge, CR credit, PY payment
    code: Concept | None = None
    amount: str | None = None
    quantity: str | None = None
    charged_at: str | None = None
    performer: Practitioner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A patient's account: HL7 PID-18 with PV1, BAR and DFT."""

    identifier: Identifier | None = None
    status: str | None = None  # active, inactive, entered-in-error, on-hold, unknown
    type: Concept | None = None
    opened_at: str | None = None
    closed_at: str | None = None
    balance: str | None = None
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """A message that went to or came from a patient: FHIR Communication."""

    identifier: Identifier | None = None
    status: str | None = None  # preparation, in-progress, not-done, on-hold, stopped, completed, unknown
    category: Concept | None = None
    medium: Concept | None = None
    topic: Concept | None = None
    text: str | None = None
    sent_at: str | None = None
    received_at: str | None = None
    sender: Reference | None = None
    recipients: tuple[Reference, ...] = ()
