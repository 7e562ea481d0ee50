"""This module writes the answers of a FHIR endpoint: outcomes, locations, responses of Bundles, and what we can do."""

import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Final

import orjson

from broker.fhir.check import operation_outcome
from broker.fhir.elements import Fault
from broker.ids import show
from broker.message import Receipt
from listeners.fhir_interactions import Write
from listeners.http_request import Answer, Refusal

TYPE: Final = "application/fhir+json"
# HTTP status -> FHIR issue-type (FHIR R4, value set issue-type).
_CODES: Final = {
    400: "invalid", 401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 406: "not-supported",
    408: "timeout", 412: "conflict", 413: "too-long", 415: "not-supported", 422: "processing", 429: "throttled",
    431: "too-long", 500: "exception", 503: "transient",
}  # fmt: skip
_PHRASES: Final = {
    200: "200 OK",
    201: "201 Created",
    400: "400 Bad Request",
    403: "403 Forbidden",
    404: "404 Not Found",
}


class Faulty(Refusal):
    """A resource that is none of FHIR R4; ``faults`` are all that is wrong."""

    def __init__(self, text: str, faults: Sequence[Fault]) -> None:
        super().__init__(422, text)
        self.faults = faults


def dump(value: Any) -> bytes:
    """Return JSON; decimals as they were sent."""
    return orjson.dumps(value, default=lambda number: orjson.Fragment(str(number).encode()))


def outcome_of(refusal: Refusal) -> dict[str, Any]:
    """Return the OperationOutcome of a refusal."""
    if isinstance(refusal, Faulty):
        return operation_outcome(list(refusal.faults))
    issue: dict[str, Any] = {
        "severity": "error",
        "code": _CODES.get(refusal.status, "processing"),
        "diagnostics": str(refusal),
    }
    if refusal.location and not refusal.location.startswith("line "):  # a path, and no place in the text
        issue["expression"] = [refusal.location]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def informed(text: str) -> dict[str, Any]:
    """Return an OperationOutcome that says that all is well."""
    issue = {"severity": "information", "code": "informational", "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def refused(refusal: Refusal) -> Answer:
    """Return a refusal as FHIR tells it."""
    return Answer(refusal.status, dump(outcome_of(refusal)), TYPE, refusal.headers)


def written(write: Write, resource: dict[str, Any], receipt: Receipt, base: str, prefer: str) -> Answer:
    """Return the answer to one resource that is committed; ``prefer`` is the header Prefer."""
    created = write.method == "POST" and not (write.criteria and receipt.duplicate)
    version, now = show(receipt.message_id), time.time()
    identifier = write.id or version
    headers = {
        "location": f"{base}/{write.kind}/{identifier}/_history/{version}",
        "etag": f'W/"{version}"',
        "last-modified": formatdate(now, usegmt=True),
    }
    if "return=minimal" in prefer:
        return Answer(201 if created else 200, headers=headers)
    if "return=representation" in prefer:
        meta = {**(resource.get("meta") or {}), "versionId": version}
        shown: Any = resource | {"id": identifier, "meta": meta}
    else:
        shown = informed(f"committed as message {version}")
    return Answer(201 if created else 200, dump(shown), TYPE, headers)


def entry_written(write: Write, receipt: Receipt, number: int | None = None) -> dict[str, Any]:
    """Return what an entry of a Bundle became; ``number`` tells resources of one message apart (from 1)."""
    version = show(receipt.message_id)
    identifier = write.id or (version if number is None else f"{version}.{number}")
    created = write.method == "POST" and not (write.criteria and receipt.duplicate)
    return {
        "response": {
            "status": _PHRASES[201 if created else 200],
            "location": f"{write.kind}/{identifier}/_history/{version}",
            "etag": f'W/"{version}"',
        }
    }


def entry_refused(refusal: Refusal) -> dict[str, Any]:
    """Return what became of an entry of a batch that was refused."""
    status = _PHRASES.get(refusal.status, str(refusal.status))
    return {"response": {"status": status, "outcome": outcome_of(refusal)}}


def bundle(kind: str, entries: Iterable[Mapping[str, Any]]) -> Answer:
    """Return a Bundle of responses."""
    return Answer(200, dump({"resourceType": "Bundle", "type": kind, "entry": list(entries)}), TYPE)


def message_taken(header: Mapping[str, Any], receipt: Receipt, base: str) -> Answer:
    """Return the response message to one that is committed (FHIR R4, 2.4.4)."""
    identifier = show(receipt.message_id)
    response = {
        "resourceType": "MessageHeader",
        "id": identifier,
        **{name: header[name] for name in ("eventCoding", "eventUri") if name in header},
        "source": {"endpoint": base or "/"},
        "response": {"identifier": header["id"], "code": "ok"},
    }
    entry = {"fullUrl": f"urn:handoff:{identifier}", "resource": response}
    return Answer(200, dump({"resourceType": "Bundle", "type": "message", "entry": [entry]}), TYPE)


def capabilities(kinds: Sequence[str], base: str, since: float, *, smart: bool) -> dict[str, Any]:
    """Return the CapabilityStatement: what can be written here, and that nothing can be read."""
    service = {
        "coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
        ]
    }
    validate = "http://hl7.org/fhir/OperationDefinition/Resource-validate"
    process = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"
    resources = [
        {
            "type": kind,
            "interaction": [{"code": "create"}, {"code": "update"}],
            "versioning": "no-version",
            "updateCreate": True,
            "conditionalCreate": True,
            "conditionalUpdate": True,
            "operation": [{"name": "validate", "definition": validate}],
        }
        for kind in kinds
    ]
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": "What is written is committed to a queue and goes on from there; nothing is read back.",
        "resource": resources,
        "interaction": [{"code": "transaction"}, {"code": "batch"}],
        "operation": [{"name": "process-message", "definition": process}],
    }
    if smart:
        rest["security"] = {"service": [service]}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)),
        "kind": "instance",
        "software": {"name": "Handoff"},
        "implementation": {"description": "Handoff, an interface engine", "url": base or "/"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [rest],
    }
