"""This module maps CDA R2 care summaries (C-CDA, CCD, IHE) to the canonical event ``summary.received``."""

from dataclasses import replace
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import Element

from broker.canonical.model import (
    Attachment,
    ClinicalDocument,
    Encounter,
    Event,
    Identifier,
    Location,
    Patient,
    Practitioner,
    RelatedPerson,
    Source,
)
from broker.errors import MessageError, StepError
from broker.wire.safe_xml import read_xml
from transforms.cda_types import (
    Narrative,
    addresses,
    attribute,
    concept,
    day,
    each,
    ending,
    find,
    first_identifier,
    identifiers,
    moment,
    names,
    organization,
    practitioner,
    telecom,
    time,
    words,
)
from transforms.fhir_types import main_name
from transforms.map_cda_sections import READERS, map_visit, section_kind
from transforms.map_fhir_people import mobile_of
from transforms.map_patient import choose_record_number, sex_of

_ROOT: Final = "{urn:hl7-org:v3}ClinicalDocument"
_CONFIDENTIAL: Final = frozenset({"R", "V"})
# RoleClass and v3-RoleCode of a participant -> what they are to the patient.
_ROLES: Final = {"NOK": "next-of-kin", "ECON": "emergency", "GUAR": "guarantor"}
_PEOPLE: Final = frozenset({"NOK", "ECON", "PRS", "GUAR", "CAREGIVER", "AGNT", "CON"})
_CLASSES: Final = {"AMB": "O", "EMER": "E", "IMP": "I", "ACUTE": "I", "NONAC": "I", "PRENC": "P"}
_SIGNED: Final = frozenset({"S"})


def read_cda(data: bytes) -> Element:
    """Return the root of a CDA document; raise `MessageError` where the bytes are none (see `read_xml`)."""
    root = read_xml(data)
    if root.tag != _ROOT:
        raise _no_cda()
    return root


def map_cda(root: Element) -> Event:
    """Return the event that a CDA document tells; its narrative stays in the message and is named by its place.

    Sections are known by template or by LOINC code, whichever is there; entries of others are passed over. Raises
    `StepError` with the path where it names no patient, or several.
    """
    targets = each(root, "recordTarget/patientRole")
    if len(targets) != 1:
        said = "names no patient" if not targets else "is about several patients; it must be split into one each"
        _fail("ClinicalDocument.recordTarget", f"the document {said}")
    lists: dict[str, list[Any]] = {}
    attachments, visits = _body(root, lists)
    told = find(root, "componentOf/encompassingEncounter")
    event = Event(
        kind="summary.received",
        source=_source(root),
        patient=_patient(targets[0]),
        occurred_at=moment(find(root, "effectiveTime")),
        encounter=_encounter(told) if told is not None else (visits[-1] if visits else None),
        document=_document(root, attachments),
        related_people=_related(root),
    )
    listed: dict[str, Any] = {field: tuple(found) for field, found in lists.items()}
    return replace(event, **listed)


def _body(root: Element, lists: dict[str, list[Any]]) -> tuple[list[Attachment], list[Encounter]]:
    """Fill in what the sections list; return what is written in the body, and the visits that it tells."""
    attachments, visits = [], []
    unstructured = find(root, "component/nonXMLBody/text")
    if unstructured is not None:
        attachments.append(_unstructured(unstructured))
    for number, section in enumerate(each(root, "component/structuredBody//section"), 1):
        title = words(find(section, "title")) or attribute(find(section, "code"), "displayName")
        if find(section, "text") is not None:
            attachments.append(Attachment(content_type="text/html", title=title, url=f"section[{number}]/text"))
        kind = section_kind(section)
        if kind == "encounters":
            visits += [map_visit(entry) for entry in each(section, "entry/encounter")]
        elif kind is not None:
            narrative = Narrative(section)
            for entry in each(section, "entry"):
                for field, found in READERS[kind](entry, narrative):
                    lists.setdefault(field, []).append(found)
    return attachments, visits


def _unstructured(text: Element) -> Attachment:
    encoded = text.get("representation") == "B64"
    return Attachment(
        content_type=attribute(text, "mediaType"),
        encoding="base64" if encoded else None,
        data="".join((text.text or "").split()) if encoded else words(text),
        url=attribute(find(text, "reference"), "value"),
    )


def _source(root: Element) -> Source:
    device = find(root, "author/assignedAuthor/assignedAuthoringDevice")
    own = find(root, "id")
    number = "^".join(part for part in (attribute(own, "root"), attribute(own, "extension")) if part)
    custodian = find(root, "custodian/assignedCustodian/representedCustodianOrganization")
    return Source(
        application=words(find(device, "softwareName")) or "",
        facility=words(find(custodian, "name")) or "",
        control_id=number,
        message_type="ClinicalDocument",
        version="R2",
    )


