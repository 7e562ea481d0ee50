"""This module maps the sections of a CDA document: problems, allergies, medications, immunizations, results, visits."""

from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from broker.canonical.model import (
    Allergy,
    Concept,
    Condition,
    Encounter,
    Immunization,
    Medication,
)
from transforms.cda_types import (
    Narrative,
    attribute,
    concept,
    day,
    each,
    ending,
    find,
    first_identifier,
    moment,
    organization,
    practitioner,
    quantity,
    span,
    words,
)
from transforms.map_cda_results import Found, author_of, authored, results, vitals

# LOINC code of a section -> what it lists.
_BY_CODE: Final = {
    "11450-4": "problems", "11348-0": "problems", "46241-6": "problems", "11535-2": "problems", "48765-2": "allergies",
    "10160-0": "medications", "29549-3": "medications", "10183-2": "medications", "42346-7": "medications",
    "75311-1": "medications", "11369-6": "immunizations", "30954-2": "results", "8716-3": "vitals",
    "46240-8": "encounters",
}  # fmt: skip
# Template of a section (C-CDA, with and without required entries; CCD; IHE PCC) -> what it lists.
_BY_TEMPLATE: Final = {
    "2.16.840.1.113883.10.20.22.2.5": "problems", "2.16.840.1.113883.10.20.22.2.5.1": "problems",
    "2.16.840.1.113883.10.20.22.2.20": "problems", "2.16.840.1.113883.10.20.1.11": "problems",
    "1.3.6.1.4.1.19376.1.5.3.1.3.6": "problems",
    "2.16.840.1.113883.10.20.22.2.6": "allergies", "2.16.840.1.113883.10.20.22.2.6.1": "allergies",
    "2.16.840.1.113883.10.20.1.2": "allergies", "1.3.6.1.4.1.19376.1.5.3.1.3.13": "allergies",
    "2.16.840.1.113883.10.20.22.2.1": "medications", "2.16.840.1.113883.10.20.22.2.1.1": "medications",
    "2.16.840.1.113883.10.20.22.2.38": "medications", "2.16.840.1.113883.10.20.22.2.11": "medications",
    "2.16.840.1.113883.10.20.22.2.11.1": "medications", "2.16.840.1.113883.10.20.22.2.44": "medications",
    "2.16.840.1.113883.10.20.1.8": "medications", "1.3.6.1.4.1.19376.1.5.3.1.3.19": "medications",
    "2.16.840.1.113883.10.20.22.2.2": "immunizations", "2.16.840.1.113883.10.20.22.2.2.1": "immunizations",
    "2.16.840.1.113883.10.20.1.6": "immunizations", "1.3.6.1.4.1.19376.1.5.3.1.3.23": "immunizations",
    "2.16.840.1.113883.10.20.22.2.3": "results", "2.16.840.1.113883.10.20.22.2.3.1": "results",
    "2.16.840.1.113883.10.20.1.14": "results", "1.3.6.1.4.1.19376.1.5.3.1.3.27": "results",
    "1.3.6.1.4.1.19376.1.5.3.1.3.28": "results",
    "2.16.840.1.113883.10.20.22.2.4": "vitals", "2.16.840.1.113883.10.20.22.2.4.1": "vitals",
    "2.16.840.1.113883.10.20.1.16": "vitals", "1.3.6.1.4.1.19376.1.5.3.1.3.25": "vitals",
    "2.16.840.1.113883.10.20.22.2.22": "encounters", "2.16.840.1.113883.10.20.22.2.22.1": "encounters",
    "2.16.840.1.113883.10.20.1.3": "encounters",
}  # fmt: skip
_STATUS, _SEVERITY, _CRITICALITY = "33999-4", "SEV", "82606-5"
# SNOMED CT -> FHIR.
_CLINICAL: Final = {
    "55561003": "active", "73425007": "inactive", "413322009": "resolved", "246455001": "recurrence",
    "277022003": "remission",
}  # fmt: skip
_SEVERITIES: Final = {
    "255604002": "mild", "371923003": "moderate", "6736007": "moderate", "371924009": "severe", "24484000": "severe",
    "399166001": "severe", "L": "mild", "M": "moderate", "H": "severe",
}  # fmt: skip
_CRITICALITIES: Final = {"CRITL": "low", "CRITH": "high", "CRITU": "unable-to-assess"}
# What kind of allergy SNOMED CT says it is -> type and category of FHIR.
_ALLERGIES: Final = {
    "419199007": ("allergy", None), "416098002": ("allergy", "medication"), "414285001": ("allergy", "food"),
    "426232007": ("allergy", "environment"), "59037007": ("intolerance", "medication"),
    "235719002": ("intolerance", "food"), "419511003": (None, "medication"), "418471000": (None, "food"),
}  # fmt: skip
_COURSES: Final = {
    "active": "active", "completed": "completed", "suspended": "on-hold", "aborted": "stopped",
    "cancelled": "cancelled", "nullified": "entered-in-error", "held": "on-hold",
}  # fmt: skip
_CLASSES: Final = {"AMB": "O", "EMER": "E", "IMP": "I", "ACUTE": "I", "NONAC": "I"}


