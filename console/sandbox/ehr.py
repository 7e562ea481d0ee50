"""This module plays the FHIR R4 server of an EHR: what it takes, what it refuses and what it then answers.

It follows HL7's RESTful API (R4, http.html): conditional create and update, ``If-Match``, versions, JSON Patch,
searchsets and OperationOutcomes. It does no HTTP itself; `console.sandbox.fhir` does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import orjson

from broker.errors import StepError
from console.sandbox.json_patch import PatchError, apply
from console.sandbox.record import Arrival, Record
from dispatch.fhir_check import faults
from dispatch.fhir_patch import read_patch

TYPES: Final = (
    *("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Coverage", "Encounter", "Appointment", "Task"),
    *("ServiceRequest", "Observation", "DiagnosticReport", "Condition", "AllergyIntolerance", "MedicationRequest"),
    *("MedicationStatement", "MedicationDispense", "MedicationAdministration", "Immunization", "DocumentReference"),
    *("Consent", "Communication", "QuestionnaireResponse"),
)

PATCH_TYPE: Final = "application/json-patch+json"

_PAGE: Final = 50
_ABOUT_THE_ANSWER: Final = frozenset({"_format", "_pretty", "_count", "_offset"})
_COMMA: Final = re.compile(r"(?<!\\),")
_BAR: Final = re.compile(r"(?<!\\)\|")
_ETAG: Final = re.compile(r'(?:W/)?"(\d+)"')


class Refused(Exception):
    """A request is answered with an OperationOutcome; ``code`` is of FHIR's issue-type."""

    def __init__(self, status: int, code: str, text: str, places: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.places = status, code, text, tuple(places)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a resource (None for no body) and headers."""

    status: int
    resource: dict[str, Any] | None = field(repr=False)
    headers: dict[str, str]


def outcome(severity: str, code: str, text: str, places: Iterable[str] = ()) -> dict[str, Any]:
    """Return an OperationOutcome with one issue for each place, or just one."""
    issue: dict[str, Any] = {"severity": severity, "code": code, "diagnostics": text}
    found = [{**issue, "expression": [place]} for place in places] or [issue]
    return {"resourceType": "OperationOutcome", "issue": found}


class Ehr:
    """The resources of the practice EHR; ``base`` is the address that it is reached at."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def create(
        self, base: str, kind: str, body: bytes, *, if_none_exist: str = "", request_id: str = "", name: str = ""
    ) -> Answer:
        """Create a resource, unless ``if_none_exist`` (a search) finds one (200) or several (412).

        ``name`` is the id that it gets, where that was given to it before.
        """
        resource = self._readable(kind, body)
        if if_none_exist:
            found = self.matches(kind, if_none_exist)
            if len(found) > 1:
                raise Refused(412, "multiple-matches", "If-None-Exist matches several resources")
            if found:
                return self._answer(200, base, self._current(kind, found[0]))
        _validate(resource)
        return self._answer(201, base, self._keep(kind, name or self._record.next_id(), 1, resource, request_id))

    def update(
        self, base: str, kind: str, name: str, body: bytes, *, if_match: str = "", request_id: str = ""
    ) -> Answer:
        """Write the next version; 412 when ``if_match`` names another version than the newest."""
        resource = self._readable(kind, body)
        if resource.get("id") != name:
            raise Refused(400, "invalid", "the id in the resource has to be the id in the address", [f"{kind}.id"])
        current = self._record.get(kind, name)
        if current is None:
            raise Refused(405, "not-supported", "this server gives ids itself; create with POST")
        return self._write(base, current, resource, if_match, request_id)

    def conditional_update(
        self,
        base: str,
        kind: str,
        search: str,
        body: bytes,
        *,
        if_match: str = "",
        request_id: str = "",
        name: str = "",
    ) -> Answer:
        """Update the one that the search finds, create when there is none, 412 when there are several."""
        resource = self._readable(kind, body)
        found = self.matches(kind, search)
        if len(found) > 1:
            raise Refused(412, "multiple-matches", "the search matches several resources")
        if not found:
            if "id" in resource:
                raise Refused(405, "not-supported", "this server gives ids itself; leave the id out", [f"{kind}.id"])
            return self.create(base, kind, body, request_id=request_id, name=name)
        if resource.get("id", found[0]) != found[0]:
            raise Refused(400, "invalid", "the id in the resource is not that of the match", [f"{kind}.id"])
        return self._write(base, self._current(kind, found[0]), resource, if_match, request_id)

    def patch(
        self, base: str, kind: str, name: str, body: bytes, *, if_match: str = "", request_id: str = ""
    ) -> Answer:
        """Write the next version as a JSON Patch makes it (RFC 6902); 412 as for an update."""
        _known(kind)
        current = self._current(kind, name)
        try:
            changed = apply(current.body, read_patch(body.decode("utf-8", "replace")))
        except StepError as error:
            raise Refused(400, "invalid", str(error)) from None
        except PatchError as error:
            raise Refused(422, "processing", str(error)) from None
        if (changed.get("resourceType"), changed.get("id")) != (kind, name):
            raise Refused(422, "business-rule", "type and id cannot be patched", [f"{kind}.id"])
        return self._write(base, current, changed, if_match, request_id)

    def read(self, base: str, kind: str, name: str, version: str = "") -> Answer:
        """Return the newest version, or the one that is asked for."""
        _known(kind)
        wanted = int(version) if version.isascii() and version.isdigit() else 0 if version else None
        found = self._record.get(kind, name, wanted)
        if found is None:
            raise Refused(404, "not-found", f"there is no such {kind}")
        return self._answer(200, base, found)

    def search(self, base: str, kind: str, query: str) -> Answer:
        """Return a searchset of what ``identifier`` and ``_id`` find; anything else is refused rather than ignored."""
        _known(kind)
        found = self.matches(kind, query, conditional=False)
        asked = dict(parse_qsl(query))
        count, offset = _number(asked.get("_count"), _PAGE), _number(asked.get("_offset"), 0)
        page = [self._current(kind, name).body for name in found[offset : offset + count]]
        links = [{"relation": "self", "url": f"{base}/{kind}?{query}"}]
        if 0 < count < len(found) - offset:
            rest = [pair for pair in parse_qsl(query) if pair[0] != "_offset"]
            links.append(
                {"relation": "next", "url": f"{base}/{kind}?{urlencode([*rest, ('_offset', str(offset + count))])}"}
            )
        entries = [
            {"fullUrl": f"{base}/{kind}/{resource['id']}", "resource": resource, "search": {"mode": "match"}}
            for resource in page
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
        return Answer(200, bundle | ({"entry": entries} if entries else {}), {})

    def _write(self, base: str, current: Arrival, resource: dict[str, Any], if_match: str, request_id: str) -> Answer:
        if if_match:
            version = _ETAG.fullmatch(if_match.strip())
            if version is None or int(version[1]) != current.version:
                raise Refused(412, "conflict", "If-Match does not name the newest version; read it again")
        _validate(resource)
        kept = self._keep(current.type, current.id, current.version + 1, resource, request_id)
        return self._answer(200, base, kept)

    def _keep(self, kind: str, name: str, version: int, resource: dict[str, Any], request_id: str) -> Arrival:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        meta = {**(resource.get("meta") or {}), "versionId": str(version), "lastUpdated": now}
        return self._record.add(
            "write_back",
            "create" if version == 1 else "update",
            (kind, name, version),
            {"resourceType": kind, "id": name, "meta": meta, **_without(resource, "resourceType", "id", "meta")},
            request_id=request_id,
            identifiers=_identifiers(resource),
        )

    def _readable(self, kind: str, body: bytes) -> dict[str, Any]:
        _known(kind)
        try:
            resource = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused(400, "structure", "the body is not JSON") from None
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            raise Refused(400, "invalid", f"the body is not a {kind}", [f"{kind}.resourceType"])
        if not isinstance(resource.get("meta", {}), dict):
            raise Refused(400, "structure", "meta has to be an object", [f"{kind}.meta"])
        return resource

    def _current(self, kind: str, name: str) -> Arrival:
        found = self._record.get(kind, name)
        if found is None:
            raise Refused(404, "not-found", f"there is no such {kind}")
        return found

    def matches(self, kind: str, query: str, *, conditional: bool = True) -> list[str]:
        """Return the ids of what a search finds; a ``conditional`` one has to have criteria."""
        _known(kind)
        pairs = [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k not in _ABOUT_THE_ANSWER]
        if conditional and not pairs:
            raise Refused(412, "multiple-matches", "the search has no criteria, so everything would match")
        everything = self._record.ids(kind) if not pairs or any(k == "_id" for k, _ in pairs) else None
        found: set[str] | None = None
        for name, value in pairs:
            some = self._one(kind, name, value, everything or [])
            found = some if found is None else found & some
        return list(everything or []) if found is None else sorted(found, key=int)

    def _one(self, kind: str, name: str, value: str, everything: list[str]) -> set[str]:
        if not value:
            raise Refused(400, "invalid", f"the search parameter {name} is empty")
        if name == "_id":
            return set(everything) & set(value.split(","))
        if name != "identifier":
            raise Refused(400, "not-supported", "this server searches by identifier and _id only")
        found: set[str] = set()
        for token in _COMMA.split(value):
            *system, rest = _BAR.split(token, maxsplit=1)
            if not rest and not any(system):
                raise Refused(400, "invalid", "an identifier to search for needs a value or a system")
            found |= self._record.find(kind, _plain(rest) or None, _plain(system[0]) if system else None)
        return found

    def _answer(self, status: int, base: str, kept: Arrival) -> Answer:
        headers = {"ETag": f'W/"{kept.version}"', "Last-Modified": formatdate(kept.at, usegmt=True)}
        if status == 201:  # noqa: PLR2004 - created
            headers["Location"] = f"{base}/{kept.type}/{kept.id}/_history/{kept.version}"
        return Answer(status, kept.body, headers)


def capability_statement(base: str) -> dict[str, Any]:
    """Return what this server can do, as FHIR's CapabilityStatement."""
    interactions = ["create", "read", "vread", "update", "patch", "search-type"]
    resources = [
        {
            "type": kind,
            "interaction": [{"code": code} for code in interactions],
            "versioning": "versioned",
            "readHistory": True,
            "updateCreate": False,
            "conditionalCreate": True,
            "conditionalUpdate": True,
            "searchParam": [{"name": "identifier", "type": "token"}, {"name": "_id", "type": "token"}],
        }
        for kind in TYPES
    ]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "Handoff sandbox"},
        "implementation": {"description": "A practice EHR; nothing in it is a real person's", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "patchFormat": [PATCH_TYPE],
        "rest": [
            {
                "mode": "server",
                "resource": resources,
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


def _known(kind: str) -> None:
    if kind not in TYPES:
        raise Refused(404, "not-supported", f"this server keeps {', '.join(TYPES)} only")


def _validate(resource: dict[str, Any]) -> None:
    found = faults(resource)
    if found:
        places = [fault.partition(" ")[0] for fault in found]
        raise Refused(422, "invalid", f"the resource is not valid: {'; '.join(found)}", places)


def _identifiers(resource: dict[str, Any]) -> list[tuple[str, str]]:
    """List (system, value) of every identifier of a resource."""
    found: list[Any] = []
    for name in ("identifier", "masterIdentifier"):
        value = resource.get(name)
        found += value if isinstance(value, list) else [value]
    pairs = [(part.get("system") or "", part.get("value")) for part in found if isinstance(part, dict)]
    return [(str(system), str(value)) for system, value in pairs if value]


def _without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in names}


def _plain(token: str) -> str:
    return re.sub(r"\\([\\|,$])", r"\1", token)


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else default  # noqa: PLR2004
