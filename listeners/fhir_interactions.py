"""This module says what a request at a FHIR endpoint asks for (FHIR R4, 3.1.0), and what SMART scopes allow."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from broker.fhir.elements import is_resource
from listeners.http_callers import Caller
from listeners.http_request import Refusal

_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_SCOPE: Final = re.compile(r"system/(\*|[A-Za-z]+)\.(\*|read|write|c?r?u?d?s?)")
_GIVES: Final = {"*": "cruds", "read": "rs", "write": "cud"}  # SMART App Launch 1, in the letters of 2
_OFFERED: Final = "create (POST), update (PUT), transaction and batch are offered; nothing is read back from here"
_VERSION: Final = re.compile(r"(?:^|;)\s*fhirversion\s*=\s*\"?([^\s;\"]*)")
_ANY: Final = frozenset({"*/*", "application/*"})
_JSON: Final = frozenset({"application/fhir+json", "application/json", "application/json+fhir"})


@dataclass(frozen=True, slots=True)
class Write:
    """One resource that is to be written: created, or updated where it has an id or criteria."""

    method: str  # POST or PUT
    kind: str
    id: str = ""
    criteria: str = ""  # of a conditional update, or of If-None-Exist

    @property
    def letter(self) -> str:
        """What a scope must allow: ``c`` or ``u``."""
        return "c" if self.method == "POST" else "u"

    @property
    def target(self) -> str:
        """The address of the request, as a Bundle has it."""
        if self.method == "PUT" and self.criteria:
            return f"{self.kind}?{self.criteria}"
        return f"{self.kind}/{self.id}" if self.id else self.kind


def read_write(method: str, target: str, if_none_exist: str, kinds: frozenset[str]) -> Write:
    """Return what a method and an address below the base ask for. Raises `Refusal` for what is not offered."""
    path, _, query = target.partition("?")
    kind, _, identifier = path.strip("/").partition("/")
    if not kind.isalpha() or not is_resource(kind) or (kinds and kind not in kinds):
        raise Refusal(404, "resources of this type are not taken here; /metadata lists those that are")
    if method == "POST" and not identifier:
        return Write("POST", kind, criteria=if_none_exist.lstrip("?"))
    if method == "PUT" and bool(identifier) != bool(query):
        if identifier and not _ID.fullmatch(identifier):
            raise Refusal(400, "an id has 1 to 64 letters, digits, - and . (FHIR R4, id)")
        return Write("PUT", kind, identifier, query)
    raise Refusal(405, _OFFERED)


def see_sent(headers: Any) -> None:
    """See that what a request brings is JSON, of R4. Raises `Refusal` (415)."""
    given, _, parameters = headers.get("content-type", "").lower().partition(";")
    if given.strip() not in _JSON or not _is_r4(parameters):
        raise Refusal(415, "only JSON of FHIR R4 is taken: Content-Type application/fhir+json; fhirVersion=4.0")


def see_wanted(headers: Any, query: str) -> None:
    """See that what a request wants is JSON, of R4. Raises `Refusal` (406)."""
    formats = parse_qs(query).get("_format")
    accepted = ",".join(formats) if formats else headers.get("accept", "")
    wanted = [each.partition(";") for each in accepted.lower().split(",") if each.strip()]
    if wanted and not any(_is_json(kind.strip()) and _is_r4(parameters) for kind, _, parameters in wanted):
        raise Refusal(406, "only JSON of FHIR R4 is answered: Accept application/fhir+json; fhirVersion=4.0")


def _is_json(kind: str) -> bool:
    return kind in _ANY or "json" in kind


def _is_r4(parameters: str) -> bool:
    """Tell whether the parameters of a media type leave room for R4 (FHIR R4, versioning.html#mt-version)."""
    found = _VERSION.search(parameters)
    return found is None or found[1] in {"4.0", "4.0.1"}


def see_scope(caller: Caller, writes: Iterable[tuple[str, str]]) -> None:
    """See that a caller may do all of this, types and letters (SMART App Launch 2.2). Raises `Refusal` (403)."""
    if caller.scopes is None:
        return
    granted = [found for scope in caller.scopes if (found := _SCOPE.fullmatch(scope))]
    for kind, letter in writes:
        if not any(found[1] in {"*", kind} and letter in _GIVES.get(found[2], found[2]) for found in granted):
            raise Refusal(403, f"the scope system/{kind}.{letter} is needed")


def see_resource(write: Write, resource: Any) -> None:
    """See that a resource is what its address says. Raises `Refusal` (400)."""
    if not isinstance(resource, dict):
        raise Refusal(400, "a FHIR resource is a JSON object")
    if resource.get("resourceType") != write.kind:
        raise Refusal(400, f"the address is of {write.kind}, and resourceType says otherwise", location="resourceType")
    if write.id and resource.get("id") != write.id:
        raise Refusal(400, "the id in the resource is not that of the address", location=f"{write.kind}.id")