def section_kind(section: Element) -> str | None:
    """Return what a section lists, by its templates, else by its LOINC code; None for any other section."""
    for template in each(section, "templateId"):
        if known := _BY_TEMPLATE.get(template.get("root", "")):
            return known
    return _BY_CODE.get(attribute(find(section, "code"), "code") or "")


def _problems(entry: Element, narrative: Narrative) -> Found:
    concern = find(entry, "act")
    for observation in (*each(entry, "act/entryRelationship/observation"), *each(entry, "observation")):
        value = find(observation, "value")
        problem = concept(value, narrative) or concept(find(observation, "value/translation"), narrative)
        said = problem or _said(observation, narrative)
        if said is None:
            continue
        period = find(observation, "effectiveTime")
        yield (
            "conditions",
            Condition(
                code=said,
                identifier=first_identifier(observation) or first_identifier(concern),
                category="problem-list-item",
                clinical_status=_clinical(observation, concern),
                verification_status="refuted" if _negated(observation) else "confirmed",
                severity=_valued(observation, _SEVERITY),
                onset_at=moment(period),
                abated_at=ending(period),
                recorded_at=authored(observation) or authored(concern),
                asserter=author_of(observation) or author_of(concern),
            ),
        )


def _clinical(observation: Element, concern: Element | None) -> str | None:
    """Return whether a problem or allergy is still there: as its status says, by its end, by its concern."""
    told = _valued(observation, _STATUS)
    if told is not None and (known := _CLINICAL.get(told.code or "")):
        return known
    if ending(find(observation, "effectiveTime")):
        return "resolved"
    state = attribute(find(concern, "statusCode"), "code")
    return {"active": "active", "suspended": "inactive", "completed": "resolved", "aborted": "inactive"}.get(
        state or ""
    )


def _allergies(entry: Element, narrative: Narrative) -> Found:
    concern = find(entry, "act")
    for observation in (*each(entry, "act/entryRelationship/observation"), *each(entry, "observation")):
        form = attribute(find(observation, "value"), "code")
        kind, category = _ALLERGIES.get(form or "", (None, None))
        substance = _substance(observation, narrative) or _said(observation, narrative)
        reactions = [item for item in _related(observation) if _is_reaction(item)]
        criticality = _valued(observation, _CRITICALITY)
        yield (
            "allergies",
            Allergy(
                code=substance or concept(find(observation, "value"), narrative),
                identifier=first_identifier(observation) or first_identifier(concern),
                type=kind,
                category=category,
                criticality=_CRITICALITIES.get(criticality.code or "") if criticality else None,
                severity=_severity(observation, reactions),
                reactions=tuple([sign for item in reactions if (sign := concept(find(item, "value"), narrative))]),
                clinical_status=_clinical(observation, concern),
                verification_status="refuted" if _negated(observation) else "confirmed",
                onset_at=moment(find(observation, "effectiveTime")),
                recorded_at=authored(observation) or authored(concern),
            ),
        )


def _substance(observation: Element, narrative: Narrative) -> Concept | None:
    entity = find(observation, "participant/participantRole/playingEntity")
    found = concept(find(entity, "code"), narrative)
    called = words(find(entity, "name"))
    return found or (Concept(text=called) if called else None)


def _is_reaction(observation: Element) -> bool:
    codes = {item.get("root") for item in each(observation, "templateId")}
    return attribute(find(observation, "code"), "code") not in {_STATUS, _SEVERITY, _CRITICALITY} and (
        "2.16.840.1.113883.10.20.22.4.9" in codes or find(observation, "value") is not None
    )


def _severity(observation: Element, reactions: list[Element]) -> str | None:
    """Return the worst severity that an allergy or its reactions say."""
    told = [_valued(item, _SEVERITY) for item in (observation, *reactions)]
    found = {_SEVERITIES.get(item.code or "") for item in told if item}
    return next((each for each in ("severe", "moderate", "mild") if each in found), None)


def _related(element: Element) -> list[Element]:
    return each(element, "entryRelationship/observation")


def _valued(element: Element, code: str) -> Concept | None:
    """Return the coded value of the observation of this code that belongs to an element."""
    for item in _related(element):
        if attribute(find(item, "code"), "code") == code:
            return concept(find(item, "value"))
    return None


