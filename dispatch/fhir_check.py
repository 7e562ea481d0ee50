"""This module checks a rendered FHIR resource before it leaves, by the same rules as one that comes in."""

import re
from typing import Any, Final

import orjson

from broker.errors import StepError
from broker.fhir import elements
from broker.fhir.check import check
from broker.fhir.elements import Fault

_TYPE: Final = re.compile(r'"resourceType"\s*:\s*"([A-Z][A-Za-z]+)"')


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
    elements.warm(kind[1] if kind else "Patient")


def faults(resource: dict[str, Any]) -> list[str]:
    """Check a resource as strictly as its receiver may; return what is wrong, without values.

    One text for each fault, ``Patient.birthDate (value: expected a date …)``, at most five.
    """
    return [_said(fault) for fault in check(resource)[:5]]


def _said(fault: Fault) -> str:
    if fault.code == "not-supported":
        return f"{fault.place} (no such resource in FHIR R4)"
    what = f"not {fault.expected}" if fault.code == "code-invalid" else f"{fault.code}: expected {fault.expected}"
    return f"{fault.place} ({what})"