def _patient(role: Element) -> Patient:
    person = find(role, "patient")
    told, points, known = names(person), telecom(role), identifiers(role)
    main = main_name(told)
    died = time(find(person, "sdtc:deceasedTime"))
    return Patient(
        mrn=choose_record_number(known),
        identifiers=known,
        names=told,
        family=main.family if main else None,
        given=main.given[0] if main and main.given else None,
        birth_date=day(find(person, "birthTime")),
        sex=_sex(attribute(find(person, "administrativeGenderCode"), "code")),
        telecom=points,
        mobile=mobile_of(points),
        email=next((point.value for point in points if point.system == "email"), None),
        addresses=addresses(role),
        language=_language(person),
        marital_status=attribute(find(person, "maritalStatusCode"), "code"),
        deceased=True if died else _flag(find(person, "sdtc:deceasedInd")),
        deceased_at=died,
        birth_place=_birth_place(find(person, "birthplace/place")),
        multiple_birth=_flag(find(person, "sdtc:multipleBirthInd")),
        race=concept(find(person, "raceCode")),
        ethnicity=concept(find(person, "ethnicGroupCode")),
        religion=attribute(find(person, "religiousAffiliationCode"), "displayName")
        or attribute(find(person, "religiousAffiliationCode"), "code"),
    )


def _sex(code: str | None) -> str | None:
    return "other" if code == "UN" else sex_of(code)  # AdministrativeGender: undifferentiated


def _flag(element: Element | None) -> bool | None:
    return {"true": True, "false": False}.get(attribute(element, "value") or "")


def _language(person: Element | None) -> str | None:
    spoken = each(person, "languageCommunication")
    preferred = [item for item in spoken if attribute(find(item, "preferenceInd"), "value") == "true"]
    chosen = next(iter((*preferred, *spoken)), None)
    return attribute(find(chosen, "languageCode"), "code")


def _birth_place(place: Element | None) -> str | None:
    parts = [words(find(place, f"addr/{part}")) for part in ("city", "state", "country")]
    return ", ".join(part for part in parts if part) or words(find(place, "name"))


def _related(root: Element) -> tuple[RelatedPerson, ...]:
    """Return guardians, and participants who are related to the patient."""
    guardians = [
        _person(item, "guardianPerson", "contact") for item in each(root, "recordTarget/patientRole/patient/guardian")
    ]
    others = [
        _person(item, "associatedPerson", _ROLES.get(item.get("classCode", ""), "contact"))
        for item in each(root, "participant/associatedEntity")
        if item.get("classCode") in _PEOPLE
    ]
    return tuple([person for person in (*guardians, *others) if person.names or person.telecom])


def _person(entity: Element, person: str, role: str) -> RelatedPerson:
    return RelatedPerson(
        identifiers=identifiers(entity),
        names=names(find(entity, person)),
        relationship=concept(find(entity, "code")),
        role=role,
        telecom=telecom(entity),
        addresses=addresses(entity),
    )


def _document(root: Element, attachments: list[Attachment]) -> ClinicalDocument:
    legal = find(root, "legalAuthenticator")
    return ClinicalDocument(
        identifier=first_identifier(root),
        replaces=_replaced(root),
        type=concept(find(root, "code")),
        status="current",
        completion="final" if attribute(find(legal, "signatureCode"), "code") in _SIGNED else None,
        title=words(find(root, "title")),
        created_at=moment(find(root, "effectiveTime")),
        signed_at=moment(find(legal, "time")),
        author=_author(root),
        authenticator=practitioner(find(legal, "assignedEntity")),
        confidentiality=attribute(find(root, "confidentialityCode"), "code"),
        attachments=tuple(attachments),
    )


def _author(root: Element) -> Practitioner | None:
    found = [item for author in each(root, "author/assignedAuthor") if (item := practitioner(author))]
    return next((item for item in found if item.family), found[0] if found else None)


def _replaced(root: Element) -> Identifier | None:
    for related in each(root, "relatedDocument"):
        if related.get("typeCode") == "RPLC":
            return first_identifier(find(related, "parentDocument"))
    return None


def _encounter(told: Element) -> Encounter:
    period, place = find(told, "effectiveTime"), find(told, "location/healthCareFacility")
    people = [
        (item.get("typeCode"), found)
        for item in each(told, "encounterParticipant")
        if (found := practitioner(find(item, "assignedEntity")))
    ]
    code = attribute(find(told, "code"), "code")
    facility = organization(find(place, "serviceProviderOrganization"))
    ward = words(find(place, "location/name"))
    where = Location(facility=facility.name if facility else None, point_of_care=ward)
    return Encounter(
        identifier=first_identifier(told),
        status="finished" if ending(period) else None,
        patient_class=_CLASSES.get(code or ""),
        type=concept(find(told, "code")),
        location=where if where != Location() else None,
        attending=next((found for kind, found in people if kind == "ATND"), None)
        or practitioner(find(told, "responsibleParty/assignedEntity")),
        referring=next((found for kind, found in people if kind == "REF"), None),
        consulting=tuple([found for kind, found in people if kind == "CON"]),
        admitting=next((found for kind, found in people if kind == "ADM"), None),
        admitted_at=moment(period),
        discharged_at=ending(period),
        disposition=attribute(find(told, "dischargeDispositionCode"), "code"),
    )


def _no_cda() -> MessageError:
    return MessageError("the XML is no CDA: its root must be ClinicalDocument of urn:hl7-org:v3", location="/")


def _fail(place: str, what: str) -> NoReturn:
    raise StepError(f"{place}: {what}", step="canonical", location=place)
