"""This module checks a rendered JSON Patch (RFC 6902) before it leaves."""

import re
from typing import Any, Final

import orjson

from broker.errors import StepError

_WITH_VALUE: Final = frozenset({"add", "replace", "test"})
_WITH_FROM: Final = frozenset({"move", "copy"})
_OPERATIONS: Final = _WITH_VALUE | _WITH_FROM | {"remove"}
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)+")  # RFC 6901; the whole document ("") is never patched


def read_patch(text: str) -> list[dict[str, Any]]:
    """Read a rendered patch; raise `StepError`, with the place and without values, unless it is one."""
    try:
        patch = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = f"fhir: the rendered patch is not JSON (line {error.lineno}, column {error.colno}); see the template"
        raise StepError(message) from None
    if not isinstance(patch, list) or not patch:
        raise StepError("fhir: the rendered patch needs a list of operations, and at least one")
    for number, operation in enumerate(patch):
        wrong = _fault(operation)
        if wrong:
            raise StepError(f"fhir: operation {number + 1} of the patch {wrong}", location=f"[{number}]")
    return patch


def _fault(operation: Any) -> str:
    if not isinstance(operation, dict):
        return "is no object"
    name = operation.get("op")
    if name not in _OPERATIONS:
        return f"needs op: one of {', '.join(sorted(_OPERATIONS))}"
    if not _is_pointer(operation.get("path")):
        return "needs path: a JSON Pointer such as /status"
    if name in _WITH_VALUE and operation.get("value") is None:
        return f"({name}) needs a value that is not null"
    if name in _WITH_FROM and not _is_pointer(operation.get("from")):
        return f"({name}) needs from: a JSON Pointer such as /status"
    return ""


def _is_pointer(value: Any) -> bool:
    return isinstance(value, str) and _POINTER.fullmatch(value) is not None
