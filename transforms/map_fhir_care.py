"""This module maps FHIR Condition, AllergyIntolerance, Immunization and medications to the canonical model."""

from collections.abc import Sequence
from typing import Final

from broker.canonical.model import Allergy, Concept, Condition, Immunization, Medication, Practitioner
from transforms.fhir_pool import Reader
from transforms.fhir_types import (
    Node,
    code,
    codes,
    concept,
    first_identifier,
    flag,
    moment,
    node,
    nodes,
    notes,
    number,
    quantity,
    span,
    text,
    texts,
    whole,
    worded,
)
from transforms.map_fhir_results import first_person

_SEVERITIES: Final = ("mild", "moderate", "severe")
# What each resource of a medication is called here, and where it says who, when and how.
_KINDS: Final = {
    "MedicationRequest": "request",
    "MedicationStatement": "statement",
    "MedicationDispense": "dispense",
    "MedicationAdministration": "administration",
}


def map_condition(reader: Reader, condition: Node, kind: str | None = None, rank: int | None = None) -> Condition:
    """Return a Condition; ``kind`` and ``rank`` are what an encounter says of it."""
    return Condition(
        code=concept(node(condition, "code")),
        identifier=first_identifier(condition) or reader.named(condition),
        category=next(iter(codes(condition, "category")), None),
        clinical_status=code(node(condition, "clinicalStatus")),
        verification_status=code(node(condition, "verificationStatus")),
        kind=kind,
        rank=rank,
        severity=concept(node(condition, "severity")),
        onset_at=moment(condition, "onset"),
        abated_at=moment(condition, "abatement"),
        recorded_at=text(condition, "recordedDate"),
        asserter=reader.practitioner(node(condition, "asserter")) or reader.practitioner(node(condition, "recorder")),
        notes=(*_spoken(condition, "onset"), *_spoken(condition, "abatement"), *notes(condition)),
    )


def _spoken(condition: Node, stem: str) -> tuple[str, ...]:
    """Return an onset or abatement that is no time: an age, a range, words."""
    years, unit = quantity(node(condition, f"{stem}Age"))
    said = text(condition, f"{stem}String") or span(node(condition, f"{stem}Range"))
    if years:
        said = f"{years} {unit or ''}".strip()
    return (f"{stem}: {said}",) if said else ()


def map_allergy(reader: Reader, allergy: Node) -> Allergy:
    """Return an AllergyIntolerance; where it names no substance itself, its first reaction does."""
    reactions = nodes(allergy, "reaction")
    severities = [severity for each in reactions if (severity := text(each, "severity")) in _SEVERITIES]
    found = concept(node(allergy, "code"))
    return Allergy(
        code=found or next((each for each in (concept(node(item, "substance")) for item in reactions) if each), None),
        identifier=first_identifier(allergy) or reader.named(allergy),
        type=text(allergy, "type"),
        category=next(iter(texts(allergy, "category")), None),
        criticality=text(allergy, "criticality"),
        severity=max(severities, key=_SEVERITIES.index, default=None),
        reactions=tuple(
            [each for item in reactions for sign in nodes(item, "manifestation") if (each := concept(sign))]
        ),
        clinical_status=code(node(allergy, "clinicalStatus")),
        verification_status=code(node(allergy, "verificationStatus")),
        onset_at=moment(allergy, "onset"),
        recorded_at=text(allergy, "recordedDate"),
        notes=notes(allergy),
    )


def map_immunization(reader: Reader, immunization: Node) -> Immunization:
    """Return an Immunization; a vaccination that was given by several is by its first performer."""
    dose, unit = quantity(node(immunization, "doseQuantity"))
    primary = flag(immunization, "primarySource")
    return Immunization(
        code=concept(node(immunization, "vaccineCode")),
        identifier=first_identifier(immunization) or reader.named(immunization),
        status=text(immunization, "status"),
        reason=concept(node(immunization, "statusReason")),
        occurred_at=moment(immunization, "occurrence"),
        recorded_at=text(immunization, "recorded"),
        historical=None if primary is None else not primary,
        lot=text(immunization, "lotNumber"),
        manufacturer=reader.organization(node(immunization, "manufacturer")),
        expires_on=text(immunization, "expirationDate"),
        dose=dose,
        dose_unit=unit,
        route=concept(node(immunization, "route")),
        site=concept(node(immunization, "site")),
        performer=_performer(reader, immunization),
        location=reader.location(node(immunization, "location")),
        notes=(*_when(immunization), *notes(immunization)),
    )


