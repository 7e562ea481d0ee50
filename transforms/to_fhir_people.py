"""This module writes people as FHIR R4: Patient, RelatedPerson, Practitioner, PractitionerRole and Coverage."""

from typing import Any, Final

from broker.canonical.model import Coverage, Identifier, Organization, Patient, Practitioner, RelatedPerson
from broker.canonical.systems import TABLES
from transforms.to_fhir_links import Links, address_of
from transforms.to_fhir_types import (
    Json,
    address,
    chosen,
    concept,
    identifier,
    identifiers,
    name,
    sex,
    table_code,
    telecom,
    words,
)
from transforms.written import names_of, telecom_of

# What a related person is to us -> HL7 table 0131; a guarantor is none of those.
ROLES: Final = {"next-of-kin": "N", "emergency": "C", "employer": "E", "contact": "CP"}
_MARITAL: Final = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
_MARITAL_CODES: Final = frozenset("ACDILMPSTUW")  # the same letter in HL7 table 0002 and in v3-MaritalStatus
_STATUSES: Final = frozenset({"active", "cancelled", "draft", "entered-in-error"})
_CORE: Final = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/patient-"
_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def patients(links: Links) -> list[Json]:
    """Return the patient of the event, where it has one."""
    given = links.event.patient
    return [patient(links)] if given.mrn or given.identifiers or given.names or given.family else []


def patient(links: Links) -> Json:
    """Return a Patient; the record number comes first among its identifiers."""
    given = links.event.patient
    resource = {
        "meta": _meta(given),
        "extension": _extensions(given),
        "identifier": _numbers(given),
        "active": given.active,
        "name": [name(each) for each in names_of(given)],
        "telecom": [telecom(each) for each in telecom_of(given)],
        "gender": sex(given.sex),
        "birthDate": given.birth_date,
        **_death(links, given),
        "address": [address(each) for each in given.addresses],
        "maritalStatus": _marital(given.marital_status),
        **_birth(given),
        "generalPractitioner": [links.practitioner(given.general_practitioner)],
        "communication": [{"language": _language(given.language), "preferred": True}] if given.language else None,
        "link": _replaced(links),
    }
    return links.finished("Patient", resource)


def _numbers(given: Patient) -> list[Json]:
    numbers = identifiers(given.mrn, *given.identifiers)
    if given.mrn is not None:
        numbers[0]["use"] = "usual"
    if given.account is not None:
        numbers.append(identifier(given.account if given.account.type else _typed(given.account, "AN")))
    return numbers


def _typed(given: Identifier, kind: str) -> Identifier:
    return Identifier(value=given.value, system=given.system, type=kind)


def _meta(given: Patient) -> Json | None:
    return {"security": [{"system": _CONFIDENTIALITY, "code": "R"}]} if given.confidential else None


def _death(links: Links, given: Patient) -> Json:
    if given.deceased_at and given.deceased is not False:
        return {"deceasedDateTime": links.moment(given.deceased_at)}
    return {"deceasedBoolean": given.deceased}


def _birth(given: Patient) -> Json:
    if given.birth_order is not None and given.multiple_birth is not False:
        return {"multipleBirthInteger": given.birth_order}
    return {"multipleBirthBoolean": given.multiple_birth}


def _marital(code: str | None) -> Json | None:
    if code in _MARITAL_CODES:
        return {"coding": [{"system": _MARITAL, "code": code}]}
    return table_code("0002", code)


def _language(code: str) -> Json:
    return {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]} if len(code) < 4 else {"text": code}  # noqa: PLR2004 - ISO 639


def _extensions(given: Patient) -> list[Json]:
    found: list[Json] = []
    for part, what in (("race", given.race), ("ethnicity", given.ethnicity)):
        if what is not None and (what.text or what.code):
            found.append({"url": _CORE + part, "extension": _race(what)})
    if given.birth_place:
        found.append({"url": f"{_EXTENSION}birthPlace", "valueAddress": {"text": given.birth_place}})
    if given.religion:
        found.append({"url": f"{_EXTENSION}religion", "valueCodeableConcept": table_code("0006", given.religion)})
    if given.citizenship:
        parts = [{"url": "code", "valueCodeableConcept": words(given.citizenship)}]
        found.append({"url": f"{_EXTENSION}citizenship", "extension": parts})
    return found


def _race(what: Any) -> list[Json]:
    coded = (concept(what) or {}).get("coding", [])
    parts: list[Json] = [{"url": "ombCategory", "valueCoding": coded[0]}] if coded else []
    return [*parts, {"url": "text", "valueString": what.text or what.code}]


def _replaced(links: Links) -> list[Json]:
    """Return the record that a merge took into this one; what becomes of that record is its owner's business."""
    merge = links.event.merge
    if merge is None or links.event.kind != "patient.merged":
        return []
    return [{"other": {"type": "Patient", "identifier": identifier(merge.mrn)}, "type": "replaces"}]


def related_people(links: Links) -> list[Json]:
    """Return next of kin, guarantors, contacts."""
    return [_related(links, each, number) for number, each in enumerate(links.event.related_people)]


