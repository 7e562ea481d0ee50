"""This module writes what was found as FHIR R4: Observation and DiagnosticReport."""

from collections.abc import Iterable
from datetime import time
from typing import Any, Final

from broker.canonical.model import Attachment, Observation, ObservationPart, Result
from transforms.times import fhir_date
from transforms.to_fhir_links import Links, address_of
from transforms.to_fhir_types import (
    UNKNOWN,
    Json,
    attachment,
    chosen,
    concept,
    fhir_code,
    identifiers,
    notes,
    quantity,
    table_code,
    words,
)

_OBSERVATION_STATUSES: Final = frozenset(
    {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error"}
)
_REPORT_STATUSES: Final = _OBSERVATION_STATUSES | {"partial", "appended"}


def observations(links: Links) -> list[Json]:
    """Return what was observed, whether below a report, a vaccination or neither."""
    event = links.event
    found = [_observation(links, each, number) for number, each in enumerate(event.observations)]
    for shot in event.immunizations:
        found += [_observation(links, each, number, "shot") for number, each in enumerate(shot.observations)]
    for report in event.results:
        found += _parts_of(links, report)
    return found


def _parts_of(links: Links, report: Result) -> list[Json]:
    return [_observation(links, each, *key) for each, key in _keyed(report)]


def _keyed(report: Result) -> Iterable[tuple[Observation, tuple[Any, ...]]]:
    of = (report.identifier or report.order, report.code and report.code.code)
    for number, each in enumerate(report.observations):
        yield each, (number, *of)


def _observation(links: Links, given: Observation, *key: Any) -> Json:
    value = _value(links, given)
    performer = links.practitioner(given.performer)
    resource = {
        "identifier": [_own_observation(links, given, key)],
        "status": chosen(given.status, _OBSERVATION_STATUSES, "unknown"),
        "category": [fhir_code("observation-category", given.category)],
        "code": concept(given.code) or UNKNOWN,
        "subject": links.patient(),
        "encounter": links.encounter(),
        "effectiveDateTime": links.moment(given.observed_at),
        "performer": [performer, links.organization(given.performing_organization)],
        **value,
        "dataAbsentReason": None if value or given.components else _absent(given),
        "interpretation": [_interpretation(given.interpretation)],
        "note": notes(given.notes),
        "bodySite": concept(given.body_site),
        "method": concept(given.method),
        "referenceRange": [{"text": given.reference_range}] if given.reference_range else None,
        "component": [_component(links, each) for each in given.components],
    }
    return links.finished("Observation", resource)


def _component(links: Links, given: ObservationPart) -> Json:
    return {
        "code": concept(given.code) or UNKNOWN,
        **_value(links, given),
        "interpretation": [_interpretation(given.interpretation)],
        "referenceRange": [{"text": given.reference_range}] if given.reference_range else None,
    }


def _interpretation(code: str | None) -> Json | None:
    return fhir_code("v3-ObservationInterpretation", " ".join(code.split())) if code else None


def _absent(given: Observation) -> Json | None:
    if given.attachment is not None:
        return fhir_code("data-absent-reason", "unsupported")  # the file goes with the report
    return words(given.absent)


def _value(links: Links, given: Observation | ObservationPart) -> Json:
    if given.concept is not None:
        return {"valueCodeableConcept": concept(given.concept)}
    text = (given.value or "").strip()
    if not text:
        return {}
    typed = _typed(links, given.value_type or "", text, given)
    return typed or {"valueString": " ".join(part for part in (given.comparator, text, given.unit) if part)}


def _typed(links: Links, kind: str, text: str, given: Observation | ObservationPart) -> Json | None:
    """Return a value as its type has it, or None where the text does not fit that."""
    if kind == "quantity":
        found = quantity(text, given.unit, given.comparator)
        return {"valueQuantity": found} if found else None
    if kind == "datetime":
        return {"valueDateTime": links.moment(text)} if fhir_date(text[:10]) else None
    if kind == "time":
        clock = _clock(text)
        return {"valueTime": clock} if clock else None
    if kind == "boolean" and text.lower() in {"true", "false"}:
        return {"valueBoolean": text.lower() == "true"}
    return _pair(kind, text, given.unit)


def _pair(kind: str, text: str, unit: str | None) -> Json | None:
    between = {"range": "-", "ratio": ":"}.get(kind)
    if between is None:
        return None
    first, found, second = text.partition(between)
    low, high = quantity(first, unit), quantity(second, unit)
    if not found or (first.strip() and low is None) or (second.strip() and high is None) or not (low or high):
        return None
    if kind == "range":
        return {"valueRange": {"low": low, "high": high}}
    return {"valueRatio": {"numerator": low, "denominator": high}} if low and high else None


def _clock(text: str) -> str | None:
    try:
        found = time.fromisoformat(text if ":" in text else text[:6])
    except ValueError:
        return None
    return found.replace(tzinfo=None).isoformat()


def reports(links: Links) -> list[Json]:
    """Return the reports of the event; what they hold goes along inside, or in a Bundle beside them."""
    return [_report(links, each) for each in links.event.results]


def _report(links: Links, given: Result) -> Json:
    inside = [] if links.bundled else _contained(links, given)
    parts = [{"reference": f"#{each['id']}"} for each in inside]
    if links.bundled:
        own = [_own_observation(links, each, key) for each, key in _keyed(given)]
        parts = [{"reference": address_of("Observation", each)} for each in own]
    conclusion = "\n".join(filter(None, (given.conclusion, *given.notes)))
    resource = {
        "contained": inside,
        "identifier": identifiers(given.identifier)
        or [links.own("DiagnosticReport", None, given.order, given.code and given.code.code, given.observed_at)],
        "basedOn": links.order(given.order),
        "status": chosen(given.status, _REPORT_STATUSES, "unknown"),
        "category": [table_code("0074", given.category)],
        "code": concept(given.code) or UNKNOWN,
        "subject": links.patient(),
        "encounter": links.encounter(),
        "effectiveDateTime": links.moment(given.observed_at),
        "issued": links.instant(given.issued_at),
        "resultsInterpreter": [links.practitioner(given.interpreter)],
        "specimen": [{"type": "Specimen", "display": given.specimen.text or given.specimen.code}]
        if given.specimen
        else None,
        "result": parts,
        "conclusion": conclusion,
        "presentedForm": [attachment(each) for each in _files(given)],
    }
    return links.finished("DiagnosticReport", resource)


def _own_observation(links: Links, given: Observation, key: tuple[Any, ...]) -> Json:
    code = given.code
    said = (given.sub_id, given.observed_at, code and code.code, code and code.text)
    return links.own("Observation", given.identifier, *said, *key)


def _contained(links: Links, given: Result) -> list[Json]:
    found = _parts_of(links, given)
    for number, each in enumerate(found, 1):
        each["id"] = f"o{number}"
        for name in ("subject", "encounter", *([] if given.observations[number - 1].identifier else ["identifier"])):
            each.pop(name, None)  # the report says it
    return found


def _files(given: Result) -> list[Attachment]:
    return [*given.attachments, *(each.attachment for each in given.observations if each.attachment is not None)]