def _when(immunization: Node) -> tuple[str, ...]:
    words = text(immunization, "occurrenceString")
    return (f"occurrence: {words}",) if words else ()


def _performer(reader: Reader, resource: Node) -> Practitioner | None:
    found = [reader.practitioner(node(each, "actor")) for each in nodes(resource, "performer")]
    return next((each for each in found if each), None)


def map_medication(reader: Reader, resource: Node) -> Medication:
    """Return a MedicationRequest, MedicationStatement, MedicationDispense or MedicationAdministration."""
    dosages = nodes(resource, "dosageInstruction") or nodes(resource, "dosage")
    dosage = dosages[0] if dosages else {}
    dose, dose_unit = _dose(dosage)
    supply = node(resource, "dispenseRequest")
    amount, unit = quantity(node(supply, "quantity") or node(resource, "quantity"))
    begins, ends = _while(resource, dosage)
    return Medication(
        code=_medicine(reader, resource),
        identifier=first_identifier(resource) or reader.named(resource),
        kind=_KINDS.get(str(resource.get("resourceType"))),
        status=text(resource, "status"),
        intent=text(resource, "intent"),
        dosage=_said(dosages),
        dose=dose,
        dose_unit=dose_unit,
        frequency=_frequency(node(dosage, "timing")),
        route=concept(node(dosage, "route")),
        form=_form(reader, resource),
        site=concept(node(dosage, "site")),
        quantity=amount,
        quantity_unit=unit,
        refills=whole(supply, "numberOfRepeatsAllowed"),
        prescribed_at=text(resource, "authoredOn") or text(resource, "dateAsserted"),
        starts_at=begins,
        ends_at=ends,
        prescriber=reader.practitioner(node(resource, "requester")) or _actor(reader, resource),
        reason=concept(node(resource, "reasonCode")),
        notes=notes(resource),
    )


def _actor(reader: Reader, resource: Node) -> Practitioner | None:
    """Return who prescribed it where the resource itself does not say: the request's requester, the source."""
    for request in reader.each(resource, "authorizingPrescription"):
        return reader.of(request).practitioner(node(request, "requester"))
    return first_person(reader, resource, "informationSource") or _performer(reader, resource)


def _medicine(reader: Reader, resource: Node) -> Concept | None:
    if found := concept(node(resource, "medicationCodeableConcept")):
        return found
    link = node(resource, "medicationReference")
    target = reader.find(link)
    if found := concept(node(target.resource, "code")):
        return found
    words = text(link, "display")
    return Concept(text=words) if words else None


def _form(reader: Reader, resource: Node) -> Concept | None:
    return concept(node(reader.find(node(resource, "medicationReference")).resource, "form"))


def _dose(dosage: Node) -> tuple[str | None, str | None]:
    rates = node(dosage, "doseAndRate")
    told = node(rates, "doseQuantity") or node(dosage, "dose")
    if told:
        return quantity(told)
    spread = node(rates, "doseRange")
    return span(spread), quantity(node(spread, "low"))[1] or quantity(node(spread, "high"))[1]


def _said(dosages: Sequence[Node]) -> str | None:
    words = [text(each, "text") or text(each, "patientInstruction") for each in dosages]
    return "; ".join(each for each in words if each) or None


def _frequency(timing: Node) -> str | None:
    """Return a Timing as its code (``BID``), or as ``2 per 1 d``, or by the times of a day."""
    if words := worded(concept(node(timing, "code"))):
        return words
    repeat = node(timing, "repeat")
    times, period, unit = whole(repeat, "frequency"), number(repeat, "period"), text(repeat, "periodUnit")
    if period and unit:
        return f"{times or 1} per {period} {unit}"
    return ", ".join((*texts(repeat, "when"), *texts(repeat, "timeOfDay"))) or None


def _while(resource: Node, dosage: Node) -> tuple[str | None, str | None]:
    """Return since when and until when: as it was taken, given, handed out or is to be taken."""
    for period in (node(resource, "effectivePeriod"), node(node(node(dosage, "timing"), "repeat"), "boundsPeriod")):
        if period:
            return text(period, "start"), text(period, "end")
    at = text(resource, "effectiveDateTime") or text(resource, "whenHandedOver") or text(resource, "whenPrepared")
    validity = node(node(resource, "dispenseRequest"), "validityPeriod")
    return at or text(validity, "start"), text(validity, "end")
