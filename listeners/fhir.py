"""This module lets FHIR R4 resources in over REST: what is written is committed, and nothing is read back."""

import asyncio
import time
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

import orjson
from pydantic import Field, field_validator

from broker.errors import MessageError
from broker.fhir.check import ResourceError, check, described, operation_outcome, read_resource
from broker.fhir.elements import is_resource
from broker.message import Receipt
from broker.parts import Tools
from broker.wire.strict_json import read_json
from listeners import fhir_answers as answers
from listeners.fhir_interactions import Write, read_write, see_resource, see_scope, see_sent, see_wanted
from listeners.http_callers import Caller
from listeners.http_request import Answer, Refusal, Request
from listeners.http_service import SIGNATURE, HttpPortSpec, HttpService, SignatureName, idempotency_key, signed_by

_AT_ONCE: Final = 64  # entries of a batch that wait for their commit
_MOST: Final = 10_000
_READABLE: Final = (
    "AllergyIntolerance", "Appointment", "CarePlan", "CareTeam", "Communication", "Condition", "Consent", "Coverage",
    "Device", "DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "Flag", "Goal", "Group",
    "Immunization", "Location", "Medication", "MedicationAdministration", "MedicationDispense", "MedicationRequest",
    "MedicationStatement", "Observation", "Organization", "Patient", "Person", "Practitioner", "PractitionerRole",
    "Procedure", "QuestionnaireResponse", "RelatedPerson", "Schedule", "ServiceRequest", "Slot", "Specimen", "Task",
)  # fmt: skip


class FhirSpec(HttpPortSpec):
    """A FHIR R4 endpoint that others write to: create, update, transaction, batch, messages."""

    formats: ClassVar[frozenset[str]] = frozenset({"fhir"})

    types: list[str] = Field([], description="The resource types that are taken, such as Patient; empty: any of R4.")
    signature: SignatureName = SIGNATURE

    @field_validator("types")
    @classmethod
    def _are_types(cls, value: list[str]) -> list[str]:
        for kind in value:
            if not is_resource(kind):
                raise ValueError(f"{kind!r} is no resource type of FHIR R4")
        return value

    def build(self, tools: Tools) -> "FhirListener":
        """Build the listener; it takes its port when it is started."""
        return FhirListener(self, tools)


