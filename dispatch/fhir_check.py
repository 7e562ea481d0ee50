"""This module says what is wrong with a FHIR resource, by place and kind of fault and never by value."""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from broker.errors import StepError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPE: Final = re.compile(r'"resourceType"\s*:\s*"([A-Z][A-Za-z]+)"')
# What the models cut off from the value sets of statuses (FHIR R4); elsewhere any code passes.
_REST: Final = {
    "Encounter.status": {"entered-in-error", "unknown"},
    "Observation.status": {"amended", "corrected", "cancelled", "entered-in-error", "unknown"},
    "DiagnosticReport.status": {"amended", "corrected", "appended", "cancelled", "entered-in-error", "unknown"},
}


def read_resource(text: str) -> dict[str, Any]:
    """Read a rendered resource; raise `StepError` unless it is a JSON object with a resource type and without id."""
    try:
        resource = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = (
            f"fhir: the rendered resource is not JSON (line {error.lineno}, column {error.colno}); see the template"
        )
        raise StepError(message) from None
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Z][A-Za-z]{1,60}", kind):
        raise StepError("fhir: the rendered resource needs a resourceType, such as Patient")
    if "id" in resource:
        raise StepError("fhir: the rendered resource has an id, which the server gives; leave it out and use `search`")
    return dict(resource)


def warm(template: str) -> None:
    """Load the FHIR models now, so that the first message does not pay for it."""
    kind = _TYPE.search(template)
    faults({"resourceType": kind[1] if kind else "Patient"})


def faults(resource: dict[str, Any]) -> list[str]:
    """Check a resource against the FHIR model (R4B, which R4 resources fit); return what is wrong, without values.

    One text for each fault, ``Patient.birthDate (value_error)``, at most five.
    """
    from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415 - costs 300 ms, and only where it is used
    from pydantic import ValidationError  # noqa: PLC0415

    kind = str(resource.get("resourceType"))
    try:
        model = get_fhir_model_class(kind)
    except (ValueError, KeyError, ImportError):
        return [f"{kind} (no such resource in FHIR R4)"]
    try:
        checked = model.model_validate(resource)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [f"{_path(kind, fault['loc'])} ({fault['type']})" for fault in found[:5]]
    return list(_bad_codes(kind, checked))[:5]


def _allows(codes: list[str], owner: type, name: str, item: str) -> bool:
    """Tell whether a value set has a code; a list that ends in + is cut off."""
    return item in codes or ("+" in codes and item in _REST.get(f"{owner.__name__}.{name}", {item}))


def _path(kind: str, place: Sequence[int | str]) -> str:
    text = kind
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if _NAME.fullmatch(part) else ".?"
    return text


def _bad_codes(path: str, value: Any) -> "Sequence[str]":
    """List coded elements whose code is not of their required value set; the models do not check that themselves."""
    found: list[str] = []
    for name, model_field in type(value).model_fields.items():
        item = getattr(value, name, None)
        if item is None:
            continue
        extra = model_field.json_schema_extra
        allowed = extra.get("enum_values") if isinstance(extra, dict) else None
        place = f"{path}.{model_field.alias or name}"
        if isinstance(allowed, list) and isinstance(item, str) and not _allows(allowed, type(value), name, item):
            found.append(f"{place} (not one of {', '.join(map(str, allowed))})")
        for index, part in enumerate(item if isinstance(item, list) else [item]):
            if hasattr(type(part), "model_fields"):
                found += _bad_codes(f"{place}[{index}]" if isinstance(item, list) else place, part)
    return found
