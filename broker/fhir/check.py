"""This module reads a FHIR R4 resource out of bytes and says what is wrong with one, by place and never by value."""

from collections.abc import Iterator
from typing import Any, Final

from broker.errors import MessageError
from broker.fhir.elements import Fault, check_resource, is_resource
from broker.wire.strict_json import LARGEST, read_json

Resource = dict[str, Any]

_SHOWN: Final = 20  # faults in one text
# FHIR issue-type -> HL7 table 0357, for those who answer in HL7.
_CONDITIONS: Final = {"required": 101, "structure": 102, "value": 102, "code-invalid": 103, "not-supported": 200}
_WRITING: Final = frozenset({"transaction", "batch"})
_NAMING: Final = frozenset({"PUT", "PATCH", "DELETE"})


class ResourceError(MessageError):
    """The bytes are JSON and no FHIR R4 resource; ``faults`` holds all that is wrong, warnings included."""

    def __init__(self, faults: list[Fault]) -> None:
        errors = [fault for fault in faults if fault.error]
        first = errors[0]
        kind = first.place.partition(".")[0]
        more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        listed = "; ".join(described(fault) for fault in errors[:_SHOWN])
        text = f"not a valid FHIR R4 {kind}: {listed}{more}"
        super().__init__(text, location=first.place, condition=_CONDITIONS.get(first.code, 207))
        self.faults = tuple(faults)


def read_resource(data: bytes, *, largest: int = LARGEST) -> Resource:
    """Return the resource that the bytes hold, as it was sent, checked against FHIR R4.

    Raises `MessageError` where they hold no strict JSON, and `ResourceError` with every fault at once where that is no
    resource. What is doubtful and plain passes (`Fault.error`); extensions and unknown profiles are left alone.
    """
    value = read_json(data, largest=largest)
    found = check(value)
    if any(fault.error for fault in found):
        raise ResourceError(found)
    resource: Resource = value
    return resource


def check(resource: Any) -> list[Fault]:
    """Return everything that is wrong with a resource; places begin with its type: ``Patient.contact[0].name``."""
    kind = _kind(resource)
    found = [
        Fault(f"{kind}{fault.place}", fault.code, fault.expected, fault.error)
        for fault in check_resource(resource) or ()
    ]
    if kind == "Bundle" and not any(fault.error for fault in found):
        found += _bundle(resource)
    return found


def described(fault: Fault) -> str:
    """Return a fault in words: ``Patient.gender (code-invalid): expected one of male, …``."""
    return f"{fault.place} ({fault.code}): expected {fault.expected}"


def operation_outcome(faults: tuple[Fault, ...] | list[Fault]) -> Resource:
    """Return faults as FHIR's own answer, an OperationOutcome."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error" if fault.error else "warning",
                "code": fault.code if fault.code != "not-supported" or fault.error else "informational",
                "diagnostics": f"expected {fault.expected}",
                "expression": [fault.place],
            }
            for fault in faults
        ],
    }


def _kind(resource: Any) -> str:
    kind = resource.get("resourceType") if type(resource) is dict else None
    return kind if type(kind) is str and is_resource(kind) else "Resource"


def _bundle(bundle: Resource) -> Iterator[Fault]:
    """Give what a Bundle of its type needs (bdl-3, bdl-4, bdl-7, bdl-9 to bdl-12 of FHIR R4; http.html#trules)."""
    kind, entries = bundle["type"], bundle.get("entry") or []
    named: set[tuple[str, str]] = set()
    written: set[tuple[str, ...]] = set()
    for index, entry in enumerate(entries if type(entries) is list else [entries]):
        place = f"Bundle.entry[{index}]"
        if kind != "history" and _is_repeated(_full_name(entry), named):
            # Other people's Bundles have it, HL7's own example too; where one refers to the other it is fatal.
            text = "another fullUrl, or version, than that of an entry before it"
            yield Fault(f"{place}.fullUrl", "invariant", text, error=kind == "transaction")
        if kind in _WRITING:
            yield from _request(place, entry)
        if kind == "transaction" and _is_repeated(_identity(entry), written):
            text = "another resource than an entry before it: a transaction writes each once"
            yield Fault(f"{place}.request.url", "invariant", text)
        if kind in {"document", "message"} and not index:
            yield from _first(place, entry, {"document": "Composition", "message": "MessageHeader"}[kind])


def _is_repeated(name: Any, known: set[Any]) -> bool:
    """Tell whether there was such a name before, and note it; nothing is none."""
    if not name:
        return False
    was_there = name in known
    known.add(name)
    return was_there


def _full_name(entry: Resource) -> tuple[str, str] | None:
    """Return what an entry is known by: its fullUrl, and the version where it has one."""
    url, resource = entry.get("fullUrl"), entry.get("resource")
    meta = resource.get("meta") if type(resource) is dict else None
    return (str(url), str(meta.get("versionId", "")) if type(meta) is dict else "") if url else None


def _identity(entry: Resource) -> tuple[str, ...]:
    """Return which resource an entry changes, by its id or by the criteria that find it; nothing for a new one."""
    request = entry.get("request")
    if type(request) is not dict or request.get("method") not in _NAMING:
        return ()
    path, _, query = str(request.get("url", "")).partition("?")
    return (path.strip("/"), *sorted(query.split("&")))


def _request(place: str, entry: Resource) -> Iterator[Fault]:
    request = entry.get("request")
    if request is None:
        yield Fault(f"{place}.request", "required", "method and url, in a transaction or batch")
        return
    method, url = request.get("method"), str(request.get("url", ""))
    if not method:
        yield Fault(f"{place}.request.method", "required", "this element, which must be there")
    elif method in _NAMING and "?" not in url and (url.endswith("/") or "/" not in url):
        yield Fault(f"{place}.request.url", "value", "Type/id or Type?search, with PUT, PATCH and DELETE")
    if method in {"POST", "PUT"} and "resource" not in entry and "$" not in url:
        yield Fault(f"{place}.resource", "required", "the resource that is to be written")


def _first(place: str, entry: Resource, kind: str) -> Iterator[Fault]:
    resource = entry.get("resource")
    if type(resource) is not dict or resource.get("resourceType") != kind:
        yield Fault(f"{place}.resource", "invariant", f"a {kind}, which comes first in such a Bundle")