class FhirListener(HttpService):
    """Serves one base address for one channel; see `broker.parts.Listener`."""

    methods = ("GET", "HEAD", "POST", "PUT")
    below = True

    def __init__(self, spec: FhirSpec, tools: Tools) -> None:
        super().__init__(spec, tools, "fhir", signed_by(spec.signature))
        self._base = "" if spec.path == "/" else spec.path
        self._kinds = frozenset(spec.types)
        is_resource("Patient")  # loads what is known of resources now, and not with the first request
        known = getattr(tools.settings, "callers", {})
        smart = any(known[name].jwt is not None for name in spec.callers)
        kinds = spec.types or list(_READABLE)
        self._capabilities = answers.dump(answers.capabilities(kinds, self._base, time.time(), smart=smart))

    def is_public(self, request: Request) -> bool:
        """Tell whether anybody may ask this: what we can do is no secret."""
        return request.rest.strip("/") == "metadata" and request.method in {"GET", "HEAD"}

    def refusal(self, request: Request, refusal: Refusal) -> Answer:  # noqa: ARG002 - it has one form
        """Return what a refusal is answered with."""
        return answers.refused(refusal)

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Do what a request asks for."""
        see_wanted(request.headers, request.query)
        if self.is_public(request):
            return Answer(200, self._capabilities, answers.TYPE)
        target = request.rest.strip("/")
        if request.method in {"GET", "HEAD"}:
            read_write("GET", target, "", self._kinds)
        see_sent(request.headers)
        if request.method == "POST" and target.rpartition("/")[2] == "$validate":
            return self._validate(body)
        if request.method == "POST" and target == "$process-message":
            return await self._process_message(request, body, caller)
        if request.method == "POST" and not target:
            return await self._take_bundle(request, body, caller)
        return await self._write(request, target, body, caller)

    # One resource.

    async def _write(self, request: Request, target: str, body: bytes, caller: Caller) -> Answer:
        address = f"{target}?{request.query}" if request.query and request.method == "PUT" else target
        write = read_write(request.method, address, request.headers.get("if-none-exist", ""), self._kinds)
        see_scope(caller, [(write.kind, write.letter)])
        _see_match(write, request.headers.get("if-match"), request.headers.get("if-none-match"))
        resource = _peek(body)
        see_resource(write, resource)
        receipt = await self._keep(request, write, body, idempotency_key(request, caller) or _condition(write))
        prefer = request.headers.get("prefer", "")
        if "return=representation" in prefer:
            resource = _strict(body)
        return answers.written(write, resource, receipt, self._base, prefer)

    async def _keep(self, request: Request, write: Write, body: bytes, key: bytes) -> Receipt:
        """Commit a resource; where it is written on a condition, inside a transaction that says so."""
        sent = body
        if write.criteria:
            said = {"method": write.method, "url": write.target}
            if write.method == "POST":
                said["ifNoneExist"] = write.criteria
            request_part = orjson.dumps(said)
            head = b'{"resourceType":"Bundle","type":"transaction","entry":[{"resource":'
            body = head + body.removeprefix(b"\xef\xbb\xbf") + b',"request":' + request_part + b"}]}"
        return await self._accept(request, body, key, sent)

    async def _accept(self, request: Request, body: bytes, key: bytes, sent: bytes) -> Receipt:
        """Commit a message; where it is refused, say what is wrong with what was ``sent``, at its places there."""
        try:
            return await self.accept(request, body, key)
        except Refusal as refusal:
            if refusal.is_ours:
                raise
            _tell_faults(sent)
            raise

    # Many.

    async def _take_bundle(self, request: Request, body: bytes, caller: Caller) -> Answer:
        bundle = _peek(body)
        kind = bundle.get("type") if isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle" else None
        if kind not in {"transaction", "batch"}:
            raise Refusal(400, "a Bundle of type transaction or batch is expected here", location="Bundle.type")
        entries = bundle.get("entry") or []
        if not isinstance(entries, list) or len(entries) > _MOST:
            raise Refusal(413, f"a Bundle has at most {_MOST} entries", location="Bundle.entry")
        if kind == "batch":
            return await self._take_batch(request, body, caller)
        writes = [self._entry(entry, f"Bundle.entry[{number}]", caller) for number, entry in enumerate(entries)]
        receipt = await self._accept(request, body, idempotency_key(request, caller), body)
        found = (answers.entry_written(write, receipt, number) for number, write in enumerate(writes, 1))
        return answers.bundle("transaction-response", found)

    def _entry(self, entry: Any, place: str, caller: Caller) -> Write:
        """Return what an entry asks for. Raises `Refusal` with its place."""
        said = entry.get("request") if isinstance(entry, dict) else None
        if not isinstance(said, dict):
            raise Refusal(400, "every entry needs a request: method and url", location=f"{place}.request")
        try:
            write = read_write(
                str(said.get("method")), str(said.get("url")), str(said.get("ifNoneExist", "")), self._kinds
            )
            _see_match(write, said.get("ifMatch"), said.get("ifNoneMatch"))
            see_resource(write, entry.get("resource"))
        except Refusal as refusal:
            raise Refusal(refusal.status, str(refusal), location=f"{place}.request") from None
        see_scope(caller, [(write.kind, write.letter)])
        return write

    async def _take_batch(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Take each entry by itself: one that is refused keeps no other out."""
        try:
            entries = read_json(body)["entry"]
        except MessageError as error:
            raise Refusal(400, str(error)) from None
        except (KeyError, TypeError):
            entries = []
        found: list[dict[str, Any]] = []
        for begin in range(0, len(entries), _AT_ONCE):
            group = enumerate(entries[begin : begin + _AT_ONCE], begin)
            found += await asyncio.gather(
                *(self._take_entry(request, entry, number, caller) for number, entry in group)
            )
        return answers.bundle("batch-response", found)

    async def _take_entry(self, request: Request, entry: Any, number: int, caller: Caller) -> dict[str, Any]:
        try:
            write = self._entry(entry, f"Bundle.entry[{number}]", caller)
            key = idempotency_key(request, caller)
            key = key + number.to_bytes(4) if key else _condition(write)
            receipt = await self._keep(request, write, answers.dump(entry["resource"]), key)
        except Refusal as refusal:
            return answers.entry_refused(refusal)
        return answers.entry_written(write, receipt)

    # Operations.

    def _validate(self, body: bytes) -> Answer:
        """Say what is wrong with a resource, and keep nothing."""
        try:
            resource = _argument(read_json(body), "resource")
        except MessageError as error:
            raise Refusal(400, str(error)) from None
        faults = check(resource)
        told = operation_outcome(faults) if faults else answers.informed("it is valid FHIR R4")
        return Answer(200, answers.dump(told), answers.TYPE)

    async def _process_message(self, request: Request, body: bytes, caller: Caller) -> Answer:
        given = _peek(body)
        bundle = _argument(given, "content")
        if not isinstance(bundle, dict) or bundle.get("type") != "message":
            raise Refusal(400, "a Bundle of type message is expected", location="Bundle.type")
        see_scope(caller, [("MessageHeader", "c")])
        if bundle is not given:
            body = answers.dump(_argument(_strict(body), "content"))
        header = _header(bundle)
        if not header.get("id"):
            raise Refusal(
                400,
                "a message needs the id of its MessageHeader: by it the answer names it",
                location="MessageHeader.id",
            )
        key = f"message\0{caller.name}\0{header['id']}".encode()
        receipt = await self._accept(request, body, key, body)
        if parse_qs(request.query).get("async") == ["true"]:
            return Answer(202)
        return answers.message_taken(header, receipt, self._base)


