"""This module maps FHIR Patient, RelatedPerson and Coverage to the canonical model."""

from collections.abc import Sequence
from typing import Final

from broker.canonical.model import Concept, Coverage, Identifier, Patient, RelatedPerson, Telecom
from transforms.fhir_pool import LOGICAL, Reader
from transforms.fhir_types import (
    NOTHING,
    Node,
    address,
    addresses,
    code,
    codes,
    concept,
    extension,
    first_identifier,
    flag,
    identifier,
    identifiers,
    main_name,
    name,
    names,
    node,
    nodes,
    telecom,
    text,
    whole,
    worded,
)
from transforms.map_patient import choose_record_number
from transforms.phone import e164

# Codes of v3-Confidentiality: restricted and very restricted.
_CONFIDENTIAL: Final = frozenset({"R", "V"})
# Roles of a contact: HL7 table 0131, v3-RoleCode.
_ROLES: Final = {
    "N": "next-of-kin", "NOK": "next-of-kin", "C": "emergency", "ECON": "emergency", "E": "employer",
    "I": "subscriber", "GUAR": "guarantor",
}  # fmt: skip
_CLASS_GROUP, _CLASS_PLAN = "group", "plan"  # coverage-class


def map_patient(reader: Reader, patient: Node) -> Patient:
    """Return a Patient; ``mrn`` is None when there is no usable identifier and the sender's server is not known.

    The server's own id comes last among the identifiers, of type RI and with the address of ``…/Patient`` as system.
    """
    told, points = names(patient), telecom(patient)
    main = main_name(told)
    known = identifiers(patient)
    in_use = [
        found for item in nodes(patient, "identifier") if item.get("use") == "old" and (found := identifier(item))
    ]
    own = reader.named(patient)
    mrn = choose_record_number([each for each in known if each not in in_use])
    deceased_at = text(patient, "deceasedDateTime")
    birth = whole(patient, "multipleBirthInteger")
    return Patient(
        mrn=mrn or (own if own and own.system else None),
        identifiers=(*known, own) if own else known,
        names=told,
        family=main.family if main else None,
        given=main.given[0] if main and main.given else None,
        birth_date=text(patient, "birthDate"),
        sex=text(patient, "gender"),
        telecom=points,
        mobile=mobile_of(points),
        email=next((each.value for each in points if each.system == "email" and each.use != "old"), None),
        addresses=addresses(patient),
        language=_language(patient),
        marital_status=code(node(patient, "maritalStatus")) or text(node(patient, "maritalStatus"), "text"),
        deceased=True if deceased_at else flag(patient, "deceasedBoolean"),
        deceased_at=deceased_at,
        birth_place=_place(node(extension(patient, "/patient-birthPlace"), "valueAddress")),
        multiple_birth=True if birth is not None else flag(patient, "multipleBirthBoolean"),
        birth_order=birth,
        race=_category(extension(patient, "/us-core-race")),
        ethnicity=_category(extension(patient, "/us-core-ethnicity")),
        religion=worded(concept(node(extension(patient, "/patient-religion"), "valueCodeableConcept"))),
        citizenship=_citizenship(extension(patient, "/patient-citizenship")),
        active=flag(patient, "active"),
        general_practitioner=reader.practitioner(node(patient, "generalPractitioner")),
        confidential=True if _CONFIDENTIAL & {str(each.get("code")) for each in security(patient)} else None,
    )


def referred_patient(known: Identifier | None) -> Patient:
    """Return the patient of whom no more is known than a reference says."""
    if known is None:
        return Patient()
    usable = known.system or known.type != LOGICAL
    return Patient(mrn=known if usable else None, identifiers=(known,))


def mobile_of(points: Sequence[Telecom]) -> str | None:
    """Return the first mobile number, as E.164 when it can be read."""
    for point in points:
        if point.system in {"phone", "sms"} and point.use == "mobile":
            return e164(point.value)
    return None