def _related(links: Links, given: RelatedPerson, number: int) -> Json:
    who = (given.names[0].family, *given.names[0].given) if given.names else (number,)
    first = given.identifiers[0] if given.identifiers else None
    kinds = [concept(given.relationship), _role(given.role)]
    resource = {
        "identifier": identifiers(*given.identifiers) or [links.own("RelatedPerson", first, given.role, *who)],
        "patient": links.patient(),
        "relationship": kinds,
        "name": [name(each) for each in given.names] or _company(given.organization),
        "telecom": [telecom(each) for each in given.telecom],
        "gender": sex(given.sex),
        "birthDate": given.birth_date,
        "address": [address(each) for each in given.addresses],
        "period": links.period(given.starts_at, given.ends_at),
    }
    return links.finished("RelatedPerson", resource)


def _role(role: str | None) -> Json | None:
    if role == "guarantor":
        return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleClass", "code": "GUAR"}]}
    return {"coding": [{"system": f"{TABLES}0131", "code": ROLES[role]}]} if role in ROLES else words(role)


def _company(given: Organization | None) -> list[Json]:
    return [{"text": given.name}] if given is not None else []


def practitioners(links: Links) -> list[Json]:
    """Return those whom the event tells about."""
    return [practitioner(links, each) for each in links.event.staff]


def practitioner(links: Links, given: Practitioner) -> Json:
    """Return a Practitioner."""
    names = {
        "family": given.family,
        "given": [given.given] if given.given else None,
        "prefix": [given.prefix] if given.prefix else None,
        "suffix": [given.suffix] if given.suffix else None,
    }
    resource = {
        "identifier": _staff_numbers(links, given),
        "active": given.active,
        "name": [names],
        "telecom": [telecom(each) for each in given.telecom],
        "address": [address(each) for each in given.addresses],
    }
    return links.finished("Practitioner", resource)


def _staff_numbers(links: Links, given: Practitioner) -> list[Json]:
    own = identifiers(given.identifier, *given.identifiers)
    return own or [links.own("Practitioner", None, given.family, given.given)]


def practitioner_roles(links: Links) -> list[Json]:
    """Return what those do here whom the event tells about, where it says so."""
    return [_works_as(links, each) for each in links.event.staff if each.role or each.specialty]


def _works_as(links: Links, given: Practitioner) -> Json:
    own = _staff_numbers(links, given)[0]
    who = {"reference": address_of("Practitioner", own)} if links.bundled else links.practitioner(given)
    resource = {
        "identifier": [links.own("PractitionerRole", None, own["system"], own["value"], given.role)],
        "active": given.active,
        "practitioner": who,
        "code": [words(given.role)],
        "specialty": [concept(given.specialty)],
    }
    return links.finished("PractitionerRole", resource)


def coverages(links: Links) -> list[Json]:
    """Return what pays for the patient."""
    return [_coverage(links, each, number) for number, each in enumerate(links.event.coverage, 1)]


def _coverage(links: Links, given: Coverage, number: int) -> Json:
    payer = given.payer or Organization()
    subscriber = _subscriber(links, given)
    resource = {
        "contained": [subscriber],
        "identifier": [
            links.own("Coverage", given.identifier, payer.name, given.group_number, number),
            *identifiers(given.authorization),
        ],
        "status": chosen(given.status, _STATUSES, "active"),
        "type": concept(given.type),
        "subscriber": {"reference": "#subscriber"} if subscriber else None,
        "subscriberId": given.subscriber_id,
        "beneficiary": links.patient(),
        "relationship": concept(given.relationship),
        "period": links.period(given.starts_at, given.ends_at),
        "payor": [links.organization(payer if payer.name or payer.identifier else Organization(name="unknown"))],
        "class": _classes(given),
        "order": given.rank if given.rank and given.rank > 0 else None,
    }
    return links.finished("Coverage", resource)


def _subscriber(links: Links, given: Coverage) -> Json | None:
    said = (given.subscriber_family, given.subscriber_given, given.subscriber_birth_date, given.subscriber_sex)
    if not any(said):
        return None
    family, first, born, gender = said
    return {
        "resourceType": "RelatedPerson",
        "id": "subscriber",
        "patient": links.patient(),
        "name": [{"family": family, "given": [first] if first else None}],
        "gender": sex(gender),
        "birthDate": born,
    }


def _classes(given: Coverage) -> list[Json]:
    system = "http://terminology.hl7.org/CodeSystem/coverage-class"
    found: list[Json] = []
    if given.group_number or given.group_name:
        kind = {"coding": [{"system": system, "code": "group"}]}
        found.append({"type": kind, "value": given.group_number or given.group_name, "name": given.group_name})
    if given.plan is not None and (given.plan.code or given.plan.text):
        kind = {"coding": [{"system": system, "code": "plan"}]}
        found.append({"type": kind, "value": given.plan.code or given.plan.text, "name": given.plan.text})
    return found