def _see_match(write: Write, is_there: Any, is_new: Any) -> None:
    """See that nothing depends on a version, or on whether there is one: who writes with that is told no (412)."""
    if is_there not in {None, "*"}:
        raise Refusal(412, "versions are not kept here, so If-Match cannot hold; send it without")
    if is_new is not None and write.method == "PUT":
        raise Refusal(412, "what exists is not known here, so If-None-Match cannot hold; send it without")


def _peek(body: bytes) -> Any:
    """Return what a body holds, for a look at it: what the strict reader would refuse the intake refuses."""
    try:
        return orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return _strict(body)


def _strict(body: bytes) -> Any:
    try:
        return read_json(body)
    except MessageError as error:
        raise Refusal(400, str(error)) from None


def _tell_faults(body: bytes) -> None:
    """Raise a refusal with everything that is wrong with a resource, where that can be said."""
    try:
        read_resource(body)
    except ResourceError as error:
        text = "; ".join(described(fault) for fault in error.faults[:3])
        raise answers.Faulty(f"not valid FHIR R4: {text}", error.faults) from None
    except MessageError as error:
        raise Refusal(400, str(error)) from None


def _argument(value: Any, name: str) -> Any:
    """Return the resource that an operation is about: the body, or the parameter of this name in it."""
    if not isinstance(value, dict) or value.get("resourceType") != "Parameters":
        return value
    parameters = value.get("parameter")
    for parameter in parameters if isinstance(parameters, list) else []:
        if isinstance(parameter, dict) and parameter.get("name") == name:
            return parameter.get("resource")
    raise Refusal(400, f"the parameter {name} is missing", location="Parameters.parameter")


def _header(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return the resource that a message begins with, or nothing."""
    entries = bundle.get("entry")
    first = entries[0] if isinstance(entries, list) and entries else None
    header = first.get("resource") if isinstance(first, dict) else None
    return header if isinstance(header, dict) else {}


def _condition(write: Write) -> bytes:
    """Return what makes a conditional create the same as one that came before."""
    return (
        f"if-none-exist\0{write.kind}?{write.criteria}".encode() if write.method == "POST" and write.criteria else b""
    )