def security(resource: Node) -> list[Node]:
    """Return the security labels of a resource."""
    return nodes(node(resource, "meta"), "security")


def _language(patient: Node) -> str | None:
    spoken = nodes(patient, "communication")
    chosen = next((each for each in spoken if flag(each, "preferred")), spoken[0] if spoken else NOTHING)
    return code(node(chosen, "language")) or text(node(chosen, "language"), "text")


def _place(value: Node) -> str | None:
    parts = [text(value, name) for name in ("city", "state", "country")]
    return ", ".join(part for part in parts if part) or text(value, "text")


def _category(value: Node) -> Concept | None:
    """Return a race or ethnicity of US Core: its category, its words, and what it says in detail."""
    categories = [node(each, "valueCoding") for each in nodes(value, "extension")]
    words = next((text(each, "valueString") for each in nodes(value, "extension") if each.get("url") == "text"), None)
    return concept({"coding": [each for each in categories if each], "text": words}) if value else None


def _citizenship(value: Node) -> str | None:
    return worded(concept(node(extension(value, "code"), "valueCodeableConcept")))


def contacts(patient: Node) -> tuple[RelatedPerson, ...]:
    """Return the contacts inside a Patient."""
    return tuple([_contact(each) for each in nodes(patient, "contact")])


def _contact(contact: Node) -> RelatedPerson:
    told, place = name(node(contact, "name")), address(node(contact, "address"))
    period = node(contact, "period")
    return RelatedPerson(
        names=(told,) if told else (),
        relationship=concept(node(contact, "relationship")),
        role=_role(codes(contact, "relationship")),
        sex=text(contact, "gender"),
        telecom=telecom(contact),
        addresses=(place,) if place else (),
        starts_at=text(period, "start"),
        ends_at=text(period, "end"),
    )


def map_related_person(reader: Reader, person: Node) -> RelatedPerson:
    """Return a RelatedPerson."""
    period, own = node(person, "period"), reader.named(person)
    known = identifiers(person)
    return RelatedPerson(
        identifiers=known or ((own,) if own else ()),
        names=names(person),
        relationship=concept(node(person, "relationship")),
        role=_role(codes(person, "relationship")),
        birth_date=text(person, "birthDate"),
        sex=text(person, "gender"),
        telecom=telecom(person),
        addresses=addresses(person),
        starts_at=text(period, "start"),
        ends_at=text(period, "end"),
    )


def _role(found: list[str]) -> str:
    return next((_ROLES[each] for each in found if each in _ROLES), "contact")


def map_coverage(reader: Reader, coverage: Node) -> Coverage:
    """Return a Coverage, with its subscriber where that came along."""
    period, classes = node(coverage, "period"), nodes(coverage, "class")
    group, plan = _class(classes, _CLASS_GROUP), _class(classes, _CLASS_PLAN)
    subscriber = reader.find(node(coverage, "subscriber")).resource
    main = main_name(names(subscriber))
    plan_code = text(plan, "value")
    return Coverage(
        identifier=first_identifier(coverage) or reader.named(coverage),
        status=text(coverage, "status"),
        payer=reader.organization(node(coverage, "payor")),
        plan=Concept(code=plan_code, text=text(plan, "name")) if plan else None,
        type=concept(node(coverage, "type")),
        group_number=text(group, "value"),
        group_name=text(group, "name"),
        rank=whole(coverage, "order"),
        subscriber_id=text(coverage, "subscriberId"),
        subscriber_family=main.family if main else None,
        subscriber_given=main.given[0] if main and main.given else None,
        subscriber_birth_date=text(subscriber, "birthDate"),
        subscriber_sex=text(subscriber, "gender"),
        relationship=concept(node(coverage, "relationship")),
        starts_at=text(period, "start"),
        ends_at=text(period, "end"),
    )


def _class(classes: list[Node], kind: str) -> Node:
    return next((each for each in classes if code(node(each, "type")) == kind), NOTHING)
