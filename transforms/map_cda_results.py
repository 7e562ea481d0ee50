"""This module maps results and vital signs of a CDA document."""

from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element

from broker.canonical.model import Concept, Observation, Practitioner, Result
from transforms.cda_types import (
    Narrative,
    attribute,
    concept,
    each,
    find,
    first_identifier,
    moment,
    practitioner,
    quantity,
    span,
    time,
    type_of,
    words,
)

Found = Iterator[tuple[str, Any]]  # field of the event, item of its list

_RESULTS: Final = {"completed": "final", "active": "preliminary", "aborted": "cancelled", "cancelled": "cancelled"}


def author_of(element: Element | None) -> Practitioner | None:
    """Return who wrote an entry."""
    return practitioner(find(element, "author/assignedAuthor"))


def authored(element: Element | None) -> str | None:
    """Return when an entry was written."""
    return time(find(element, "author/time"))


def results(entry: Element, narrative: Narrative) -> Found:
    """Give the batteries of an entry as results, and what stands alone as observations."""
    for organizer in each(entry, "organizer"):
        observations = [_observation(item, narrative) for item in each(organizer, "component/observation")]
        period = find(organizer, "effectiveTime")
        yield (
            "results",
            Result(
                identifier=first_identifier(organizer),
                code=concept(find(organizer, "code"), narrative),
                status=_RESULTS.get(attribute(find(organizer, "statusCode"), "code") or ""),
                category="LAB",
                observed_at=moment(period)
                or next((item.observed_at for item in observations if item.observed_at), None),
                observations=tuple(observations),
            ),
        )
    for observation in each(entry, "observation"):
        yield "observations", _observation(observation, narrative, "laboratory")


def vitals(entry: Element, narrative: Narrative) -> Found:
    """Give the vital signs of an entry, each as observation."""
    for observation in (*each(entry, "organizer/component/observation"), *each(entry, "observation")):
        yield "observations", _observation(observation, narrative, "vital-signs")


def _observation(element: Element, narrative: Narrative, category: str | None = None) -> Observation:
    value, kind, unit, coded = _value(find(element, "value"), narrative)
    bounds = find(element, "referenceRange/observationRange")
    return Observation(
        code=concept(find(element, "code"), narrative),
        identifier=first_identifier(element),
        value=value,
        value_type=kind if value else None,
        concept=coded,
        unit=unit,
        reference_range=words(find(bounds, "text")) or span(find(bounds, "value"))[0],
        interpretation=attribute(find(element, "interpretationCode"), "code"),
        status=_RESULTS.get(attribute(find(element, "statusCode"), "code") or ""),
        category=category,
        observed_at=moment(find(element, "effectiveTime")),
        method=concept(find(element, "methodCode"), narrative),
        body_site=concept(find(element, "targetSiteCode"), narrative),
        performer=practitioner(find(element, "performer/assignedEntity")) or author_of(element),
    )


Value = tuple[str | None, str | None, str | None, Concept | None]  # text, type, unit, code


def _value(element: Element | None, narrative: Narrative) -> Value:
    """Return a value by the type that it declares; one without a type shows it by what it has."""
    if element is None:
        return None, None, None, None
    kind = type_of(element)
    if kind in _CODED or (not kind and element.get("code")):
        coded = concept(element, narrative)
        return (coded.text or coded.code if coded else None), "concept", None, coded
    if kind in _PLAIN:
        return _PLAIN[kind](element)
    number, unit = quantity(element)
    if number is not None:
        return number, "quantity", unit, None
    return words(element) or narrative.at(attribute(find(element, "reference"), "value")), "string", None, None


def _range(element: Element) -> Value:
    text, unit = span(element)
    return text, "range", unit, None


_CODED: Final = frozenset({"CD", "CE", "CV", "CO", "CS"})
_PLAIN: Final[dict[str, Callable[[Element], Value]]] = {
    "IVL_PQ": _range,
    "TS": lambda element: (moment(element), "datetime", None, None),
    "IVL_TS": lambda element: (moment(element), "datetime", None, None),
    "BL": lambda element: (attribute(element, "value"), "boolean", None, None),
}
