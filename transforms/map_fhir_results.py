"""This module maps FHIR Observation and DiagnosticReport to the canonical model."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from broker.canonical.model import Concept, Observation, ObservationPart, Practitioner, Result
from transforms.fhir_pool import Reader
from transforms.fhir_types import (
    Node,
    attachments,
    code,
    codes,
    concept,
    concepts,
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
    worded,
)

_MOST: Final = 10_000  # observations of one report


class Value(NamedTuple):
    """The value of an observation, or of a part of one."""

    value: str | None = None
    value_type: str | None = None
    concept: Concept | None = None
    comparator: str | None = None
    unit: str | None = None


def read_value(parent: Node) -> Value:
    """Return ``value[x]``, whichever of its eleven types it has."""
    for element, read in _VALUES.items():
        if element in parent and (found := read(parent, element)):
            return found
    return Value()


def _quantity(parent: Node, element: str) -> Value:
    told = node(parent, element)
    value, unit = quantity(told)
    return Value(value, "quantity", None, text(told, "comparator"), unit)


def _concept(parent: Node, element: str) -> Value:
    found = concept(node(parent, element))
    return Value(worded(found), "concept", found)


def _integer(parent: Node, element: str) -> Value:
    return Value(number(parent, element), "quantity")


def _boolean(parent: Node, element: str) -> Value:
    said = flag(parent, element)
    return Value(None if said is None else str(said).lower(), "boolean")


def _range(parent: Node, element: str) -> Value:
    told = node(parent, element)
    unit = quantity(node(told, "low"))[1] or quantity(node(told, "high"))[1]
    return Value(span(told), "range", unit=unit)


def _ratio(parent: Node, element: str) -> Value:
    above, below = node(node(parent, element), "numerator"), node(node(parent, element), "denominator")
    value = ":".join(part for part in (quantity(above)[0], quantity(below)[0]) if part)
    unit = "/".join(part for part in (quantity(above)[1], quantity(below)[1]) if part)
    return Value(value or None, "ratio", comparator=text(above, "comparator"), unit=unit or None)


def _sampled(parent: Node, element: str) -> Value:
    told = node(parent, element)
    return Value(text(told, "data"), "string", unit=quantity(node(told, "origin"))[1])


def _period(parent: Node, element: str) -> Value:
    told = node(parent, element)
    begins, ends = text(told, "start"), text(told, "end")
    return Value(f"{begins or ''}/{ends or ''}" if begins or ends else None, "datetime")


def _plain(kind: str) -> Callable[[Node, str], Value]:
    return lambda parent, element: Value(text(parent, element), kind)


_VALUES: Final[dict[str, Callable[[Node, str], Value]]] = {
    "valueQuantity": _quantity,
    "valueCodeableConcept": _concept,
    "valueString": _plain("string"),
    "valueBoolean": _boolean,
    "valueInteger": _integer,
    "valueRange": _range,
    "valueRatio": _ratio,
    "valueSampledData": _sampled,
    "valueTime": _plain("time"),
    "valueDateTime": _plain("datetime"),
    "valuePeriod": _period,
}


def map_observation(reader: Reader, observation: Node) -> Observation:
    """Return an Observation with its components."""
    value = read_value(observation)
    return Observation(
        code=concept(node(observation, "code")),
        identifier=first_identifier(observation) or reader.named(observation),
        value=value.value,
        value_type=value.value_type,
        concept=value.concept,
        comparator=value.comparator,
        unit=value.unit,
        reference_range=_reference_range(observation),
        interpretation=code(node(observation, "interpretation")),
        status=text(observation, "status"),
        category=next(iter(codes(observation, "category")), None),
        observed_at=moment(observation, "effective"),
        method=concept(node(observation, "method")),
        body_site=concept(node(observation, "bodySite")),
        absent=_absent(observation),
        performer=first_person(reader, observation, "performer"),
        components=tuple([_component(each) for each in nodes(observation, "component")]),
        notes=notes(observation),
    )


def _component(component: Node) -> ObservationPart:
    value = read_value(component)
    return ObservationPart(
        code=concept(node(component, "code")),
        value=value.value,
        value_type=value.value_type,
        concept=value.concept,
        comparator=value.comparator,
        unit=value.unit,
        interpretation=code(node(component, "interpretation")),
        reference_range=_reference_range(component),
    )


def _reference_range(parent: Node) -> str | None:
    told = node(parent, "referenceRange")
    return text(told, "text") or span(told)


def _absent(observation: Node) -> str | None:
    why = node(observation, "dataAbsentReason")
    return code(why) or text(why, "text")


def first_person(reader: Reader, resource: Node, name: str) -> Practitioner | None:
    """Return the first person in a list of References."""
    return next((found for each in nodes(resource, name) if (found := reader.practitioner(each))), None)


def map_report(reader: Reader, report: Node) -> Result:
    """Return a DiagnosticReport with the observations that came along, those of panels included."""
    order = next(iter(nodes(report, "basedOn")), None)
    asked = reader.find(order).resource if order else {}
    return Result(
        identifier=first_identifier(report, "FILL") or first_identifier(report) or reader.named(report),
        order=(first_identifier(asked, "PLAC") or reader.identifier(order)) if order else None,
        code=concept(node(report, "code")),
        status=text(report, "status"),
        category=_category(report),
        observed_at=moment(report, "effective"),
        issued_at=text(report, "issued"),
        orderer=reader.of(asked).practitioner(node(asked, "requester")) if asked else None,
        interpreter=first_person(reader, report, "resultsInterpreter") or first_person(reader, report, "performer"),
        specimen=_specimen(reader, report),
        observations=tuple([map_observation(reader.of(each), each) for each in reported(reader, report)]),
        conclusion=text(report, "conclusion") or _concluded(report),
        attachments=attachments(report, "presentedForm"),
    )


def reported(reader: Reader, report: Node) -> Iterator[Node]:
    """Give the Observations of a report that came along, members of panels after their panel, each once."""
    seen: set[int] = set()
    waiting = deque((reader, each) for each in reader.each(report, "result"))
    while waiting and len(seen) < _MOST:
        below, observation = waiting.popleft()
        if id(observation) in seen or observation.get("resourceType") != "Observation":
            continue
        seen.add(id(observation))
        yield observation
        inner = below.of(observation)
        waiting.extendleft(reversed([(inner, each) for each in inner.each(observation, "hasMember")]))


def _category(report: Node) -> str | None:
    told = nodes(report, "category")
    department = next((found for each in told if (found := code(each, "v2-0074"))), None)
    return department or next((found for each in told if (found := code(each))), None)


def _specimen(reader: Reader, resource: Node) -> Concept | None:
    return next((found for each in reader.each(resource, "specimen") if (found := concept(node(each, "type")))), None)


def _concluded(report: Node) -> str | None:
    words = [worded(each) for each in concepts(report, "conclusionCode")]
    return "; ".join(each for each in words if each) or None
