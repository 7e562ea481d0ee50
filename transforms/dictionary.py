"""This module asks hl7apy's tables whether a location exists in a version of HL7, for people who write channels."""

from functools import cache
from typing import Any

from broker.wire.er7 import Location


def check_location(location: Location | str, version: str = "2.5.1") -> str | None:
    """Return what is wrong with a location in a version of HL7 v2, or None.

    Z segments are a site's own and pass; so does everything in a version that the tables do not have.
    """
    place = Location.parse(location) if isinstance(location, str) else location
    if place.within is not None and (mistake := check_location(place.within, version)):
        return mistake
    tables = _tables(version)
    if tables is None or place.segment.startswith("Z"):
        return None
    segment = tables.SEGMENTS.get(place.segment)
    if segment is None:
        return f"{place.segment} is no segment of HL7 {version}"
    fields = segment[1]
    if place.field > len(fields):
        what = f"{place.segment}-{place.field}"
        return f"{what} does not exist in HL7 {version}; {place.segment} has {len(fields)} fields"
    if not place.field:
        return None
    return _check_parts(place, fields[place.field - 1][1], version)


def _check_parts(place: Location, field: Any, version: str) -> str | None:
    """Check component and subcomponent against ``(kind, parts or None, type, …)`` of hl7apy."""
    name, parts = f"{place.segment}-{place.field}", _parts(field)
    if parts is None:
        return None
    if place.component > max(len(parts), 1):
        return f"{name}.{place.component} does not exist in HL7 {version}; {name} {_has(field, parts, 'component')}"
    if place.subcomponent and parts:
        component = parts[max(place.component, 1) - 1][1]
        name += f".{place.component}"
        below = _parts(component)
        if below is not None and place.subcomponent > max(len(below), 1):
            found = f"{name}.{place.subcomponent}"
            return f"{found} does not exist in HL7 {version}; {name} {_has(component, below, 'subcomponent')}"
    return None


def _parts(element: Any) -> Any:
    """Return the parts of a field or component: none for a simple type, None where anything may stand."""
    kind, parts, datatype = element[0], element[1], element[2]
    if datatype == "varies":
        return None
    return parts if kind == "sequence" else ()


def _has(element: Any, parts: Any, word: str) -> str:
    if not parts:
        return f"({element[2]}) is not divided"
    return f"({element[2]}) has {len(parts)} {word}s"


@cache
def _tables(version: str) -> Any:
    """Load the tables of one version alone; hl7apy as a whole takes half a second."""
    import importlib  # noqa: PLC0415 - used by `check` alone

    try:
        return importlib.import_module(f"hl7apy.v{version.replace('.', '_')}")
    except ImportError:
        return None