def _medications(entry: Element, narrative: Narrative) -> Found:
    for given in each(entry, "substanceAdministration"):
        medicine = _medicine(given, narrative)
        if medicine is None:
            continue
        dose, unit = quantity(find(given, "doseQuantity"))
        supply = find(given, "entryRelationship/supply")
        amount, amount_unit = quantity(find(supply, "quantity"))
        begins, ends = _course(given)
        request = given.get("moodCode") in {"INT", "RQO"}
        yield (
            "medications",
            Medication(
                code=medicine,
                identifier=first_identifier(given),
                kind="request" if request else "statement",
                status=_state(given),
                intent="order" if request else None,
                dosage=narrative.of(given),
                dose=dose or span(find(given, "doseQuantity"))[0],
                dose_unit=unit or span(find(given, "doseQuantity"))[1],
                frequency=_frequency(given),
                route=concept(find(given, "routeCode"), narrative),
                form=concept(find(given, "administrationUnitCode"), narrative),
                quantity=amount,
                quantity_unit=amount_unit,
                refills=_refills(supply),
                prescribed_at=authored(given),
                starts_at=begins,
                ends_at=ends,
                prescriber=author_of(given),
            ),
        )


def _medicine(given: Element, narrative: Narrative) -> Concept | None:
    material = find(given, "consumable/manufacturedProduct/manufacturedMaterial")
    called = words(find(material, "name"))
    return concept(find(material, "code"), narrative) or (Concept(text=called) if called else None)


def _state(given: Element) -> str | None:
    return "not-taken" if _negated(given) else _COURSES.get(attribute(find(given, "statusCode"), "code") or "")


def _refills(supply: Element | None) -> int | None:
    """Return how often it is handed out again; CDA counts the first time too."""
    times = attribute(find(supply, "repeatNumber"), "value") or ""
    return max(int(times) - 1, 0) if times.isdecimal() and len(times) < 4 else None  # noqa: PLR2004 - a thousand


def _course(given: Element) -> tuple[str | None, str | None]:
    """Return since when and until when it is taken: the time that has a begin or an end, or is one."""
    for period in each(given, "effectiveTime"):
        begins, ends = moment(period), ending(period)
        if begins or ends:
            return begins, ends
    return None, None


def _frequency(given: Element) -> str | None:
    for timing in each(given, "effectiveTime"):
        value, unit = quantity(find(timing, "period"))
        if value:
            return f"every {value} {unit or ''}".strip()
        if event := attribute(find(timing, "event"), "code"):
            return event
    return None


def _immunizations(entry: Element, narrative: Narrative) -> Found:
    for given in each(entry, "substanceAdministration"):
        product = find(given, "consumable/manufacturedProduct")
        vaccine = _medicine(given, narrative)
        if vaccine is None:
            continue
        dose, unit = quantity(find(given, "doseQuantity"))
        refused = _negated(given)
        yield (
            "immunizations",
            Immunization(
                code=vaccine,
                identifier=first_identifier(given),
                status="not-done" if refused else "completed",
                reason=_why(given, narrative) if refused else None,
                occurred_at=_course(given)[0],
                recorded_at=authored(given),
                lot=words(find(product, "manufacturedMaterial/lotNumberText")),
                manufacturer=organization(find(product, "manufacturerOrganization")),
                expires_on=day(find(product, "manufacturedMaterial/expirationTime")),
                dose=dose,
                dose_unit=unit,
                route=concept(find(given, "routeCode"), narrative),
                site=concept(find(given, "approachSiteCode"), narrative),
                performer=practitioner(find(given, "performer/assignedEntity")) or author_of(given),
            ),
        )


def _why(given: Element, narrative: Narrative) -> Concept | None:
    for relation in each(given, "entryRelationship"):
        if relation.get("typeCode") == "RSON":
            return concept(find(relation, "observation/code"), narrative)
    return None


def map_visit(element: Element) -> Encounter:
    """Return an encounter that a section tells."""
    period, code = find(element, "effectiveTime"), find(element, "code")
    classes = [attribute(item, "code") or "" for item in (code, *each(code, "translation"))]
    return Encounter(
        identifier=first_identifier(element),
        status="finished" if ending(period) or attribute(find(element, "statusCode"), "code") == "completed" else None,
        patient_class=next((_CLASSES[item] for item in classes if item in _CLASSES), None),
        type=concept(code),
        attending=practitioner(find(element, "performer/assignedEntity")),
        admitted_at=moment(period),
        discharged_at=ending(period),
        disposition=attribute(find(element, "sdtc:dischargeDispositionCode"), "code"),
    )


def _negated(element: Element) -> bool:
    return element.get("negationInd") == "true"


def _said(observation: Element, narrative: Narrative) -> Concept | None:
    """Return what an entry without code says in the narrative."""
    said = narrative.of(observation)
    return Concept(text=said) if said else None


READERS: Final[dict[str, Callable[[Element, Narrative], Found]]] = {
    "problems": _problems,
    "allergies": _allergies,
    "medications": _medications,
    "immunizations": _immunizations,
    "results": results,
    "vitals": vitals,
}
